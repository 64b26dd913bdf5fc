"""How the event loop and the hub are doing: looked at twice a second."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest

from ..observe import Distribution, HubStats, logger, quantile
from ..sse import Event
from .hub import Hub
from .reasons import PROBE_DONE
from .subscription import SubscribeOptions, Subscription

__all__ = ["PROBE_TOPIC", "LoopMonitor", "Probe"]

# Seconds between two beats.
_BEAT = 0.5
# Beats that are remembered: rates and the worst lag are those of the last 10 seconds.
_BEATS = 20


class LoopMonitor:
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
    def max_lag(self) -> float:
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
    def running(self) -> Iterator[None]:
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


# Its type of event and its name begin like those of control events: no app's topics do.
PROBE_TOPIC = "stream.probe"

_ATTACH = "the broker does not let this server follow a topic"
_PUBLISH = "the broker does not take an event"
_DELIVER = "an event that was published does not arrive at its reader"


class Probe:
    """`bound`: seconds in which the event has to arrive; `fresh`: seconds for which an outcome holds."""

    def __init__(self, hub: Hub, *, bound: float = 2.0, fresh: float = 1.0) -> None:
        self._hub = hub
        self._bound = bound
        self._fresh = fresh
        self._running: asyncio.Future[str | None] | None = None
        self._began = 0.0
        self._ended = float("-inf")
        self._failure: str | None = None
        self._count = 0
        self._held = False
        hub.on_reopen(self._reset)
        # When the first and the last of consecutive probes began that were published and did not arrive.
        self._lost: tuple[float, float] | None = None

    @property
    def stuck(self) -> float:
        """For how many seconds this process has failed to deliver, as far as the probes know: what a look at the broker
        does not mend, and a restart does. An unreachable broker does not count."""
        first, last = self._lost or (0.0, 0.0)
        unended = 0.0 if self._running is None else self._hub.loop.time() - self._began
        return max(last - first, unended)

    async def ask(self) -> str | None:
        """None if an event has arrived; otherwise what failed, in words for an operator."""
        try:
            running = await self.begin()
        except TimeoutError:
            return f"{_ATTACH}, within {self._bound:g} s"
        except Exception as error:
            return _failed(_ATTACH, error)
        if running is None:
            return self._failure
        done, _ = await asyncio.wait([running], timeout=self._bound * 1.5)
        return running.result() if done else f"a probe does not end, although it had {self._bound:g} s for it"

    async def begin(self) -> asyncio.Future[str | None] | None:
        """The probe that is under way, begun now where the last outcome is too old; None where that still holds.

        Raises HubClosed, TimeoutError."""
        async with asyncio.timeout(self._bound):
            await self._hub.open()
        if self._running is None:
            now = self._hub.loop.time()
            if now - self._ended < self._fresh:
                return None
            self._began = now
            self._running = self._hub.loop.create_future()
            self._hub.spawn(self._run(self._running))
        return self._running

    def _reset(self) -> None:
        """The event loop that a probe ran on has ended."""
        self._running = None
        self._ended = float("-inf")
        self._lost = None

    async def _run(self, outcome: asyncio.Future[str | None]) -> None:
        self._failure = "the probe was ended: this server is shutting down"
        try:
            self._failure = await self._probe()
        finally:
            self._running = None
            self._ended = self._hub.loop.time()
            outcome.set_result(self._failure)

    async def _probe(self) -> str | None:
        step = _ATTACH
        lost = False
        try:
            async with asyncio.timeout(self._bound):
                reader, arrival = await self._follow()
                try:
                    step = _PUBLISH
                    await self._hub.broker.publish(PROBE_TOPIC, [Event(arrival.text, PROBE_TOPIC)])
                    step, lost = _DELIVER, True
                    await arrival.seen.wait()
                    lost = False
                finally:
                    reader.end(PROBE_DONE)
        except TimeoutError:
            return f"{step}, within {self._bound:g} s"
        except Exception as error:
            return _failed(step, error)
        finally:
            self._lost = (self._lost[0] if self._lost else self._began, self._began) if lost else None
        return None

    async def _follow(self) -> tuple[Subscription, _Arrival]:
        if not self._held:
            # For good: were the topic forgotten after each probe, the broker would have to answer positions in other
            # forgotten topics by a gap.
            await self._hub.hold(PROBE_TOPIC)
            self._held = True
        self._count += 1
        arrival = _Arrival(f"probe {self._count}")
        reader = await self._hub.subscribe([PROBE_TOPIC], SubscribeOptions(internal=True))
        reader.start(arrival)
        return reader, arrival


class _Arrival:
    """An outlet that waits for the event of one probe; late events of earlier probes do not count."""

    chunked = False
    full = False

    def __init__(self, text: str) -> None:
        self.text = text
        self.seen = asyncio.Event()
        self._line = f"data: {text}\n".encode()

    def write(self, payload: bytes) -> None:
        if self._line in payload:
            self.seen.set()

    @property
    def deliver(self) -> Callable[[bytes], object]:
        return self.write

    def finish(self, payload: bytes) -> None:
        """Everybody is sent away: then it does not arrive, and the bound ends the wait."""

    def abort(self) -> None:
        """As `finish`."""


def _failed(step: str, error: Exception) -> str:
    # What it says may name hosts and keys: that is for the log.
    logger.warning("a probe has failed: %s", step, exc_info=error)
    return f"{step}: {type(error).__name__}"
