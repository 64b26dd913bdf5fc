"""For administrators: connections, topics, the state of the server; and closing connections.

In demo mode the user of this machine is an administrator. Lists are read in pages, and the event loop gets its turn in
between: ten thousand connections do not delay other requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from ...asgi.authentication import require_admin
from ...asgi.errors import Problem
from ...asgi.openapi import problems
from ...asgi.routing import Digits, JsonRoute
from ...hub import Hub, Subscription
from ...hub.health import PROBE_TOPIC
from ...hub.reasons import KICKED
from ...hub.topic import Topic
from ..live.topics import refuse_reserved
from .overview import Overview

__all__ = ["admin"]

_T = TypeVar("_T")

# Items that are looked at before the event loop gets its turn: less than a millisecond.
_SLICE = 500
# Topics that are listed for a reader: as many as a stream may follow by default.
_MAX_TOPICS = 50

# A page of 500 takes 5 ms to write.
Limit = Annotated[int, Digits, Query(ge=1, le=500, description="the size of a page")]


class Connection(BaseModel):
    """`since` and `expires` in Unix seconds; `events` and `bytes`: written so far; `cursor`: its position."""

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
    def of(cls, reader: Subscription) -> Connection:
        principal = reader.principal
        return cls(
            id=reader.id,
            user=principal.user,
            name=principal.name,
            address=principal.address,
            topics=[topic.name for topic in reader.topics[:_MAX_TOPICS]],
            since=reader.since,
            expires=principal.expires,
            lagging=reader.lagging,
            events=reader.events,
            bytes=reader.sent,
            gaps=reader.gaps,
            cursor=str(reader.cursor),
        )


class ConnectionList(BaseModel):
    """In the order in which they were opened. `next`: the `after` of the next page, null on the last one."""

    connections: list[Connection]
    next: str | None


class FollowedTopic(BaseModel):
    """`readers` of this server; `events` and `bytes`: kept, from the position `oldest` to `newest`."""

    name: str
    readers: int
    events: int
    bytes: int
    oldest: str | None
    newest: str | None
    final: bool

    @classmethod
    def of(cls, topic: Topic, epoch: str) -> FollowedTopic:
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
    """Topics with readers, those with the most readers first. `total`: how many match."""

    topics: list[FollowedTopic]
    total: int


class Forgotten(BaseModel):
    """`events` and `bytes`: how much was deleted. A reader that has not received it, or comes back for it, is sent a
    gap."""

    topic: str
    events: int
    bytes: int


class Ended(BaseModel):
    ended: int = Field(description="how many streams were closed")


def admin(hub: Hub, overview: Callable[[], Overview]) -> APIRouter:
    router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(require_admin)], route_class=JsonRoute)

    @router.get("/overview", summary="Show totals, rates and latencies")
    async def show_overview() -> Overview:
        return overview()

    @router.get("/connections", summary="List the connections")
    async def connections(
        user: Annotated[str | None, Query(max_length=1_000, description="only connections of this user")] = None,
        topic: Annotated[str | None, Query(max_length=200, description="only readers of this topic")] = None,
        lagging: Annotated[bool, Query(description="only readers whose client is too slow")] = False,
        after: Annotated[str | None, Query(max_length=100, description="`next` of the previous page")] = None,
        limit: Limit = 100,
    ) -> ConnectionList:
        seen = _position(after)

        def matches(reader: Subscription) -> bool:
            return (
                (user is None or reader.principal.user == user)
                and (topic is None or any(followed.name == topic for followed in reader.topics))
                and (reader.lagging or not lagging)
                and (seen is None or (reader.since, reader.id) > seen)
                and not reader.closed
            )

        found = await _first(hub.readers(), matches, limit + 1)
        shown = found[:limit]
        return ConnectionList(
            connections=[Connection.of(reader) for reader in shown],
            next=f"{shown[-1].since!r}_{shown[-1].id}" if len(found) > limit else None,
        )

    @router.delete(
        "/connections/{id}",
        status_code=204,
        responses=problems(404),
        summary="Close a connection with `stream.bye` (kicked)",
    )
    async def kick(id: Annotated[str, Path(max_length=64)]) -> Response:
        if not hub.disconnect(lambda reader: reader.id == id, KICKED):
            raise Problem(404, "there is no connection with this id: it may have ended")
        return Response(status_code=204)

    @router.delete("/connections", summary="Close all connections of a user")
    async def kick_all(user: Annotated[str, Query(min_length=1, max_length=1_000)]) -> Ended:
        return Ended(ended=hub.disconnect(lambda reader: reader.principal.user == user, KICKED))

    @router.get("/topics", summary="List the topics with readers")
    async def topics(
        prefix: Annotated[str, Query(max_length=200, description="only names with this prefix")] = "",
        limit: Limit = 100,
    ) -> TopicList:
        found = await _first(hub.topics(), lambda topic: topic.name.startswith(prefix) and topic.name != PROBE_TOPIC)
        shown = nsmallest(limit, found, key=lambda topic: (-topic.readers, topic.name))
        return TopicList(topics=[FollowedTopic.of(topic, hub.epoch) for topic in shown], total=len(found))

    @router.delete("/topics/{topic:rest}", responses=problems(404), summary="Delete the events kept in a topic")
    async def forget(topic: str) -> Forgotten:
        refuse_reserved(topic)
        # Held for a moment: this is how the broker shows what it keeps in a topic without readers.
        with await hub.hold(topic) as hold:
            events, size = len(hold.journal), hold.journal.size
            if not events:
                raise Problem(404, f"no events are kept in topic {topic!r}")
            await hub.forget(topic)
        return Forgotten(topic=topic, events=events, bytes=size)

    return router


async def _first(items: Iterable[_T], matches: Callable[[_T], bool], limit: int | None = None) -> list[_T]:
    """The first items that match."""
    found: list[_T] = []
    for count, item in enumerate(list(items), 1):
        if matches(item):
            found.append(item)
            if len(found) == limit:
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
        wrong = "use the `next` of the previous page, unchanged"
        raise Problem(422, wrong, fields=[("after", wrong)]) from error
