"""Notifications: to one user on every device, or to all users."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field, StringConstraints

from ...asgi.authentication import require_publish, require_subscribe, require_user
from ...asgi.body import JsonBody
from ...asgi.event_stream import EventStream
from ...asgi.routing import PublishRoute, hot, stream_route
from ...hub import Hub
from .message import Text, accepted, json_event, new_message
from .sender import Sender
from .topics import topic_name

__all__ = ["notifications"]

# The topic that all users follow; below it there is one for each user.
_ALL = "notifications"

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class NewNotification(JsonBody):
    """`type`: a word such as `info`, `success`, `warning` or `error`. Without `userId` it goes to all users, which
    takes a grant on `notifications`."""

    title: Title
    message: Text
    type: Kind = "info"
    userId: UserId | None = Field(None, description="the user to notify; by default all users")


class Notification(BaseModel):
    id: str
    title: str
    message: str
    type: str
    userId: str | None
    sender: Sender
    timestamp: str


class NotificationSent(BaseModel):
    """`id` is the position of the event; the notification has an `id` of its own."""

    id: str
    notification: Notification


def notifications(hub: Hub) -> APIRouter:
    router = APIRouter(prefix="/notifications", tags=["notifications"], route_class=PublishRoute)

    @stream_route(router, "/stream", any_id=True, summary="Follow your notifications")
    @hot
    async def stream(request: Request) -> Response:
        """Notifications to the current user, and to all users.

        To follow other topics with the same connection: `/stream?topic=notifications&topic=notifications/<user>&…`.
        """
        identity = require_user(request)
        topics = [_topic_of(identity.user), _ALL]
        require_subscribe(request, topics)
        return EventStream(hub, topics, request)

    @router.post("/send", status_code=202, response_model=NotificationSent, summary="Notify one user, or all users")
    async def send(request: Request, new: NewNotification) -> Response:
        sender = Sender.of(require_user(request))
        topic = _topic_of(new.userId)
        hint = "name a `userId` that it covers" if new.userId is None else "ask an administrator to send it"
        require_publish(request, topic, hint=hint)
        fields = {"title": new.title, "message": new.message, "type": new.type, "userId": new.userId}
        event = json_event(new_message(sender, fields))
        return accepted(await hub.publish(topic, event), "notification", event)

    return router


def _topic_of(user: str | None) -> str:
    return _ALL if user is None else topic_name(_ALL, user, field="userId")
