"""One request and its response: the two ASGI callables that an application is run with.

A request is read by the connection (protocol.py), which calls `feed`, `end` and `abandon`; a response is written here.
An exchange is over when its response is complete, or when it is `gone`: the connection is lost, or the stream has been
handed to the hub (`detach`). After that `receive` reports a disconnect, and `send` does nothing. A client that has only
shut down its side for writing is `leaving`: then `receive` reports a disconnect after the request, and `send` writes.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.types import Message, Scope

from ..asgi.errors import problem
from ..eager import rest_of

if TYPE_CHECKING:
    from ..hub import Subscription
    from ..sse import Event
    from .protocol import Protocol

__all__ = ["LAST_CHUNK", "Exchange", "refusal"]

logger = logging.getLogger("uvicorn.error")  # where the users of uvicorn look for what an application raises

# Bytes of a request's body that wait for the application; then nothing more is read from the socket.
_MAX_BODY_WAITING = 64 * 1024

LAST_CHUNK = b"0\r\n\r\n"

_DISCONNECT: Message = {"type": "http.disconnect"}
_CRLF = b"\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Everything that may stand in a header field (RFC 9110, 5.5). What is left of a head without it are its line ends.
_FIELD_BYTES = bytes([9, *range(32, 127), *range(128, 256)])
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")

# Names of response headers as they have been checked, with the colon. Applications have a few dozen.
_names: dict[bytes, bytes] = {}
_MAX_NAMES = 1_000

_CONTENT_LENGTH, _TRANSFER_ENCODING = b"content-length: ", b"transfer-encoding: "
_CONNECTION, _CONTENT_ENCODING = b"connection: ", b"content-encoding: "
_CHUNKED, _CLOSES = b"transfer-encoding: chunked\r\n", b"connection: close\r\n"

_WITHOUT_BODY = frozenset({204, 304})


def _make_status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES = {status: _make_status_line(status) for status in range(100, 600)}


def refusal(status: int, detail: str, **headers: str) -> bytes:
    """A whole response with a problem document, after which the connection ends."""
    answer = problem(status, detail, headers={"Connection": "close", **headers})
    head = b"".join(b"%b: %b\r\n" % pair for pair in answer.raw_headers)
    return _STATUS_LINES[status] + head + _CRLF + bytes(answer.body)


def _checked_name(name: bytes) -> bytes:
    """`name: ` in lower case. Raises RuntimeError for a name that is no token (RFC 9110, 5.6.2)."""
    lower = name.lower()
    if not lower or not _TOKEN.issuperset(lower):
        raise RuntimeError(f"invalid response header name {name!r}")
    line = lower + b": "
    if len(_names) < _MAX_NAMES:
        _names[name] = line
    return line


class _Fields(NamedTuple):
    """The header fields of a response as they are written, and those of them that frame it. `encoded`: its content."""

    lines: bytes
    length: int | None
    coding: bytes | None
    closes: bool
    encoded: bool


# Of headers that are given as a tuple: an application says by it that they are always the same.
_rendered: dict[tuple[tuple[bytes, bytes], ...], _Fields] = {}
_MAX_RENDERED = 100


def _fields_of(headers: Iterable[tuple[bytes, bytes]]) -> _Fields:
    """Raises RuntimeError for a name or a value that no header may have."""
    if type(headers) is not tuple:
        return _render(headers)
    fields = _rendered.get(headers)
    if fields is None:
        fields = _render(headers)
        if len(_rendered) < _MAX_RENDERED:
            _rendered[headers] = fields
    return fields


def _render(headers: Iterable[tuple[bytes, bytes]]) -> _Fields:
    parts: list[bytes] = []
    length: int | None = None
    coding: bytes | None = None
    closes = encoded = False
    for name, value in headers:
        key = _names.get(name) or _checked_name(name)
        if key == _CONTENT_LENGTH:
            length = int(value)
        elif key == _TRANSFER_ENCODING:
            coding = value.lower()
        elif key == _CONNECTION:
            closes = closes or b"close" in value.lower()
        elif key == _CONTENT_ENCODING:
            encoded = True
        parts += (key, value, _CRLF)
    lines = b"".join(parts)
    # Each line is of a name, a value and a line end.
    if lines.translate(None, _FIELD_BYTES) != _CRLF * (len(parts) // 3):
        raise RuntimeError("a response header has a control character in it")
    return _Fields(lines, length, coding, closes, encoded)


class Exchange:
    """`keep_alive`: whether the connection can be used again after it; `started`, `complete`: the response; `gone`: see
    above. `returning`: the client comes back to a stream with a position; `begun`: its turn has come, or will."""

    __slots__ = (
        "_body",
        "_chunked",
        "_encoded",
        "_expects_continue",
        "_fresh",
        "_left",
        "_more_body",
        "_protocol",
        "_wake",
        "begun",
        "complete",
        "gone",
        "keep_alive",
        "leaving",
        "returning",
        "scope",
        "started",
    )

    def __init__(
        self, protocol: Protocol, *, keep_alive: bool, expects_continue: bool = False, returning: bool = False
    ) -> None:
        self.scope: Scope = {}
        self.keep_alive = keep_alive
        self.returning = returning
        self.begun = self.started = self.complete = self.gone = self.leaving = False
        self._protocol = protocol
        self._expects_continue = expects_continue
        self._body: bytes | bytearray = b""
        self._more_body = True
        self._fresh = False  # there is something that `receive` has not returned yet
        self._wake: asyncio.Event | None = None
        self._chunked = False
        self._encoded = False
        self._left: int | None = None  # bytes that the response still has to have; None where its length is open

    # --- what the connection calls

    def feed(self, body: bytes) -> bool:
        """A piece of the request's body. False where it should not read on until the application has taken it."""
        if self.complete or self.gone:
            return True
        if self._body:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        else:
            self._body = body
        self._wake_up()
        return len(self._body) <= _MAX_BODY_WAITING

    def end(self) -> None:
        """The request is complete."""
        self._more_body = False
        self._wake_up()

    def abandon(self) -> None:
        """The connection is lost, or what came on it is not a request."""
        self.gone = True
        self._wake_up()

    def leave(self) -> None:
        """The client sends nothing more."""
        self.leaving = True
        if self._wake is not None:
            self._wake.set()

    @property
    def endless(self) -> bool:
        """Whether the response has begun, and has no announced length."""
        return self.started and self._left is None

    def begin(self) -> None:
        """Runs the application, at once up to its first wait where it has said that it can be run so."""
        if self.gone:
            return  # the client left while this waited for its turn
        service = self._protocol.service
        running: Coroutine[Any, Any, None] = self._run()
        if service.eager:
            self._protocol.join_writes()
            try:
                waits_for = running.send(None)
            except StopIteration:
                return
            finally:
                self._protocol.flush()
            running = _rest(running, waits_for)
        context = contextvars.Context() if service.reset_contextvars else None
        task = service.loop.create_task(running, context=context)
        service.tasks.add(task)
        task.add_done_callback(service.tasks.discard)

    def respond(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """A whole response, in one step. A Content-Length that the headers do not have is added."""
        service = self._protocol.service
        fields = _fields_of(headers)
        self.keep_alive = self.keep_alive and not fields.closes
        if fields.length is None:
            length = b"content-length: %d\r\n" % len(body)
        elif fields.length == len(body):
            length = b""
        else:
            raise RuntimeError("the response body is not as long as its Content-Length")
        closing = b"" if self.keep_alive or fields.closes else _CLOSES
        if self.scope["method"] == "HEAD":
            body = b""
        if service.access_log is not None:
            service.log_access(self.scope, status)
        self.started = self.complete = True
        parts = (_STATUS_LINES[status], service.default_lines(), fields.lines, length, closing, _CRLF, body)
        self._protocol.write(b"".join(parts))
        self._wake_up()
        self._protocol.responded(self)

    # --- what the application calls

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        if self._over():
            return _DISCONNECT
        if self._expects_continue:
            self._expects_continue = False
            if not self._body and self._more_body:
                self._protocol.write(_CONTINUE)
        if not self._fresh:
            self._protocol.resume_reading()
            if self._wake is None:
                self._wake = asyncio.Event()
            if not self.leaving:
                await self._wake.wait()
            if self._over() or (self.leaving and not self._fresh):
                return _DISCONNECT
        self._fresh = False
        if self._wake is not None:
            self._wake.clear()
        body, self._body = self._body, b""
        return {"type": "http.request", "body": bytes(body), "more_body": self._more_body}

    async def send(self, message: Message) -> None:
        """ASGI's `send`. Raises RuntimeError for what no response consists of."""
        if self._protocol.write_paused and not self.gone:
            await self._protocol.drained()
        if self.gone:
            return
        kind = message["type"]
        if not self.started:
            if kind != "http.response.start":
                raise RuntimeError(f"expected the ASGI message 'http.response.start', not {kind!r}")
            self._write_head(message["status"], message.get("headers", ()))
        elif self.complete:
            raise RuntimeError(f"unexpected ASGI message {kind!r}: the response is complete")
        elif kind != "http.response.body":
            raise RuntimeError(f"expected the ASGI message 'http.response.body', not {kind!r}")
        else:
            self._write_body(message.get("body", b""), more=message.get("more_body", False))

    def respond_at_once(self, status: int, headers: Callable[[], Iterable[tuple[bytes, bytes]]], body: bytes) -> bool:
        """The scope extension `RESPOND` (asgi/extensions.py). False where the client has to take what was written
        before, or where there is nothing to respond to any more."""
        if self.started or self.gone or self._protocol.write_paused:
            return False
        self.respond(status, headers(), body)
        return True

    def take_body(self) -> bytes | None:
        """The scope extension `BODY`."""
        if self._more_body or not self._fresh or self._over():
            return None
        self._fresh = self._expects_continue = False
        if self._wake is not None:
            self._wake.clear()
        body, self._body = self._body, b""
        return bytes(body)

    def detach(self, reader: Subscription, opening: Sequence[Event], first: bytes) -> bool:
        """The scope extension `DIRECT`: hands the rest of the response to the hub, which writes it to the
        transport after the bytes `first`. False where that is not possible, because the response has not begun, is not
        chunked (HTTP/1.0), or is encoded on its way (compression): the portable outlet serves it then."""
        if not self._chunked or self._encoded or self.leaving or self._over() or not self._protocol.is_current(self):
            return False
        self._write_body(first, more=True)
        self.abandon()
        self._protocol.stream(reader, opening, keep_alive=self.keep_alive)
        return True

    # --- the response

    def _write_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        service = self._protocol.service
        fields = _fields_of(headers)
        self._encoded = fields.encoded
        self.keep_alive = self.keep_alive and not fields.closes
        framing = _CHUNKED if self._frame(status, fields.length, fields.coding) else b""
        closing = b"" if self.keep_alive or fields.closes else _CLOSES
        self.started = True
        self._expects_continue = False
        if service.access_log is not None:
            service.log_access(self.scope, status)
        parts = (_STATUS_LINES[status], service.default_lines(), fields.lines, framing, closing, _CRLF)
        self._protocol.write(b"".join(parts))

    def _frame(self, status: int, length: int | None, coding: bytes | None) -> bool:
        """Decides how the body is framed (RFC 9112, 6). True where a header has to say that it is chunked."""
        if self.scope["method"] == "HEAD" or status in _WITHOUT_BODY:
            self._left = 0
            return False
        if coding is None and length is not None:
            self._left = length
            return False
        self._chunked = coding == b"chunked" or (coding is None and self.scope["http_version"] == "1.1")
        if not self._chunked:  # as in HTTP/1.0, which has no chunks: the body ends where the connection does
            self.keep_alive = False
        return self._chunked and coding is None

    def _write_body(self, body: bytes, *, more: bool) -> None:
        protocol = self._protocol
        if self._chunked:
            if body:
                protocol.write(b"%x\r\n%b\r\n%b" % (len(body), body, b"" if more else LAST_CHUNK))
            elif not more:
                protocol.write(LAST_CHUNK)
        elif self.scope["method"] != "HEAD":
            if self._left is not None:
                if len(body) > self._left:
                    raise RuntimeError("the response body is longer than its Content-Length")
                self._left -= len(body)
            if body:
                protocol.write(body)
        if not more:
            if self._left:
                raise RuntimeError("the response body is shorter than its Content-Length")
            self.complete = True
            self._wake_up()
            protocol.responded(self)

    # --- running the application

    async def _run(self) -> None:
        try:
            await self._protocol.service.app(self.scope, self.receive, self.send)
        except asyncio.CancelledError:
            self._protocol.abort()
            raise
        except BaseException as error:
            logger.error("Exception in ASGI application", exc_info=error)
            self._fail()
        else:
            if self.leaving and not self.complete:
                self.abandon()
                self._protocol.close()
            elif not self._over():
                logger.error("The ASGI application returned without completing its response")
                self._fail()
        finally:
            # The scope's extensions refer to this exchange: without the circle both are freed now.
            self.scope = _OVER

    def _fail(self) -> None:
        """A response that was not begun becomes a 500; one that was cannot be completed, and the client must see it."""
        if self._over():
            return
        if self.started:
            self._protocol.abort()
        else:
            self._protocol.fail(self)

    def _over(self) -> bool:
        return self.gone or self.complete

    def _wake_up(self) -> None:
        self._fresh = True
        if self._wake is not None:
            self._wake.set()


_OVER: Scope = {"method": "", "http_version": ""}


async def _rest(running: Coroutine[Any, Any, None], waits_for: Any) -> None:
    """For a task of its own: since Python 3.12 a task takes no generator."""
    await rest_of(running, waits_for)
