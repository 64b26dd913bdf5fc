"""Where events live, and for how long."""

from __future__ import annotations

from collections.abc import Sequence

from ..apps.chat import MAX_MESSAGE_BYTES
from ..apps.status import STATUS
from ..hub import MemoryBroker
from ..hub.broker import Broker
from ..relay.route import Route
from ..settings import Settings
from ..stream import Retention
from ..stream.retention import Retentions

__all__ = ["make_broker"]


def make_broker(settings: Settings, routes: Sequence[Route]) -> Broker:
    """Raises ValueError for one that there is not."""
    if settings.broker != "memory://":
        raise ValueError(f"broker {settings.broker!r} is not built in: use memory://")
    # Not fewer than a token per four characters of the longest answer, as models cut text; each is counted with about
    # 100 bytes beside its text, of which a character has 4 at most.
    tokens = max(1_000, settings.generations_max_chars // 4)
    answers = Retention(
        events=tokens,
        bytes=tokens * 128 + settings.generations_max_chars * 4,
        seconds=settings.generations_max_s + settings.generations_keep_s,
    )
    relayed = Retention(
        events=settings.relay_journal_bytes // 96,  # no frame counts for less: the bytes are the bound that is met
        bytes=settings.relay_journal_bytes,
        seconds=max(route.max_s for route in routes) + settings.relays_keep_s,
    )
    rules = [(rule.pattern, Retention(rule.events, rule.bytes, rule.seconds)) for rule in settings.retention]
    # Whoever comes to a room, or comes back the next morning, sees what was said last. Who is there and how the server
    # is are told anew to everybody who comes: of that only the newest is kept.
    messages = max(1_000, settings.chat_history)
    said = Retention(messages, max(4 * 1024 * 1024, settings.chat_history * MAX_MESSAGE_BYTES), seconds=86_400)
    moves = Retention(events=500, bytes=256 * 1024, seconds=60)
    samples = Retention(events=5, seconds=2 * settings.status_interval_s)
    apps = [("chat/*/presence", moves), ("chat/*", said), (STATUS, samples)]
    default = Retention(settings.retention_events, settings.retention_bytes, settings.retention_s)
    return MemoryBroker(
        Retentions([("generations/*", answers), ("relays/*", relayed), *rules, *apps], default),
        max_topics=settings.memory_max_topics,
        max_bytes=settings.memory_max_bytes,
    )
