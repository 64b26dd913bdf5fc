"""For admins: who is connected, which topics are followed, how the server is doing; and ending what should end.

In demo mode whoever is on this machine is one. Lists are read in pages, and the event loop gets its turn while one is
looked for: ten thousand connections hold nobody up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from heapq import nsmallest
from typing import Annotated, TypeVar

import psutil
from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from ... import __version__
from ...asgi.authentication import require_admin
from ...asgi.errors import Problem
from ...asgi.openapi import problems
from ...asgi.routing import Digits
from ...hub import Hub, Subscription
from ...hub.health import PROBE_TOPIC, LoopMonitor
from ...hub.reasons import KICKED
from ...hub.topic import Topic
from ...llm.generations import Generations
from ...relay.relays import Relays
from ..live.topics import refuse_reserved

__all__ = ["Overview", "admin", "overview_of"]

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
    monitor: LoopMonitor,
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

    return look


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
        for reader in nsmallest(_NAMED, lagging, key=lambda reader: reader.offset)
    ]


_T = TypeVar("_T")

# Items looked at before the event loop gets its turn: less than a millisecond.
_SLICE = 500
# Topics that are shown of a reader: as many as a stream may follow by default.
_MAX_TOPICS = 50

# A page of 500 takes 5 ms to write.
Limit = Annotated[int, Digits, Query(ge=1, le=500, description="how many at most")]


class ConnectionOut(BaseModel):
    """`since` and `expires`: Unix seconds; `events` and `bytes` have been written, `cursor` is how far it has come."""

    id: str
    user: str | None
    name: str | None
    address: str | None
    topics: list[str]
    since: float
    expires: float | None
    lagging: bool
    events: int
    bytes: int
    gaps: int
    cursor: str

    @classmethod
    def of(cls, reader: Subscription) -> ConnectionOut:
        who = reader.principal
        return cls(
            id=reader.id,
            user=who.user,
            name=who.name,
            address=who.address,
            topics=[topic.name for topic in reader.topics[:_MAX_TOPICS]],
            since=reader.since,
            expires=who.expires,
            lagging=reader.lagging,
            events=reader.events,
            bytes=reader.sent,
            gaps=reader.gaps,
            cursor=str(reader.cursor),
        )


class Connections(BaseModel):
    """In the order in which they were opened. `next`: the `after` of the next page, null on the last one."""

    connections: list[ConnectionOut]
    next: str | None


class TopicOut(BaseModel):
    """`readers` here; `events` and `bytes` that are kept, from the cursor `oldest` to `newest`."""

    name: str
    readers: int
    events: int
    bytes: int
    oldest: str | None
    newest: str | None
    final: bool

    @classmethod
    def of(cls, topic: Topic, epoch: str) -> TopicOut:
        journal = topic.journal
        oldest = journal.oldest
        return cls(
            name=topic.name,
            readers=topic.readers,
            events=topic.events,
            bytes=topic.bytes,
            oldest=None if oldest is None else f"{epoch}-{oldest.offset}",
            newest=None if oldest is None else f"{epoch}-{journal.last}",
            final=journal.final,
        )


class TopicList(BaseModel):
    """Those that somebody follows, the most followed ones first. `total`: how many there are that fit."""

    topics: list[TopicOut]
    total: int


class Forgotten(BaseModel):
    """What was let go. Readers that had it keep it; one that had not, or that comes back for it, is told of a gap."""

    topic: str
    events: int
    bytes: int


class Ended(BaseModel):
    ended: int = Field(description="streams that were ended")


def admin(hub: Hub, overview: Callable[[], Overview]) -> APIRouter:
    router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(require_admin)])

    @router.get("/overview", summary="How the server is doing")
    async def look() -> Overview:
        return overview()

    @router.get("/connections", summary="Who follows what")
    async def connections(
        user: Annotated[str | None, Query(max_length=1_000, description="only this user's")] = None,
        topic: Annotated[str | None, Query(max_length=200, description="only those that follow it")] = None,
        lagging: Annotated[bool, Query(description="only those whose client takes less than is sent")] = False,
        after: Annotated[str | None, Query(max_length=100, description="`next` of the page before")] = None,
        limit: Limit = 100,
    ) -> Connections:
        seen = _position(after)

        def fits(reader: Subscription) -> bool:
            return (
                (user is None or reader.principal.user == user)
                and (topic is None or any(followed.name == topic for followed in reader.topics))
                and (reader.lagging or not lagging)
                and (seen is None or (reader.since, reader.id) > seen)
                and not reader.closed
            )

        found = await _first(hub.readers(), fits, limit + 1)
        shown = found[:limit]
        return Connections(
            connections=[ConnectionOut.of(reader) for reader in shown],
            next=f"{shown[-1].since!r}_{shown[-1].id}" if len(found) > limit else None,
        )

    @router.delete(
        "/connections/{id}",
        status_code=204,
        responses=problems(404),
        summary="End one, with `stream.bye` (kicked)",
    )
    async def kick(id: Annotated[str, Path(max_length=64)]) -> Response:
        if not hub.disconnect(lambda reader: reader.id == id, KICKED):
            raise Problem(404, "no such connection: it has ended, or never was")
        return Response(status_code=204)

    @router.delete("/connections", summary="End all of a user")
    async def kick_all(user: Annotated[str, Query(min_length=1, max_length=1_000)]) -> Ended:
        return Ended(ended=hub.disconnect(lambda reader: reader.principal.user == user, KICKED))

    @router.get("/topics", summary="Which topics are followed")
    async def topics(
        prefix: Annotated[str, Query(max_length=200, description="only names that begin so")] = "",
        limit: Limit = 100,
    ) -> TopicList:
        found = await _first(hub.topics(), lambda topic: topic.name.startswith(prefix) and topic.name != PROBE_TOPIC)
        shown = nsmallest(limit, found, key=lambda topic: (-topic.readers, topic.name))
        return TopicList(topics=[TopicOut.of(topic, hub.epoch) for topic in shown], total=len(found))

    @router.delete("/topics/{topic:rest}", responses=problems(404), summary="Forget its events")
    async def forget(topic: str) -> Forgotten:
        refuse_reserved(topic)
        # Held for a moment: that is how the broker shows what it has of a topic without readers.
        with await hub.hold(topic) as hold:
            events, size = len(hold.journal), hold.journal.size
            if not events:
                raise Problem(404, f"nothing is kept of {topic!r}")
            await hub.forget(topic)
        return Forgotten(topic=topic, events=events, bytes=size)

    return router


async def _first(items: Iterable[_T], fits: Callable[[_T], bool], most: int | None = None) -> list[_T]:
    """The first that fit."""
    found: list[_T] = []
    for count, item in enumerate(list(items), 1):
        if fits(item):
            found.append(item)
            if len(found) == most:
                break
        if count % _SLICE == 0:
            await asyncio.sleep(0)
    return found


def _position(after: str | None) -> tuple[float, str] | None:
    if after is None:
        return None
    since, _, id = after.partition("_")
    try:
        return float(since), id
    except ValueError as error:
        wrong = "give the `next` of the page before, unchanged"
        raise Problem(422, wrong, fields=[("after", wrong)]) from error
