"""Topics over HTTP: publish to one, follow one or several."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from ...asgi.authentication import caller_of, require_publish, require_subscribe
from ...asgi.errors import Problem, problem_of
from ...asgi.event_stream import EventStream
from ...asgi.routing import Digits, PublishRoute, hot, stream_route
from ...errors import YeoulError
from ...hub import Hub
from ...sse import Event, json_data

__all__ = ["refuse_reserved", "topics"]

_TYPES = 'text/plain (the body is the data), application/json ({"data", "type"?}) or application/x-ndjson (many)'

# Kinds of topics in whose events a sender is named, or the server itself speaks: what only their routes can vouch for.
_ROUTES = {
    "chat": "POST /chat/send",
    "notifications": "POST /notifications/send",
    "realtime": "POST /realtime/update",
    "system": None,
}

# Events of one request, which counts as one publish: what they cost together is in proportion to that.
_MAX_LINES = 10_000

TopicName = Annotated[str, Path(description="such as chat/general")]
Newest = Annotated[int, Digits, Query(ge=0, description="how many kept events a new reader begins with")]


class _Published(msgspec.Struct, forbid_unknown_fields=True):
    """`data`: text as it is, any other JSON value as its JSON text."""

    data: Any
    type: str = "message"


_decode = msgspec.json.Decoder(_Published).decode


class Published(BaseModel):
    id: str = Field(description="the position of the last event")
    count: int = Field(description="how many were published")


_PUBLISH_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/plain": {"schema": {"type": "string"}},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": {"data": {}, "type": {"type": "string"}},
                    "additionalProperties": False,
                }
            },
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    }
}


def topics(hub: Hub, *, max_newest: int = 1_000) -> APIRouter:
    """`max_newest`: how many kept events a new reader may ask for, of each topic."""
    router = APIRouter(tags=["topics"], route_class=PublishRoute)

    @router.post(
        "/topics/{topic:rest}",
        status_code=202,
        openapi_extra=_PUBLISH_BODY,
        response_model=Published,
        summary="Publish to a topic",
    )
    @hot
    async def publish(request: Request, topic: TopicName) -> Response:
        """All of the request's events, or none. The answer's `id` is the last one's position."""
        refuse_reserved(topic)
        require_publish(request, topic)
        _refuse_forgery(request, topic)
        events = _events(request.headers.get("content-type", ""), await request.body())
        try:
            cursor = await hub.publish(topic, *events)
        except (YeoulError, ValueError) as error:
            return problem_of(error)
        return JSONResponse({"id": str(cursor), "count": len(events)}, 202)

    @stream_route(router, "/topics/{topic:rest}", summary="Follow a topic")
    @hot
    async def follow(request: Request, topic: TopicName, newest: Newest = 0) -> Response:
        refuse_reserved(topic)
        require_subscribe(request, [topic])
        _check_newest(newest, max_newest)
        return EventStream(hub, [topic], request, newest=newest)

    @stream_route(router, "/stream", summary="Follow several topics")
    @hot
    async def follow_several(
        request: Request,
        topic: Annotated[list[str], Query(min_length=1, description="repeat it: ?topic=a&topic=b")],
        newest: Newest = 0,
    ) -> Response:
        """Several topics with one connection, of which browsers have six per server with HTTP/1.1: a page's
        notifications, rooms and updates are `notifications`, `notifications/<user>`, `chat/<room>`,
        `chat/<room>/presence`, `realtime/<type>` and `system/status`."""
        for name in topic:
            refuse_reserved(name)
        most = hub.max_topics_per_reader
        if len(set(topic)) > most:  # before each of them is held against each pattern of a token
            wrong = f"follow 1 to {most} topics with one stream, not {len(set(topic))}"
            raise Problem(422, wrong, fields=[("topic", wrong)])
        require_subscribe(request, topic)
        _check_newest(newest, max_newest)
        return EventStream(hub, topic, request, newest=newest)

    return router


def refuse_reserved(topic: str) -> None:
    """Raises Problem (422) for topics that are written and read by their own routes alone."""
    # An answer's id is what lets one read it; its topic must not be a second door.
    kind = topic.split("/", 1)[0]
    if kind.startswith("stream."):
        wrong = "topics whose names begin with 'stream.' are the server's own"
        raise Problem(422, wrong, fields=[("topic", "another name")])
    if kind == "relays":
        wrong = "topics under relays/ belong to the gateway: read them where their request was sent to"
        raise Problem(422, wrong, fields=[("topic", "another name")])
    if kind == "generations":
        raise Problem(
            422,
            "topics under generations/ belong to answers: read them at /generations/{id}/stream",
            fields=[("topic", "another name")],
        )


def _check_newest(newest: int, most: int) -> None:
    if newest > most:
        wrong = f"a new reader may ask for {most} kept events at most, not {newest}"
        raise Problem(422, wrong, fields=[("newest", wrong)])


def _refuse_forgery(request: Request, topic: str) -> None:
    kind = topic.split("/", 1)[0]
    if kind not in _ROUTES or caller_of(request).is_admin:
        return
    route = _ROUTES[kind]
    instead = f"use {route}, which says who the sender is" if route else "only this server itself writes there"
    raise Problem(403, f"topics under {kind}/ are not written to directly, but by admins: {instead}")


def _events(content_type: str, body: bytes) -> list[Event]:
    """The request's events. Raises Problem for what is not one of the three forms."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/plain":
        return [_event(_text(body), "message")]
    if kind == "application/json":
        return [_parsed(body, "the body")]
    if kind == "application/x-ndjson":
        lines = body.replace(b"\r\n", b"\n").split(b"\n")
        if len(lines) > _MAX_LINES:
            raise Problem(422, f"the body has {len(lines)} lines: send up to {_MAX_LINES}, and the others after them")
        events = [_parsed(line, f"line {number}") for number, line in enumerate(lines, 1) if line.strip()]
        if not events:
            raise Problem(422, "the body has no event: send one JSON object per line")
        return events
    raise Problem(415, f"content type {kind or 'missing'!r}: send {_TYPES}")


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8 (byte {error.start})") from error


def _parsed(line: bytes, where: str) -> Event:
    try:
        published = _decode(line)
        data = published.data if isinstance(published.data, str) else json_data(published.data)
    except msgspec.ValidationError as error:
        raise Problem(
            422, f'{where}: {error}; an event is {{"data": …, "type": "…"}}', fields=[(where, str(error))]
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"{where} is not JSON: {error}") from error
    except RecursionError as error:
        raise Problem(400, f"{where} is nested too deeply") from error
    return _event(data, published.type, where)


def _event(data: str, type: str, where: str = "the body") -> Event:
    wrong = None
    if type == "error":
        wrong = f"type {type!r} would look like a lost connection to EventSource"
    elif type.startswith("stream."):
        wrong = f"type {type!r} is taken: those that begin with 'stream.' are the server's own"
    if wrong is not None:
        raise Problem(422, f"{where}: {wrong}", fields=[("type", "another name")])
    try:
        return Event(data, type)
    except ValueError as error:
        raise Problem(422, f"{where}: {error}", fields=[(str(error).split(" ", 1)[0], str(error))]) from error
