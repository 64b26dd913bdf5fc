"""Notifications: to one user, on every device of that one, or to everybody."""

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
from .senders import SenderOut, Text, accepted, draw_id, hinted, news, sender_of, timestamp, topic_of

__all__ = ["notifications"]

# What everybody follows; below it a topic for each user.
_EVERYBODY = "notifications"

Title = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Kind = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]
UserId = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class NewNotification(JsonBody):
    """`type`: a word such as `info`, `success`, `warning` or `error`. Without a `userId` it is for everybody, which
    takes the right to send to `notifications`."""

    title: Title
    message: Text
    type: Kind = "info"
    userId: UserId | None = Field(None, description="whom it is for; by default everybody")


class NotificationOut(BaseModel):
    id: str
    title: str
    message: str
    type: str
    userId: str | None
    sender: SenderOut
    timestamp: str


class NotificationSent(BaseModel):
    """`id` is the position of the event, the notification's own `id` what it is known by."""

    id: str
    notification: NotificationOut


def notifications(hub: Hub) -> APIRouter:
    router = APIRouter(prefix="/notifications", tags=["notifications"], route_class=PublishRoute)

    @stream_route(router, "/stream", summary="What is sent to you, and to everybody")
    @hot
    async def stream(request: Request) -> Response:
        """What is sent to the caller, and to everybody.

        To follow other things with the same connection: `/stream?topic=notifications&topic=notifications/<user>&…`.
        """
        identity = require_user(request)
        topics = [_topic_of(identity.user), _EVERYBODY]
        require_subscribe(request, topics)
        return EventStream(hub, topics, request)

    @router.post(
        "/send",
        status_code=202,
        response_model=NotificationSent,
        summary="Notify a user, or everybody",
    )
    async def send(request: Request, new: NewNotification) -> Response:
        """To the user that `userId` names, or to everybody."""
        sender = sender_of(require_user(request))
        topic = _topic_of(new.userId)
        with hinted("name a `userId` that it lets you send to" if new.userId is None else "ask an admin to send it"):
            require_publish(request, topic)
        notification = {
            "id": draw_id(),
            "title": new.title,
            "message": new.message,
            "type": new.type,
            "userId": new.userId,
            "sender": sender,
            "timestamp": timestamp(),
        }
        event = news(notification)
        return accepted(await hub.publish(topic, event), "notification", event)

    return router


def _topic_of(user: str | None) -> str:
    return _EVERYBODY if user is None else topic_of(_EVERYBODY, "userId", user)
