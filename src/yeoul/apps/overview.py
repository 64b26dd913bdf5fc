"""How the server is doing, in one look: what `yeoul top` and admins see."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from heapq import nsmallest

import psutil
from pydantic import BaseModel, Field

from .. import __version__
from ..hub import Hub
from ..hub.memory import MemoryBroker
from ..hub.pulse import Pulse
from ..llm.generations import Generations
from ..relay.relays import Relays

__all__ = ["Overview", "overview_of"]

# Lagging readers that are named: whoever wants all of them asks for the connections.
_NAMED = 10


class ConnectionsNow(BaseModel):
    """`most`: how many may be open. `refused`: by the bound that was met, "all", "user" or "address"."""

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
    """Seconds from a publish to its write to the last reader, over the last 10 seconds; null without any."""

    p50: float | None
    p99: float | None


class BrokerNow(BaseModel):
    """`topics` and `bytes` that are kept, and how many may be: null where the broker does not say."""

    followed: int
    topics: int | None
    bytes: int | None
    head: str


class WorkNow(BaseModel):
    running: int
    started: int


class LaggingReader(BaseModel):
    """`behind`: by how many of the server's events."""

    id: str
    user: str | None
    address: str | None
    behind: int


class Overview(BaseModel):
    """`started` is Unix time; `uptime`, `loop_lag` (the worst of the last 10 seconds) in seconds; `memory` in bytes."""

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
    lagging: list[LaggingReader] = Field(description="the ten that are furthest behind")
    refused: dict[str, int] = Field(description="requests over a rate, by kind")
    loop_lag: float
    memory: int


def overview_of(
    hub: Hub,
    generations: Generations,
    relays: Relays,
    pulse: Pulse,
    *,
    demo: bool,
    max_connections: int,
    refused: Mapping[str, int],
) -> Callable[[], Overview]:
    """A look at all of these, whenever it is called. `refused`: requests, by the rate that they were over."""
    process = psutil.Process()
    started = time.time()
    began = time.monotonic()

    def look() -> Overview:
        stats, broker = hub.stats, hub.broker
        memory = broker if isinstance(broker, MemoryBroker) else None
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
            rates=RatesNow(**pulse.rates()),
            latency=Latency(p50=pulse.latency(0.5), p99=pulse.latency(0.99)),
            broker=BrokerNow(
                followed=hub.followed,
                topics=None if memory is None else memory.topics,
                bytes=None if memory is None else memory.bytes,
                head=f"{hub.epoch}-{broker.head}",
            ),
            generations=WorkNow(running=len(generations.running()), started=generations.stats.started),
            relays=WorkNow(running=len(relays.running()), started=relays.stats.started),
            lagging=_lagging(hub) if stats.lagging else [],
            refused=dict(refused),
            loop_lag=round(pulse.worst, 6),
            memory=process.memory_info().rss,
        )

    return look


def _lagging(hub: Hub) -> list[LaggingReader]:
    head = hub.broker.head
    lagging = (reader for reader in hub.readers() if reader.lagging)
    return [
        LaggingReader(
            id=reader.id,
            user=reader.principal.user,
            address=reader.principal.address,
            behind=head - reader.offset,
        )
        for reader in nsmallest(_NAMED, lagging, key=lambda reader: reader.offset)
    ]
