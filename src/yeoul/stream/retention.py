"""How long each topic's frames are kept, by patterns of topic names."""

from __future__ import annotations

from collections.abc import Sequence

from .journal import Retention
from .pattern import TopicPattern

__all__ = ["DEFAULT_RETENTIONS", "GENERATION_RETENTION", "RELAY_RETENTION", "Retentions"]

# A whole answer must be kept for late readers: its length is bounded by the generation, its age by the longest
# generation and the time for which finished ones are kept.
GENERATION_RETENTION = Retention(events=200_000, bytes=16 * 1024 * 1024, seconds=3_600.0)

# A relayed stream holds its upstream back before it is over this, unless one reader keeps up with it. A frame counts
# for more than 96 bytes, so that the bound in bytes is the one that is met.
RELAY_RETENTION = Retention(events=50_000, bytes=4 * 1024 * 1024, seconds=3_600.0)


class Retentions:
    """The first rule whose pattern fits decides; `default` where none does."""

    def __init__(self, rules: Sequence[tuple[str, Retention]] = (), default: Retention | None = None) -> None:
        self._rules = [(TopicPattern(pattern), retention) for pattern, retention in rules]
        self._default = default or Retention()

    def __call__(self, topic: str) -> Retention:
        for pattern, retention in self._rules:
            if pattern.fits(topic):
                return retention
        return self._default


DEFAULT_RETENTIONS = Retentions([("generations/*", GENERATION_RETENTION), ("relays/*", RELAY_RETENTION)])
