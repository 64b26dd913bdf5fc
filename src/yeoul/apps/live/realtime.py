"""Live updates of entities, for readers of one entity, of all of one type, or of all of them."""

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
from .message import accepted, json_event, new_message
from .sender import Sender
from .topics import topic_name

__all__ = ["realtime"]

# The topic of all updates; below it there is one for each type, and below that one for each entity.
_ALL = "realtime"

EntityType = Annotated[str, StringConstraints(min_length=1, max_length=64)]
EntityId = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Action = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class NewUpdate(JsonBody):
    """`action`: a word such as `created`, `updated`, `deleted`; `data`: any JSON value, optional."""

    entityType: EntityType
    entityId: EntityId
    action: Action
    data: Any = None


class Update(BaseModel):
    id: str
    entityType: str
    entityId: str
    action: str
    data: Any
    sender: Sender
    timestamp: str


class UpdateSent(BaseModel):
    """`id` is the position of the event in the topic `realtime`; the update has an `id` of its own, the same in all
    topics."""

    id: str
    update: Update


def realtime(hub: Hub) -> APIRouter:
    router = APIRouter(prefix="/realtime", tags=["realtime"], route_class=PublishRoute)

    @stream_route(router, "/stream", any_id=True, summary="Follow updates of entities")
    @hot
    async def stream(
        request: Request,
        entityType: Annotated[EntityType | None, Query(description="only entities of this type")] = None,
        entityId: Annotated[list[EntityId] | None, Query(description="only these entities: repeat it")] = None,
    ) -> Response:
        """Updates of all entities, of all of one type, or of some entities of one type.

        To follow other topics with the same connection: `/stream?topic=realtime/<type>/<id>&topic=…`.
        """
        require_user(request)
        topics = _followed(entityType, entityId or [], hub.max_topics_per_reader)
        narrower = "an `entityType` and an `entityId`" if entityType is None else "an `entityId`"
        require_subscribe(request, topics, hint=f"name {narrower} that it covers")
        return EventStream(hub, topics, request)

    @router.post("/update", status_code=202, response_model=UpdateSent, summary="Send an update of an entity")
    async def update(request: Request, new: NewUpdate) -> Response:
        """It reaches the readers of this entity, of its type, and of all entities."""
        sender = Sender.of(require_user(request))
        topics = [_topic_of(new.entityType, new.entityId), _topic_of(new.entityType), _ALL]
        # A grant on the entity is enough: the wider topics repeat its updates.
        require_publish(request, topics[0])
        fields = {"entityType": new.entityType, "entityId": new.entityId, "action": new.action, "data": new.data}
        event = json_event(new_message(sender, fields))
        return accepted(await _publish_to_all(hub, topics, event), "update", event)

    return router


def _followed(type: str | None, ids: Sequence[str], limit: int) -> list[str]:
    """The topics to follow. Raises Problem (422) for an id without a type, and for too many."""
    if type is None:
        if ids:
            wrong = "name the `entityType` too: entities of several types may have this id"
            raise Problem(422, f"entityId: {wrong}", fields=[("entityType", wrong)])
        return [_ALL]
    if len(set(ids)) > limit:
        wrong = f"a stream follows at most {limit} entities, not {len(set(ids))}: follow fewer, or all of the type"
        raise Problem(422, f"entityId: {wrong}", fields=[("entityId", wrong)])
    return [_topic_of(type, id) for id in ids] or [_topic_of(type)]


def _topic_of(type: str, id: str | None = None) -> str:
    if id is None:
        return topic_name(_ALL, type, field="entityType")
    return topic_name(_ALL, type, id, field="entityId")


async def _publish_to_all(hub: Hub, topics: Sequence[str], event: Event) -> Cursor:
    """Publishes the same event to each topic, the narrowest first, and returns its position in the last one. What could
    refuse one of them (its name, its size, too many topics) does so before the first has the event; what remains is a
    server that shuts down in between: its client is asked to send the update again."""
    with ExitStack() as holds:
        for topic in topics:
            holds.enter_context(await hub.hold(topic))
        cursors = [await hub.publish(topic, event) for topic in topics]
    return cursors[-1]
