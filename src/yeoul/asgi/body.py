"""Bodies of requests: how large they may be, how long they may take, and what JSON they may hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import CoroutineType
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, model_validator
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope

from ..eager import in_task, rest_of
from .errors import Problem
from .extensions import BODY, TakeBody, offered
from .headers import RawHeaders, headers_of, list_members, media_type

__all__ = [
    "BodyLimit",
    "BodyRequest",
    "JsonBody",
    "LimitedReceive",
    "body_type",
    "check_encoding",
    "check_unique_names",
    "read_json",
]

# No body of ours has a tenth of it.
_MOST_FIELDS = 100

# The rest of the body is not read: the connection cannot be used again.
_CLOSE = {"Connection": "close"}


class JsonBody(BaseModel):
    """Its fields, and no others: a misspelled one must not be ignored. Too many others are refused at once, because
    each of them costs an error, and a megabyte holds a hundred thousand: seconds in which no other client is served."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _MOST_FIELDS:
            raise ValueError(f"the body has {len(value)} fields, of which at most {len(cls.model_fields)} are known")
        return value


class BodyLimit:
    """Request bodies have at most `max_bytes`, and are complete `timeout` seconds after the head, where the application
    waits for them."""

    def __init__(self, max_bytes: int, timeout: float = 30.0) -> None:
        self.max_bytes = max_bytes
        self.timeout = timeout
        self._too_large = f"the request body is larger than {max_bytes} bytes: send less, or several requests"

    def check(self, headers: RawHeaders) -> None:
        """Raises Problem (413) for a body whose announced length is over the bound."""
        announced = headers.get(b"content-length")
        if announced is not None and announced.isdigit() and (len(announced) > 18 or int(announced) > self.max_bytes):
            raise Problem(413, self._too_large, headers=_CLOSE)

    def limited(self, scope: Scope, receive: Receive) -> LimitedReceive:
        return LimitedReceive(self, receive, offered(scope, BODY, receive))

    def count(self, received: int) -> None:
        """Raises HTTPException (413) where this many bytes of a body are over the bound. Of this type because FastAPI,
        which reads bodies, lets no other one through."""
        if received > self.max_bytes:
            raise HTTPException(413, self._too_large, _CLOSE)


class LimitedReceive:
    """ASGI's `receive`, which raises HTTPException where a body grows over the bound (413) or comes too slowly (408).

    `take`: the server's offer to hand over a body that is complete already.
    """

    __slots__ = ("_complete", "_deadline", "_limit", "_receive", "_received", "_take")

    def __init__(self, limit: BodyLimit, receive: Receive, take: TakeBody | None) -> None:
        self._limit = limit
        self._receive = receive
        self._take = take
        self._received = 0
        self._complete = False
        self._deadline = asyncio.get_running_loop().time() + limit.timeout

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()  # until the client disconnects
        message = await self._in_time()
        self._complete = not message.get("more_body", False)
        self._received += len(message.get("body", b""))
        self._limit.count(self._received)
        return message

    def whole(self) -> bytes | None:
        """The whole body, in one step; None where it has to be received."""
        body = None if self._take is None or self._received or self._complete else self._take()
        if body is not None:
            self._complete = True
            self._limit.count(len(body))
        return body

    async def _in_time(self) -> Message:
        message: Any = self._receive()
        if isinstance(message, CoroutineType):
            # Nearly always the body is there already: no timer is needed then, and no task for it.
            try:
                waits_for = message.send(None)
            except StopIteration as done:
                return cast(Message, done.value)
            message = rest_of(message, waits_for)
            await in_task()
        try:
            async with asyncio.timeout_at(self._deadline):
                return cast(Message, await message)
        except TimeoutError as error:
            wrong = f"the request body was not complete after {self._limit.timeout:g} s: send it faster, or in parts"
            raise HTTPException(408, wrong, _CLOSE) from error


_UTF_8 = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


def body_type(headers: RawHeaders) -> str:
    """The media type of the body, in lower case; "" where none is announced. Raises Problem (415) for a body that is
    compressed, or in another charset than UTF-8: it would be taken for other text than was sent."""
    if b"content-encoding" in headers:
        _check_not_encoded(headers.all(b"content-encoding"))
    kind, parameters = media_type(headers.text(b"content-type") or "")
    if parameters and parameters.get("charset", "utf-8").lower() not in _UTF_8:
        raise Problem(415, f"the body has the charset {parameters['charset'][:50]!r}: send it as UTF-8")
    return kind


def _check_not_encoded(values: Sequence[bytes]) -> None:
    codings = [coding.lower() for value in values for coding in list_members(value.decode("latin-1"))]
    if any(coding != "identity" for coding in codings):
        raise Problem(
            415,
            f"the body has the Content-Encoding {', '.join(codings)!r}: send it without one",
            headers={"Accept-Encoding": "identity"},
        )


def read_json(body: bytes) -> Any:
    """The value of a JSON text (RFC 8259) in UTF-8. Raises Problem (400) for another encoding, for names that occur
    twice in one object (parsers differ in which of the two counts), and for NaN and infinities."""
    check_encoding(body)
    try:
        return _decode(body.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not JSON in UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise Problem(400, "the body is nested too deeply") from error
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}") from error


def check_encoding(body: bytes, where: str = "the body") -> None:
    """Raises Problem (400) for JSON in UTF-16 or UTF-32, whose first characters, ASCII ones, have zero bytes."""
    if b"\0" in body[:4] or body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise Problem(400, f"{where} is not JSON in UTF-8, but in UTF-16 or UTF-32: send it in UTF-8")


def check_unique_names(body: bytes) -> None:
    """For a text that is known to be JSON in UTF-8. Raises ValueError for a name that occurs twice in one object, and
    RecursionError."""
    _decode(body.decode())


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice[:100]!r} occurs twice in one object")
    return found


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON value")


_decode = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant).decode


class BodyRequest(Request):
    """A request of ours: its body is read without Starlette's generator, and JSON in it as `read_json` reads it."""

    async def body(self) -> bytes:
        """Raises ClientDisconnect."""
        if not hasattr(self, "_body"):
            receive = self.receive
            whole = receive.whole() if isinstance(receive, LimitedReceive) else None
            if whole is not None:
                self._body = whole
                return whole
            pieces = []
            more = True
            while more:
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                pieces.append(message.get("body", b""))
                more = message.get("more_body", False)
            self._body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self._body

    async def json(self) -> Any:
        """Raises HTTPException (400, 415)."""
        try:
            body_type(headers_of(self.scope))
            return read_json(await self.body())
        except Problem as error:
            # Of this type because FastAPI, which reads bodies, lets no other one through.
            raise HTTPException(error.status, error.detail, dict(error.headers or {})) from error
