"""How this server is: its processor, memory, event loop, streams and events, sampled on demand."""

from __future__ import annotations

import os
from dataclasses import dataclass
from time import monotonic

import psutil
from pydantic import BaseModel, Field

from ..hub import Hub
from ..hub.pulse import Pulse
from .senders import timestamp

__all__ = ["Sample", "Vitals"]


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

    def __init__(self, hub: Hub, pulse: Pulse) -> None:
        self._hub = hub
        self._pulse = pulse
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
        stats, rates = self._hub.stats, self._pulse.rates()
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
            eventLoop=EventLoop(lagMs=round(self._pulse.worst * 1_000, 2)),
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
