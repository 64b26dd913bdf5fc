"""Topics over HTTP: publish to one, follow one or several."""

from __future__ import annotations

from codecs import BOM_UTF8
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, Field

from ...asgi.authentication import caller_of, require_publish, require_subscribe
from ...asgi.body import body_type, check_encoding, check_unique_names
from ...asgi.errors import Problem, problem_of
from ...asgi.event_stream import EventStream
from ...asgi.headers import headers_of
from ...asgi.responses import JsonBytes
from ...asgi.routing import Digits, PublishRoute, hot, stream_route
from ...auth.identity import topic_part
from ...errors import InvalidTopic, YeoulError
from ...hub import Hub
from ...hub.topic import check_topic
from ...sse import Event, json_data

__all__ = ["refuse_reserved", "topic_name", "topics"]

_TYPES = 'text/plain (the body is the data), application/json ({"data", "type"?}) or application/x-ndjson (many)'

# Topics whose events name their sender, or are the server's own: only their routes can vouch for that.
_SENDERS = {
    "chat": "POST /chat/send",
    "notifications": "POST /notifications/send",
    "realtime": "POST /realtime/update",
    "system": None,
}

# A request counts as one publish for the rate limit: this bounds what it may cost.
_MAX_LINES = 10_000

TopicName = Annotated[str, Path(description="such as chat/general")]
Newest = Annotated[int, Digits, Query(ge=0, description="how many of the events kept a new reader begins with")]


class _Published(msgspec.Struct, forbid_unknown_fields=True):
    """`data`: a string is published as it is, any other JSON value as its JSON text."""

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
    """`max_newest`: how many of the events kept in each topic a new reader may ask for."""
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
        """Publishes all events of the request, or none. `id` is the position of the last one."""
        refuse_reserved(topic)
        require_publish(request, topic)
        _refuse_forgery(request, topic)
        events = _events(body_type(headers_of(request.scope)), await request.body())
        try:
            cursor = await hub.publish(topic, *events)
        except (YeoulError, ValueError) as error:
            return problem_of(error)
        return JsonBytes(b'{"id":"%b","count":%d}' % (str(cursor).encode(), len(events)), 202)

    @stream_route(router, "/topics/{topic:rest}", any_id=True, summary="Follow a topic")
    @hot
    async def follow(request: Request, topic: TopicName, newest: Newest = 0) -> Response:
        refuse_reserved(topic)
        require_subscribe(request, [topic])
        _check_newest(newest, max_newest)
        return EventStream(hub, [topic], request, newest=newest)

    @stream_route(router, "/stream", any_id=True, summary="Follow several topics")
    @hot
    async def follow_several(
        request: Request,
        topic: Annotated[list[str], Query(min_length=1, description="repeat it: ?topic=a&topic=b")],
        newest: Newest = 0,
    ) -> Response:
        """Several topics share one connection, of which browsers open six per server over HTTP/1.1. The topics of the
        other streams are `notifications`, `notifications/<user>`, `chat/<room>`, `chat/<room>/presence`,
        `realtime/<type>` and `system/status`."""
        for name in topic:
            refuse_reserved(name)
        limit = hub.max_topics_per_reader
        if len(set(topic)) > limit:  # before each of them is compared with each pattern of a token
            wrong = f"a stream follows 1 to {limit} topics, not {len(set(topic))}"
            raise Problem(422, wrong, fields=[("topic", wrong)])
        require_subscribe(request, topic)
        _check_newest(newest, max_newest)
        return EventStream(hub, topic, request, newest=newest)

    return router


def topic_name(*parts: str, field: str) -> str:
    """The topic of an app for these parts, which may be any text. Raises Problem (422) that names this field of the
    request if the name becomes too long."""
    try:
        return check_topic("/".join(map(topic_part, parts)))
    except InvalidTopic as error:
        wrong = "too long for the name of a topic, in which each character but letters and digits takes several"
        raise Problem(422, f"{field}: {wrong}", fields=[(field, wrong)]) from error


# Topics that cannot be published to, or followed, by their names, and what to use instead.
_RESERVED = {
    "relays": "topics under relays/ belong to the gateway: follow them at the route of the gateway",
    # The id of an answer is the permission to read it: the name of its topic must not be a second one.
    "generations": "topics under generations/ belong to answers: follow them at /generations/{id}/stream",
}


def refuse_reserved(topic: str) -> None:
    """Raises Problem (422) for topics that have routes of their own."""
    first = topic.split("/", 1)[0]
    wrong = _RESERVED.get(first)
    if first.startswith("stream."):
        wrong = "topic names that begin with 'stream.' are reserved for the server"
    if wrong is not None:
        raise Problem(422, wrong, fields=[("topic", "use another name")])


def _check_newest(newest: int, limit: int) -> None:
    if newest > limit:
        wrong = f"a new reader may ask for at most {limit} of the events kept, not {newest}"
        raise Problem(422, wrong, fields=[("newest", wrong)])


def _refuse_forgery(request: Request, topic: str) -> None:
    first = topic.split("/", 1)[0]
    if first not in _SENDERS or caller_of(request).is_admin:
        return
    route = _SENDERS[first]
    instead = f"use {route}, which adds the sender" if route else "its events are the server's own"
    raise Problem(403, f"only admins may publish to {first}/ directly: {instead}")


def _events(kind: str, body: bytes) -> list[Event]:
    """The events of the request's body. `kind`: its media type. Raises Problem (400, 415, 422)."""
    if kind == "text/plain":
        return [_event(_text(body), "message")]
    if kind == "application/json":
        return [_parsed(body.removeprefix(BOM_UTF8), "the body")]
    if kind == "application/x-ndjson":
        lines = body.removeprefix(BOM_UTF8).replace(b"\r\n", b"\n").split(b"\n")
        if len(lines) > _MAX_LINES:
            raise Problem(422, f"the body has {len(lines)} lines: send at most {_MAX_LINES} in one request")
        events = [_parsed(line, f"line {number}") for number, line in enumerate(lines, 1) if line.strip()]
        if not events:
            raise Problem(422, "the body has no events: send one JSON object per line")
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
        check_unique_names(line)
        data = published.data if isinstance(published.data, str) else json_data(published.data)
    except msgspec.ValidationError as error:
        raise Problem(
            422, f'{where}: {error}; an event is {{"data": …, "type": "…"}}', fields=[(where, str(error))]
        ) from error
    except (msgspec.DecodeError, ValueError) as error:  # UnicodeDecodeError is a ValueError, too
        check_encoding(line, where)
        raise Problem(400, f"{where} is not JSON: {error}") from error
    except RecursionError as error:
        raise Problem(400, f"{where} is nested too deeply") from error
    return _event(data, published.type, where)


def _event(data: str, type: str, where: str = "the body") -> Event:
    wrong = None
    if type in ("error", "open"):
        wrong = f"event type {type!r} looks like a change of the connection to EventSource: use another one"
    elif type.startswith("stream."):
        wrong = f"event type {type!r} is reserved: types that begin with 'stream.' belong to the server"
    if wrong is not None:
        raise Problem(422, f"{where}: {wrong}", fields=[("type", "use another type")])
    try:
        return Event(data, type)
    except ValueError as error:
        raise Problem(422, f"{where}: {error}", fields=[(str(error).split(" ", 1)[0], str(error))]) from error
