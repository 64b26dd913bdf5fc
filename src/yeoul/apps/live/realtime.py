"""Live updates of things: whoever shows a thing, all of its kind, or everything hears that it has changed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, StringConstraints

from ...asgi.authentication import require_publish, require_subscribe, require_user
from ...asgi.body import JsonBody
from ...asgi.errors import Problem
from ...asgi.event_stream import EventStream
from ...asgi.routing import PublishRoute, hot, stream_route
from ...hub import Hub
from ...sse import Event
from ...stream import Cursor
from .senders import SenderOut, accepted, draw_id, hinted, news, sender_of, timestamp, topic_of

__all__ = ["realtime"]

_EVERYTHING = "realtime"

EntityType = Annotated[str, StringConstraints(min_length=1, max_length=64)]
EntityId = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Action = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class NewUpdate(JsonBody):
    """What has become of which thing. `action`: a word such as `created`, `updated`, `deleted`; `data`: any JSON value,
    at will."""

    entityType: EntityType
    entityId: EntityId
    action: Action
    data: Any = None


class UpdateOut(BaseModel):
    id: str
    entityType: str
    entityId: str
    action: str
    data: Any
    sender: SenderOut
    timestamp: str


class UpdateSent(BaseModel):
    """`id` is the position of the event, the update's own `id` what it is known by, in whichever topic it is read."""

    id: str
    update: UpdateOut


def realtime(hub: Hub) -> APIRouter:
    router = APIRouter(prefix="/realtime", tags=["realtime"], route_class=PublishRoute)

    @stream_route(router, "/stream", summary="What becomes of things")
    @hot
    async def stream(
        request: Request,
        entityType: Annotated[EntityType | None, Query(description="of this kind alone")] = None,
        entityId: Annotated[list[EntityId] | None, Query(description="these alone: repeat it")] = None,
    ) -> Response:
        """Updates of everything, of one kind, or of some things of one kind.

        To follow other things with the same connection: `/stream?topic=realtime/<type>/<id>&topic=…`.
        """
        require_user(request)
        topics = _followed(entityType, entityId or [], hub.max_topics_per_reader)
        with hinted(
            "name an `entityId` that it lets you follow, too"
            if entityType is not None
            else "name an `entityType`, and an `entityId`, that it lets you follow"
        ):
            require_subscribe(request, topics)
        return EventStream(hub, topics, request)

    @router.post(
        "/update",
        status_code=202,
        response_model=UpdateSent,
        summary="Tell what has become of a thing",
    )
    async def update(request: Request, new: NewUpdate) -> Response:
        """Tells those who follow this thing, those who follow its kind, and those who follow everything."""
        sender = sender_of(require_user(request))
        topics = [_topic_of(new.entityType, new.entityId), _topic_of(new.entityType), _EVERYTHING]
        # The others follow from it: they hold what is sent to this one, and cannot be chosen.
        require_publish(request, topics[0])
        content = {
            "id": draw_id(),
            "entityType": new.entityType,
            "entityId": new.entityId,
            "action": new.action,
            "data": new.data,
            "sender": sender,
            "timestamp": timestamp(),
        }
        event = news(content)
        return accepted(await _publish_to_all(hub, topics, event), "update", event)

    return router


def _followed(kind: str | None, ids: Sequence[str], most: int) -> list[str]:
    """The topics that are asked for. Raises Problem for an id without a kind, and for too many."""
    if kind is None:
        if ids:
            wrong = "name the `entityType` too: an id alone may be that of several things"
            raise Problem(422, f"entityId: {wrong}", fields=[("entityType", wrong)])
        return [_EVERYTHING]
    if len(set(ids)) > most:
        wrong = f"follow up to {most} things with one stream, not {len(set(ids))}, or all of the kind"
        raise Problem(422, f"entityId: {wrong}", fields=[("entityId", wrong)])
    return [_topic_of(kind, id) for id in ids] or [_topic_of(kind)]


def _topic_of(kind: str, id: str | None = None) -> str:
    if id is None:
        return topic_of(_EVERYTHING, "entityType", kind)
    return topic_of(_EVERYTHING, "entityId", kind, id)


async def _publish_to_all(hub: Hub, topics: Sequence[str], event: Event) -> Cursor:
    """The same event to each topic, the narrowest first. What could refuse one of them (its name, its size, no room for
    one more topic) does so before the first has it; what is left is a server that shuts down between two, whose
    caller is told to send it again."""
    with ExitStack() as holds:
        for topic in topics:
            holds.enter_context(await hub.hold(topic))
        cursors = [await hub.publish(topic, event) for topic in topics]
    return cursors[-1]
