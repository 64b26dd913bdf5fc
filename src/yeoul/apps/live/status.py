"""The server's own state, now and as a stream."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic

import psutil
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from ...asgi.authentication import require_subscribe
from ...asgi.event_stream import EventStream
from ...asgi.openapi import FOR_ALL
from ...asgi.routing import hot, stream_route
from ...hub import Hub
from ...hub.health import LoopMonitor
from ...hub.producer import Producer
from ...sse import Event
from .senders import NO_STORE, news, timestamp

__all__ = ["STATUS", "Sample", "Vitals", "status"]


class Cpu(BaseModel):
    processPercent: float = Field(description="of one core, so that it may be over 100")
    systemPercent: float = Field(description="of all cores")
    cores: int
    load: tuple[float, float, float] = Field(description="average of 1, 5 and 15 minutes")


class Memory(BaseModel):
    processBytes: int = Field(description="resident")
    systemPercent: float


class EventLoop(BaseModel):
    lagMs: float = Field(description="by how much timers were late, at worst, in the last 10 seconds")


class Streams(BaseModel):
    connections: int
    lagging: int = Field(description="whose client takes less than is sent")
    topics: int = Field(description="that somebody follows")


class Rates(BaseModel):
    """Over the last 10 seconds."""

    published: float = Field(description="events per second")
    delivered: float = Field(description="events handed to streams per second")
    gaps: float = Field(description="readers per second who were told that something is gone")


class Sample(BaseModel):
    """`seconds`: the time that the percentages of processors are of."""

    timestamp: str
    uptime: float = Field(description="seconds")
    seconds: float
    cpu: Cpu
    memory: Memory
    eventLoop: EventLoop
    streams: Streams
    rates: Rates


@dataclass(frozen=True, slots=True)
class _Counts:
    """What only grows; a sample shows how much. Times in seconds."""

    at: float
    process: float  # of processor time
    busy: float  # of all processors
    total: float


class Vitals:
    """`take` needs about 60 µs, all of it reading small files of the kernel: it does not need a thread."""

    def __init__(self, hub: Hub, monitor: LoopMonitor) -> None:
        self._hub = hub
        self._monitor = monitor
        self._process = psutil.Process()
        self._began = monotonic()
        self._counts = self._count()

    def take(self) -> Sample:
        """Since the last sample, the first one since the start."""
        before, now = self._counts, self._count()
        self._counts = now
        # Two samples within one tick of a clock: nothing can be said of so short a time, and nothing is infinite.
        seconds = max(now.at - before.at, 0.001)
        total = now.total - before.total
        stats, rates = self._hub.stats, self._monitor.rates()
        return Sample(
            timestamp=timestamp(),
            uptime=round(now.at - self._began, 1),
            seconds=round(seconds, 3),
            cpu=Cpu(
                processPercent=_percent(now.process - before.process, seconds),
                systemPercent=_percent(now.busy - before.busy, total) if total > 0 else 0.0,
                cores=os.cpu_count() or 1,
                load=psutil.getloadavg(),
            ),
            memory=Memory(processBytes=self._process.memory_info().rss, systemPercent=psutil.virtual_memory().percent),
            eventLoop=EventLoop(lagMs=round(self._monitor.max_lag * 1_000, 2)),
            streams=Streams(connections=stats.readers, lagging=stats.lagging, topics=self._hub.followed),
            rates=Rates(published=rates["published"], delivered=rates["deliveries"], gaps=rates["gaps"]),
        )

    def _count(self) -> _Counts:
        used, system = self._process.cpu_times(), psutil.cpu_times()
        # Of the kernel's columns `guest` is part of `user` (proc(5)): to add it would count it twice.
        total = sum(system) - getattr(system, "guest", 0.0) - getattr(system, "guest_nice", 0.0)
        idle = system.idle + getattr(system, "iowait", 0.0)
        return _Counts(at=monotonic(), process=used.user + used.system, busy=total - idle, total=total)


def _percent(used: float, total: float) -> float:
    return round(max(0.0, used * 100 / total), 2)


STATUS = "system/status"

# Seconds for which a sample is answered again to whoever asks without following: asking costs next to nothing, and two
# samples right after each other would show processors over no time at all.
_FRESH = 0.5


def status(hub: Hub, monitor: LoopMonitor, *, interval: float) -> APIRouter:
    """`interval`: seconds between two samples. Open to everybody who may follow `system/status`."""
    router = APIRouter(prefix="/system", tags=["system"])
    sampler = _Sampler(hub, monitor, interval)

    @router.get("/status", response_model=Sample, openapi_extra=FOR_ALL, summary="How the server is")
    async def now(request: Request) -> Response:
        """How the server is now. `seconds` says what time the percentages of processors are of."""
        require_subscribe(request, [STATUS])
        return JSONResponse(sampler.newest().model_dump(), headers=NO_STORE)

    @stream_route(router, "/status/stream", openapi_extra=FOR_ALL, summary="How the server is, again and again")
    @hot
    async def stream(request: Request) -> Response:
        """The newest sample at once, then one after each interval. Whoever comes back is not given those it missed."""
        require_subscribe(request, [STATUS])
        return EventStream(hub, STATUS, request, newest=1, always_new=[STATUS])

    return router


class _Sampler:
    """Publishes samples while somebody follows them, by whichever route."""

    def __init__(self, hub: Hub, monitor: LoopMonitor, interval: float) -> None:
        self._interval = interval
        self._vitals = Vitals(hub, monitor)
        self._sample: Sample | None = None
        self._sampled = 0.0
        # Without a linger: whoever comes back is given the newest sample at once, and missed ones by nobody.
        self._producer = Producer(hub, STATUS, self._samples, linger=0)

    def newest(self) -> Sample:
        """The one that was published last while some are, else one that is fresh."""
        if self._sample is None or not (self._producer.running or monotonic() - self._sampled < _FRESH):
            return self._take()
        return self._sample

    async def _samples(self) -> AsyncIterator[Event]:
        while True:
            yield news(self._take().model_dump())
            await asyncio.sleep(self._interval)

    def _take(self) -> Sample:
        self._sample, self._sampled = self._vitals.take(), monotonic()
        return self._sample
