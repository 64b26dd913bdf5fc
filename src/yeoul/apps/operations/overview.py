"""How the server is doing, at one glance: what `/admin/overview` answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from heapq import nsmallest

import psutil
from pydantic import BaseModel, Field

from ... import __version__
from ...hub import Hub
from ...hub.health import LoopMonitor
from ...llm.generations import Generations
from ...relay.relays import Relays

__all__ = ["Overview", "overview_of"]

# Lagging readers that are listed: `/admin/connections?lagging=true` has all of them.
_MAX_LAGGING = 10


class ConnectionsNow(BaseModel):
    """`most`: the limit. `refused`: by the limit that was reached, "all", "user" or "address"."""

    open: int
    most: int
    lagging: int
    opened: int
    closed: dict[str, int] = Field(description="by reason")
    refused: dict[str, int]
    gaps: int


class RatesNow(BaseModel):
    """Per second, over the last 10 seconds."""

    published: float
    deliveries: float
    bytes: float
    opened: float
    closed: float
    gaps: float


class Latency(BaseModel):
    """Seconds from a publish to the write to its last reader, over the last 10 seconds; null if there was none."""

    p50: float | None
    p99: float | None


class BrokerNow(BaseModel):
    """`followed`: topics with readers; `topics` and `bytes`: kept, null if unknown; `head`: the position of the newest
    event."""

    followed: int
    topics: int | None
    bytes: int | None
    head: str


class WorkNow(BaseModel):
    running: int
    started: int


class LaggingReader(BaseModel):
    """`behind`: how many positions it is behind the newest event of the server."""

    id: str
    user: str | None
    address: str | None
    behind: int


class Overview(BaseModel):
    """`started` in Unix seconds; `uptime` and `loop_lag` (the longest of the last 10 seconds) in seconds; `memory` in
    bytes."""

    version: str
    started: float
    uptime: float
    demo: bool
    draining: bool
    connections: ConnectionsNow
    rates: RatesNow
    latency: Latency
    broker: BrokerNow
    generations: WorkNow
    relays: WorkNow
    lagging: list[LaggingReader] = Field(description="the ten readers that are furthest behind")
    refused: dict[str, int] = Field(description="requests over a rate limit, by kind")
    loop_lag: float
    memory: int


def overview_of(
    hub: Hub,
    generations: Generations,
    relays: Relays,
    monitor: LoopMonitor,
    *,
    demo: bool,
    max_connections: int,
    refused: Mapping[str, int],
) -> Callable[[], Overview]:
    """A function that takes the overview. `refused`: the counts of requests over a rate limit, by kind."""
    process = psutil.Process()
    started = time.time()
    began = time.monotonic()

    def take() -> Overview:
        stats, kept = hub.stats, hub.broker.stats()
        return Overview(
            version=__version__,
            started=started,
            uptime=round(time.monotonic() - began, 3),
            demo=demo,
            draining=hub.draining,
            connections=ConnectionsNow(
                open=stats.readers,
                most=max_connections,
                lagging=stats.lagging,
                opened=stats.opened,
                closed=dict(stats.closed),
                refused=dict(stats.refused),
                gaps=stats.gaps,
            ),
            rates=RatesNow(**monitor.rates()),
            latency=Latency(p50=monitor.latency(0.5), p99=monitor.latency(0.99)),
            broker=BrokerNow(
                followed=hub.followed,
                topics=None if kept is None else kept.topics,
                bytes=None if kept is None else kept.bytes,
                head=f"{hub.epoch}-{hub.head}",
            ),
            generations=WorkNow(running=len(generations.running()), started=generations.stats.started),
            relays=WorkNow(running=len(relays.running()), started=relays.stats.started),
            lagging=_lagging(hub) if stats.lagging else [],
            refused=dict(refused),
            loop_lag=round(monitor.max_lag, 6),
            memory=process.memory_info().rss,
        )

    return take


def _lagging(hub: Hub) -> list[LaggingReader]:
    head = hub.head
    lagging = (reader for reader in hub.readers() if reader.lagging)
    return [
        LaggingReader(
            id=reader.id,
            user=reader.principal.user,
            address=reader.principal.address,
            behind=head - reader.offset,
        )
        for reader in nsmallest(_MAX_LAGGING, lagging, key=lambda reader: reader.offset)
    ]
