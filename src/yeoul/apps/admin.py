"""For admins: who is connected, which topics are followed, how the server is doing; and ending what should end.

In demo mode whoever is on this machine is one. Lists are read in pages, and the event loop gets its turn while one is
looked for: ten thousand connections hold nobody up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from ..asgi.caller import require_admin
from ..asgi.documented import problems
from ..asgi.problem import Problem
from ..asgi.routing import Digits
from ..hub import Hub, Subscription
from ..hub.probe import PROBE_TOPIC
from ..hub.topic import Topic, check_topic
from .overview import Overview
from .topics import refuse_reserved

__all__ = ["admin"]

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
        if not hub.disconnect(lambda reader: reader.id == id, "kicked", reconnect=False):
            raise Problem(404, "no such connection: it has ended, or never was")
        return Response(status_code=204)

    @router.delete("/connections", summary="End all of a user")
    async def kick_all(user: Annotated[str, Query(min_length=1, max_length=1_000)]) -> Ended:
        return Ended(ended=hub.disconnect(lambda reader: reader.principal.user == user, "kicked", reconnect=False))

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
        check_topic(topic)
        # Attached for a moment: that is how the broker shows what it has of a topic that nobody follows.
        journal = await hub.broker.attach(topic)
        try:
            events, size = len(journal), journal.size
            if not events:
                raise Problem(404, f"nothing is kept of {topic!r}")
            await hub.broker.forget(topic)
        finally:
            hub.broker.detach(topic)
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
