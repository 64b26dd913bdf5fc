"""How the event loop and the hub are doing: looked at twice a second."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest

from ..observe import Distribution, HubStats, quantile

__all__ = ["Pulse"]

# Seconds between two beats.
_BEAT = 0.5
# Beats that are remembered: rates and the worst lag are those of the last 10 seconds.
_BEATS = 20


class Pulse:
    """`lag`: by how many seconds each beat came late, which is how long everything else on this loop had to wait for
    its turn: a callback that computes, a disk, a machine without CPU."""

    def __init__(self, stats: HubStats) -> None:
        self.lag = Distribution()
        self._stats = stats
        self._lags: deque[float] = deque(maxlen=_BEATS)
        self._totals: deque[tuple[float, Mapping[str, int]]] = deque(maxlen=_BEATS + 1)
        self._rounds: deque[list[int]] = deque(maxlen=_BEATS + 1)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    @property
    def worst(self) -> float:
        """The longest lag of the last 10 seconds, one that has not ended included."""
        now = 0.0 if self._loop is None else self._loop.time() - self._due
        return max(now, 0.0, *self._lags)

    def rates(self) -> dict[str, float]:
        """Counts per second over the last 10 seconds (less right after the start)."""
        if self._loop is None or not self._totals:
            return dict.fromkeys(self._count(), 0.0)
        since, before = self._totals[0]
        seconds = max(self._loop.time() - since, _BEAT)
        return {name: round((count - before[name]) / seconds, 3) for name, count in self._count().items()}

    def latency(self, part: float) -> float | None:
        """Seconds from a publish to its write to the last reader, of the last 10 seconds: that of this part (0 to 1) of
        the rounds of delivery; None where there was none."""
        before = self._rounds[0] if self._rounds else []
        latency = self._stats.publish_latency
        recent = [count - old for count, old in zip_longest(latency.counts, before, fillvalue=0)]
        return quantile(latency.bounds, recent, part)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beats on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._wait()
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()
            self._loop = self._timer = None

    def _wait(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        self._totals.append((now, self._count()))
        self._rounds.append(list(self._stats.publish_latency.counts))
        self._due = now + _BEAT
        self._timer = self._loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        assert self._loop is not None
        late = max(0.0, self._loop.time() - self._due)
        self.lag.observe(late)
        self._lags.append(late)
        self._wait()

    def _count(self) -> dict[str, int]:
        stats = self._stats
        return {
            "published": stats.published,
            "deliveries": stats.deliveries,
            "bytes": stats.delivered_bytes,
            "opened": stats.opened,
            "closed": sum(stats.closed.values()),
            "gaps": stats.gaps,
        }
