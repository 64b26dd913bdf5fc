"""Chat: rooms with their last messages, their members, and who is typing."""

from __future__ import annotations

from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AfterValidator, BaseModel, Field

from ...asgi.authentication import require_publish, require_subscribe, require_user
from ...asgi.body import JsonBody
from ...asgi.event_stream import EventStream
from ...asgi.responses import NO_STORE
from ...asgi.routing import PublishRoute, hot, stream_route
from ...hub import Hub
from .message import MAX_TEXT, Text, accepted, json_event, new_message
from .rooms import Rooms, check_room, presence_topic, room_topic
from .sender import Sender
from .timestamp import timestamp
from .typists import TYPING_S, Typists

__all__ = ["MAX_MESSAGE_BYTES", "chat"]

# Bytes of a message as it is published: each character may take six in JSON, as a control character does.
MAX_MESSAGE_BYTES = 6 * MAX_TEXT + 1_500

_ROOM = "1 to 64 letters and digits of any script, `-`, `_` and `.`"

Room = Annotated[str, AfterValidator(check_room)]


class NewMessage(JsonBody):
    """A message, and the room it is for."""

    roomId: Room = Field(description=_ROOM)
    message: Text


class NewTyping(JsonBody):
    """`typing` false: the user has stopped without sending."""

    roomId: Room = Field(description=_ROOM)
    typing: bool = Field(True, strict=True)


class ChatMessage(BaseModel):
    id: str
    roomId: str
    message: str
    sender: Sender
    timestamp: str


class MessageSent(BaseModel):
    """`id` is the position of the event; the message has an `id` of its own."""

    id: str
    message: ChatMessage


class TypingAccepted(BaseModel):
    told: bool = Field(description="whether it was announced in the room: false if that was done a moment ago")


class RoomMember(BaseModel):
    id: str
    name: str | None
    since: str


class RoomState(BaseModel):
    """`users`: the first hundred members, in the order in which they entered; `count`: the number of all members."""

    roomId: str
    users: list[RoomMember]
    count: int


def chat(hub: Hub, rooms: Rooms, *, history: int) -> APIRouter:
    """`history`: how many of the last messages a new reader is given."""
    router = APIRouter(prefix="/chat", tags=["chat"], route_class=PublishRoute)
    typists = Typists()

    @stream_route(router, "/stream", any_id=True, summary="Follow a room: messages, members, typing")
    @hot
    async def stream(request: Request, room: Annotated[Room, Query(description=_ROOM)] = "general") -> Response:
        """The room's last messages and all that follow. `presence` (the members) comes on each connect; then `join` and
        `leave`, once per user however many streams that user has, and `typing`.

        To follow other topics with the same connection: `/stream?topic=chat/<room>&topic=chat/<room>/presence&…`.
        """
        require_user(request)
        topic, members = room_topic(room), presence_topic(room)
        require_subscribe(request, [topic])
        return EventStream(
            hub,
            [topic, members],
            request,
            newest={topic: history},
            always_new=[members],  # the greeting has the current members, and typing is over
            greeting=lambda: [rooms.greeting(room)],
        )

    @router.post("/send", status_code=202, response_model=MessageSent, summary="Send a message to a room")
    async def send(request: Request, new: NewMessage) -> Response:
        """The message reaches everyone in the room, its sender included."""
        sender = Sender.of(require_user(request))
        topic = room_topic(new.roomId)
        require_publish(request, topic)
        event = json_event(new_message(sender, {"roomId": new.roomId, "message": new.message}))
        return accepted(await hub.publish(topic, event), "message", event)

    @router.post("/typing", status_code=202, response_model=TypingAccepted, summary="Announce that you are typing")
    async def typing(request: Request, new: NewTyping) -> Response:
        """May be sent with each key: it is announced once in three seconds."""
        sender = Sender.of(require_user(request))
        require_publish(request, room_topic(new.roomId))
        told = typists.should_announce(new.roomId, sender.id, new.typing, monotonic())
        if told:
            announcement = {
                "roomId": new.roomId,
                "user": {"id": sender.id, "name": sender.name},
                "typing": new.typing,
                "seconds": TYPING_S,
                "timestamp": timestamp(),
            }
            await hub.publish(presence_topic(new.roomId), json_event(announcement, "typing"))
        return JSONResponse({"told": told}, 202, NO_STORE)

    @router.get("/rooms/{room}", response_model=RoomState, summary="List the members of a room")
    async def show(request: Request, room: Annotated[Room, Path(description=_ROOM)]) -> Response:
        require_user(request)
        require_subscribe(request, [room_topic(room)])
        return Response(rooms.state(room), headers=NO_STORE, media_type="application/json")

    return router
