"""The events about the stream itself, whose types begin with `stream.`."""

from __future__ import annotations

from math import floor

from ..sse import Event, json_data
from ..stream import Gap
from ..stream.retry import jitter

__all__ = ["bye_event", "gap_event", "reauth_event"]


def gap_event(gap: Gap) -> Event:
    """Something that the reader asked for is not given."""
    data = {
        "requested": str(gap.requested),
        "oldest": None if gap.oldest is None else str(gap.oldest),
        "reason": gap.reason,
    }
    return Event(json_data(data), "stream.gap")


def bye_event(reason: str, *, reconnect: bool, retry_ms: int) -> Event:
    """The last one. Readers are told to come back at different times."""
    wait = round(jitter(retry_ms, 0.8)) if reconnect else None
    return Event(json_data({"reason": reason, "reconnect": reconnect}), "stream.bye", retry=wait)


def reauth_event(expires: float, left: float) -> Event:
    """The token ends at `expires` (Unix seconds), `left` seconds from now."""
    return Event(json_data({"expires": floor(expires), "in": round(left, 1)}), "stream.reauth")
