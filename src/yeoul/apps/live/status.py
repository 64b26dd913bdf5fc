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
from ...asgi.responses import NO_STORE
from ...asgi.routing import hot, stream_route
from ...hub import Hub
from ...hub.health import LoopMonitor
from ...hub.producer import Producer
from ...sse import Event
from .message import json_event
from .timestamp import timestamp

__all__ = ["STATUS", "Sample", "Sampler", "status"]

STATUS = "system/status"


class Cpu(BaseModel):
    processPercent: float = Field(description="of one core: it may be above 100")
    systemPercent: float = Field(description="of all cores")
    cores: int
    load: tuple[float, float, float] = Field(description="averages of 1, 5 and 15 minutes")


class Memory(BaseModel):
    processBytes: int = Field(description="resident")
    systemPercent: float


class EventLoop(BaseModel):
    lagMs: float = Field(description="the longest delay of a timer in the last 10 seconds")


class Streams(BaseModel):
    connections: int
    lagging: int = Field(description="whose client reads more slowly than events are sent")
    topics: int = Field(description="with at least one reader")


class Rates(BaseModel):
    """Over the last 10 seconds."""

    published: float = Field(description="events per second")
    delivered: float = Field(description="events per second, counted once per stream")
    gaps: float = Field(description="gaps sent to readers per second")


class Sample(BaseModel):
    """`seconds`: the time over which processor use was measured."""

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
    """Counters at one moment, in seconds; a sample shows by how much they have grown."""

    at: float
    process: float  # processor time of this process
    busy: float  # processor time of all processors, in use
    total: float  # and in all


class Sampler:
    """`take` needs about 60 µs to read small files of the kernel: it does not need a thread."""

    def __init__(self, hub: Hub, monitor: LoopMonitor) -> None:
        self._hub = hub
        self._monitor = monitor
        self._process = psutil.Process()
        self._began = monotonic()
        self._counts = self._count()

    def take(self) -> Sample:
        """Measured since the last sample, the first one since the start."""
        before, now = self._counts, self._count()
        self._counts = now
        # Two samples within one tick of a clock: no percentage must become infinite.
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
        # `guest` is included in `user` (proc(5)).
        total = sum(system) - getattr(system, "guest", 0.0) - getattr(system, "guest_nice", 0.0)
        idle = system.idle + getattr(system, "iowait", 0.0)
        return _Counts(at=monotonic(), process=used.user + used.system, busy=total - idle, total=total)


def _percent(used: float, total: float) -> float:
    return round(max(0.0, used * 100 / total), 2)


# Seconds for which a sample answers further requests: two samples right after each other would show processors over no
# time at all.
_FRESH_S = 0.5


def status(hub: Hub, monitor: LoopMonitor, *, interval: float) -> APIRouter:
    """`interval`: seconds between two samples. For everyone who may follow `system/status`."""
    router = APIRouter(prefix="/system", tags=["system"])
    samples = _Samples(hub, Sampler(hub, monitor), interval)

    @router.get("/status", response_model=Sample, openapi_extra=FOR_ALL, summary="Show the state of the server")
    async def now(request: Request) -> Response:
        """`seconds` is the time over which processor use was measured."""
        require_subscribe(request, [STATUS])
        return JSONResponse(samples.newest().model_dump(), headers=NO_STORE)

    @stream_route(
        router, "/status/stream", any_id=True, openapi_extra=FOR_ALL, summary="Follow the state of the server"
    )
    @hot
    async def stream(request: Request) -> Response:
        """The newest sample at once, then one in each interval. Missed samples are not sent again."""
        require_subscribe(request, [STATUS])
        return EventStream(hub, STATUS, request, newest=1, always_new=[STATUS])

    return router


class _Samples:
    """Publishes samples while the topic has readers, by whatever route."""

    def __init__(self, hub: Hub, sampler: Sampler, interval: float) -> None:
        self._interval = interval
        self._sampler = sampler
        self._sample: Sample | None = None
        self._sampled = 0.0
        # Without a linger: a reader that comes back begins with the newest sample and needs none of the others.
        self._producer = Producer(hub, STATUS, self._events, linger=0)

    def newest(self) -> Sample:
        """The one published last while samples are published, else one that is fresh."""
        if self._sample is None or not (self._producer.running or monotonic() - self._sampled < _FRESH_S):
            return self._take()
        return self._sample

    async def _events(self) -> AsyncIterator[Event]:
        while True:
            yield json_event(self._take().model_dump())
            await asyncio.sleep(self._interval)

    def _take(self) -> Sample:
        self._sample, self._sampled = self._sampler.take(), monotonic()
        return self._sample
