"""The project's logger, and the counters that the hot paths keep as plain integers.

A Prometheus counter costs about a microsecond and a lock per call; a delivery costs little more than that in all.
So hot paths add to plain attributes, and the exporter reads them when it is scraped.
"""

from __future__ import annotations

import itertools
import logging
import secrets
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = [
    "DURATION_BUCKETS",
    "LATENCY_BUCKETS",
    "Distribution",
    "HubStats",
    "Tally",
    "draw_request_id",
    "logger",
    "quantile",
]

logger = logging.getLogger("yeoul")

_process = secrets.token_hex(4)
_requests = itertools.count(1)


def draw_request_id() -> str:
    """Unique among the requests of all processes, and short; not secret, and not hard to guess."""
    return f"{_process}-{next(_requests):x}"


# Seconds. From one loop tick to a stalled second; LLM times to first token need the upper end.
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
# Seconds for which streams are open: from one that is refused by its own client to a day.
DURATION_BUCKETS = (0.1, 1.0, 10.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 86_400.0)


class Distribution:
    """A histogram with fixed bucket bounds, cheap enough for one observation per token."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BUCKETS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """The value below which this part (0 to 1) of the observations lie, taken to be spread evenly in their bucket; None
    without any. Those over the last bound count as it."""
    rank, below, lower = part * sum(counts), 0, 0.0
    for bound, count in zip((*bounds, bounds[-1]), counts, strict=True):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    return None


class Tally:
    """How often something happened, by what it was: values of `labels`, of which there are only a few each."""

    __slots__ = ("counts", "labels")

    def __init__(self, *labels: str) -> None:
        self.labels = labels
        self.counts: dict[tuple[str, ...], int] = {}

    def add(self, *values: str) -> None:
        self.counts[values] = self.counts.get(values, 0) + 1


@dataclass(slots=True)
class HubStats:
    """What a hub has done since it was made. Counts, bytes and seconds."""

    readers: int = 0
    lagging: int = 0
    opened: int = 0
    closed: dict[str, int] = field(default_factory=dict)  # by reason
    refused: dict[str, int] = field(default_factory=dict)  # by bound: "all", "user", "address"
    published: int = 0
    deliveries: int = 0
    delivered_bytes: int = 0
    gaps: int = 0
    heartbeats: int = 0
    publish_latency: Distribution = field(default_factory=Distribution)
    durations: Distribution = field(default_factory=lambda: Distribution(DURATION_BUCKETS))  # of streams that ended

    def delivered(self, deliveries: int, size: int) -> None:
        self.deliveries += deliveries
        self.delivered_bytes += size
