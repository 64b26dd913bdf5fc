"""Chat: rooms with their last messages, who is in them, and who is typing."""

from __future__ import annotations

from time import monotonic
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AfterValidator, BaseModel, Field

from ...asgi.authentication import require_publish, require_subscribe, require_user
from ...asgi.body import JsonBody
from ...asgi.event_stream import EventStream
from ...asgi.routing import PublishRoute, hot, stream_route
from ...hub import Hub
from .rooms import Rooms, check_room, presence_topic, room_topic
from .senders import MAX_TEXT, NO_STORE, SenderOut, Text, accepted, draw_id, news, sender_of, timestamp
from .typists import TYPING_S, Typists

__all__ = ["MAX_MESSAGE_BYTES", "chat"]

# Of a message with all that is told of it: each character may take six bytes of JSON, as a control character does.
MAX_MESSAGE_BYTES = 6 * MAX_TEXT + 1_500

_ROOM = "1 to 64 letters and digits of any script, `-`, `_` and `.`"

Room = Annotated[str, AfterValidator(check_room)]


class NewMessage(JsonBody):
    """What to say, and where."""

    roomId: Room = Field(description=_ROOM)
    message: Text


class NewTyping(JsonBody):
    """`typing` false: the caller has stopped without sending."""

    roomId: Room = Field(description=_ROOM)
    typing: bool = Field(True, strict=True)


class MessageOut(BaseModel):
    id: str
    roomId: str
    message: str
    sender: SenderOut
    timestamp: str


class MessageSent(BaseModel):
    """`id` is the position of the event, the message's own `id` what it is known by."""

    id: str
    message: MessageOut


class TypingTaken(BaseModel):
    told: bool = Field(description="whether the others were told: not where they know it already")


class PersonOut(BaseModel):
    id: str
    name: str | None
    since: str


class RoomOut(BaseModel):
    """`users`: a hundred at most, the longest there first; `count`: all of them."""

    roomId: str
    users: list[PersonOut]
    count: int


def chat(hub: Hub, *, history: int, grace: float) -> APIRouter:
    """`history`: messages that whoever comes is shown. `grace`: seconds after which somebody without a stream has
    left."""
    router = APIRouter(prefix="/chat", tags=["chat"], route_class=PublishRoute)
    rooms, typists = Rooms(hub, grace=grace), Typists()

    @stream_route(router, "/stream", summary="What is said in a room, and who comes and goes")
    @hot
    async def stream(request: Request, room: Annotated[Room, Query(description=_ROOM)] = "general") -> Response:
        """The room's messages, its last ones first; `presence` (who is there) on each connect, then `join` and `leave`,
        which are about a user however many streams that one has, and `typing`.

        To follow other things with the same connection: `/stream?topic=chat/<room>&topic=chat/<room>/presence&…`.
        """
        require_user(request)
        topic, people = room_topic(room), presence_topic(room)
        require_subscribe(request, [topic])
        return EventStream(
            hub,
            [topic, people],
            request,
            newest={topic: history},
            always_new=[people],  # the greeting says it all, and nobody wants to know who was typing then
            greeting=lambda: [rooms.greeting(room)],
        )

    @router.post(
        "/send",
        status_code=202,
        response_model=MessageSent,
        summary="Say something",
    )
    async def send(request: Request, new: NewMessage) -> Response:
        """Says something in a room, to everybody there, the sender included."""
        sender = sender_of(require_user(request))
        topic = room_topic(new.roomId)
        require_publish(request, topic)
        message = {
            "id": draw_id(),
            "roomId": new.roomId,
            "message": new.message,
            "sender": sender,
            "timestamp": timestamp(),
        }
        event = news(message)
        return accepted(await hub.publish(topic, event), "message", event)

    @router.post(
        "/typing",
        status_code=202,
        response_model=TypingTaken,
        summary="Be seen typing",
    )
    async def typing(request: Request, new: NewTyping) -> Response:
        """Tells a room that the caller is typing; others are told once in three seconds, so send it with every key."""
        sender = sender_of(require_user(request))
        require_publish(request, room_topic(new.roomId))
        told = typists.worth_telling(new.roomId, str(sender["id"]), new.typing, monotonic())
        if told:
            word = {
                "roomId": new.roomId,
                "user": sender,
                "typing": new.typing,
                "seconds": TYPING_S,
                "timestamp": timestamp(),
            }
            await hub.publish(presence_topic(new.roomId), news(word, "typing"))
        return JSONResponse({"told": told}, 202, NO_STORE)

    @router.get("/rooms/{room}", response_model=RoomOut, summary="Who is there")
    async def show(request: Request, room: Annotated[Room, Path(description=_ROOM)]) -> Response:
        """Who is in the room now."""
        require_user(request)
        require_subscribe(request, [room_topic(room)])
        return JSONResponse(rooms.people(room), headers=NO_STORE)

    return router
