"""What is written down of streams: one line when one ends, and when one opens for those who look closely."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..observe import logger

if TYPE_CHECKING:
    from .subscription import Subscription

__all__ = ["note_ended", "note_opened"]

# Characters of an unguessable name that are shown: enough to tell two apart, too few to read what it names.
_SHOWN = 6


def note_opened(reader: Subscription) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("stream opened", extra=_about(reader))


def note_ended(reader: Subscription, reason: str) -> None:
    if logger.isEnabledFor(logging.INFO):
        about = {
            **_about(reader),
            "reason": reason,
            "seconds": round(reader.age, 3),
            "events": reader.events,
            "bytes": reader.sent,
            "gaps": reader.gaps,
        }
        logger.info("stream ended", extra=about)


def _about(reader: Subscription) -> dict[str, object]:
    return {
        "connection": reader.id,
        "user": reader.principal.user,
        "address": reader.principal.address,
        "topics": [_shown(topic.name, reader.until_final) for topic in reader.topics],
    }


def _shown(topic: str, work: bool) -> str:
    """Whoever holds the id of a piece of work may read it, and a log is read by more than its owner."""
    kind, _, id = topic.rpartition("/")
    return f"{kind}/{id[:_SHOWN]}…" if work and len(id) > _SHOWN else topic
