"""HTTP/1.1 (RFC 9112) between a transport and an ASGI application, with the direct outlet.

Theory of operation. A connection reads requests one after the other, each in three phases: NOTHING of it is there, a
part of its HEAD, a part of its BODY. llhttp parses; what it accepts is checked here once more, as a whole, when a head
is complete. Each request becomes an `Exchange`. One exchange is `current`: its application runs, or waits for its turn.
The requests that a client sends before it has the answer (pipelining) wait in `_queue`, and nothing more is read.

A response ends in one of two ways. The application completes it, or the application hands it to the hub (`stream`):
from then on the connection is the outlet of a reader, and holds neither parser nor scope until that reader is finished.

Every wait for the client has a deadline: its first bytes and each head (`Service.heads`), the next request
(`Service.idle`), and taking the last bytes that were written before a close (`_LINGER`). What a body may take is for
the application: asgi/body.py.

The end of the input (a client that shuts down its side for writing) is not the end of the exchange: what was asked
completely is answered, and then the connection closes. But a client that closes its socket looks the same, and nothing
else tells of it. So the application sees that the client has left, and may answer all the same: what takes long
stops, what is done is acknowledged. A stream ends, one that has begun and one that an `EventSource` asks for.

A request that cannot be read is refused with a problem document after the answers to those before it.
"""

from __future__ import annotations

import asyncio
import errno
import re
from collections import deque
from collections.abc import Iterable, Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import httptools

from ..asgi.errors import FAILED, problem
from ..asgi.extensions import BODY, DIRECT, RESPOND
from ..asgi.headers import accepts
from ..hub import Subscription
from ..hub.reasons import CLIENT_LEFT, SEND_TIMEOUT
from ..sse import Event
from .exchange import Exchange, refusal
from .forwarded import TrustedProxies
from .outlet import DirectOutlet, bound_buffers
from .turns import Turn
from .uvicorn import Service, service_of

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

__all__ = ["MAX_HEAD_BYTES", "Protocol"]

# Bytes of a request's line and header fields, of the trailer fields after a body, and of what is not a request.
MAX_HEAD_BYTES = 64 * 1024

# Seconds for which a client may still take what was written to it before the connection is closed, and how many bytes
# are read and ignored meanwhile.
_LINGER = 2.0
_MAX_IGNORED = 1024 * 1024

# Bytes that wait for the end of a turn of the event loop, to be written together.
_MAX_PENDING = 64 * 1024

_TOO_LARGE = f"the request's head, or what follows its body, is larger than {MAX_HEAD_BYTES} bytes: send less"
_NOT_HTTP = "this is not an HTTP/1.1 request (RFC 9112)"
_NO_PROXY = "this server is not a proxy: CONNECT is not supported"
_OLD_CHUNKS = "HTTP/1.0 has no transfer codings (RFC 9112, 6.1): send a Content-Length, or use HTTP/1.1"
_NO_LENGTH = "the last transfer coding of a request must be `chunked` (RFC 9112, 6.3): nothing else tells where it ends"
_UNKNOWN_CODING = "the only transfer coding that this server knows is `chunked`: send the body without another one"
_BUSY = "this server has as many connections as it may have: try again later"

# Header fields that change how a request is read, each with its bit in `_noted`.
_EXPECT, _CODING, _POSITION, _FORWARDED = 1, 2, 4, 8
_NOTED = {
    b"expect": _EXPECT,
    b"transfer-encoding": _CODING,
    b"last-event-id": _POSITION,
    b"x-forwarded-for": _FORWARDED,
    b"x-forwarded-proto": _FORWARDED,
}

_END_OF_AUTHORITY = re.compile(rb"[/?#]")


class _Phase(Enum):
    """What of a request is there."""

    NOTHING = 0
    HEAD = 1
    BODY = 2


_NOTHING, _HEAD, _BODY = _Phase.NOTHING, _Phase.HEAD, _Phase.BODY


class _Refused(Exception):
    """Raised in a parser's callback to stop it."""


class Protocol(asyncio.Protocol):
    """A connection, as uvicorn makes it (`uvicorn --http yeoul.server.protocol:Protocol`, with the default bounds).

    `header_timeout`: seconds for a complete head, however it trickles in. `proxies`: whose `X-Forwarded-*` is believed;
    None where uvicorn's own middleware sees to it. `bounded`: the listening socket has the options that bound a stream
    (outlet.py), which its connections inherit. `client` and `server`: their addresses, where they are known already.
    """

    __slots__ = (
        "_bounded",
        "_chunk",
        "_client",
        "_closing",
        "_current",
        "_finished",
        "_half_closed",
        "_headers",
        "_incoming",
        "_keep_alive",
        "_last",
        "_loose",
        "_noted",
        "_offer",
        "_parser",
        "_pending",
        "_pending_bytes",
        "_phase",
        "_queue",
        "_reader",
        "_reading_paused",
        "_refusal",
        "_scheme",
        "_server",
        "_shutting_down",
        "_url",
        "_writable",
        "direct",
        "lost",
        "service",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        header_timeout: float = 10.0,
        proxies: TrustedProxies | None = None,
        bounded: bool = False,
        client: Any = None,
        server: Any = None,
    ) -> None:
        self.service: Service = service_of(
            config, server_state, app_state, _loop, header_timeout=header_timeout, proxies=proxies
        )
        self.direct = True
        self.write_paused = False
        self.lost = False
        self._bounded = bounded
        self._client = client
        self._server = server
        self._writable: asyncio.Event | None = None  # made for the first one that waits
        self._pending: list[bytes] | None = None  # what goes out together
        self._pending_bytes = 0
        self._reading_paused = False
        self._shutting_down = False
        self._closing = False  # nothing more is read or begun
        self._half_closed = False  # the client has shut down its side
        self._last = False  # the last request of this connection is there: what follows it is not read
        # The request that is being read.
        self._parser: httptools.HttpRequestParser | None = None
        self._phase = _NOTHING
        self._chunk = 0  # bytes of the piece that is being parsed
        self._loose = 0  # bytes that came since the message began, or since its last piece of body
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._noted = 0
        self._offer = False  # it offers to switch protocols
        self._refusal: tuple[int, str] | None = None
        self._incoming: Exchange | None = None  # its head is complete, and its body is not
        # Those that are being answered, or are to be.
        self._current: Exchange | None = None
        self._queue: deque[Exchange] | None = None  # made for the first one that is pipelined
        # The stream that the hub writes, and the one that was the last thing on this connection.
        self._reader: Subscription | None = None
        self._keep_alive = True
        self._finished: Subscription | None = None

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        info = transport.get_extra_info
        self._client = _address(self._client or info("peername"))
        self._server = _address(self._server or info("sockname"))
        self._scheme = "https" if info("sslcontext") else "http"
        self.service.connections.add(self)
        self.service.heads.start(self)

    def data_received(self, data: bytes) -> None:
        if self._last:
            self._ignore(data)
            return
        self.service.idle.cancel(self)
        if self._phase is _NOTHING:
            self._phase = _HEAD  # also where it is only an empty line, which the parser skips
            if not data.isascii():
                data = _escape_target(data)
        self._feed(data)
        if self._current is not None and not self._current.begun:
            self._current.begun = True
            self._start(self._current)
            if self._current is None and self._reader is None:
                return  # it was answered, and what comes next has its deadline
        self._watch()

    def eof_received(self) -> bool:
        if self._incoming is not None:
            self._drop_incoming()
        self._phase = _NOTHING  # half a head is not a request
        exchange = self._current
        if (
            exchange is None
            or self._scheme == "https"  # where asyncio closes in any case
            or (exchange.endless if exchange.started else _is_event_source(exchange))
        ):
            self.close()
            return False
        self._half_closed = self._last = True
        for each in (exchange, *(self._queue or ())):
            each.leave()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        service = self.service
        self.lost = True
        self.direct = False
        self._pending = None
        service.connections.discard(self)
        service.heads.cancel(self)
        service.idle.cancel(self)
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.disconnected()  # at once: nothing can be written any more
            # The kernel ends a connection whose peer acknowledges nothing for `send_timeout`, too.
            timed_out = isinstance(exc, OSError) and exc.errno == errno.ETIMEDOUT
            service.turns.take(Turn.LEAVING, partial(reader.end, SEND_TIMEOUT if timed_out else CLIENT_LEFT))
        elif self._finished is not None and exc is not None:
            self._finished.connection_reset()  # what was written was not all taken
        self._finished = None
        for exchange in (self._current, *(self._queue or ())):
            if exchange is not None:
                exchange.abandon()
        self._current = self._queue = self._incoming = None
        self._parser = None  # it refers to this connection
        self.resume_writing()

    def pause_writing(self) -> None:
        self.write_paused = True
        if self._writable is not None:
            self._writable.clear()
        if self._reader is not None:
            self._reader.pause()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._writable is not None:
            self._writable.set()
        if self._reader is not None:
            self._reader.resume()

    # --- httptools

    def on_message_begin(self) -> None:
        self._phase = _HEAD
        self._loose = 0
        self._url = b""
        self._headers = []
        self._noted = 0
        self._finished = None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are dropped: they would stand among the headers, which have been judged already (RFC 9110, 6.5.1).
        if self._phase is _HEAD:
            name = name.lower()
            if name in _NOTED:
                self._noted |= _NOTED[name]
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        if self._loose + self._chunk > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES:
            self._stop(431, _TOO_LARGE)
        self._phase = _BODY
        self._loose = 0
        version: str = parser.get_http_version()
        method = parser.get_method()
        if parser.should_upgrade():
            if method == b"CONNECT":
                self._stop(400, _NO_PROXY)
            self._offer = True  # the parser stops here: `_feed` goes on
            return
        if self._noted & _CODING:
            self._check_coding(version)
        exchange = Exchange(
            self,
            keep_alive=version == "1.1" and parser.should_keep_alive(),
            expects_continue=bool(self._noted & _EXPECT) and version == "1.1" and self._expects_continue(),
            returning=bool(self._noted & _POSITION) or b"lastEventId=" in self._url,
        )
        exchange.scope = self._scope(exchange, method, version)
        self._incoming = exchange
        if self._current is None and self._reader is None and not self._queue:
            self._current = exchange
        else:
            if self._queue is None:
                self._queue = deque()
            self._queue.append(exchange)
            self._pause_reading()

    def on_body(self, body: bytes) -> None:
        self._loose = 0
        if self._incoming is not None and not self._incoming.feed(body):
            self._pause_reading()

    def on_message_complete(self) -> None:
        if self._offer:
            return
        self._phase = _NOTHING
        if self._incoming is not None:
            self._incoming.end()
            self._last = self._last or not self._incoming.keep_alive
            self._incoming = None

    # --- reading

    def _feed(self, data: bytes) -> None:
        self._chunk = len(data)
        self._loose += len(data)
        parser = self._parser
        if parser is None:
            parser = self._parser = _new_parser(self)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            self._offer = False
            self._decline_offer(data[error.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(*(self._refusal or (400, _NOT_HTTP)))
            return
        if self._loose > MAX_HEAD_BYTES and self._phase is not _NOTHING:
            self._refuse(431, _TOO_LARGE)

    def _ignore(self, data: bytes) -> None:
        """A client that still sends while the connection is being closed: see `close`."""
        if self._closing:
            self._loose += len(data)
            if self._loose > _MAX_IGNORED:
                self.transport.abort()

    def _stop(self, status: int, detail: str) -> None:
        """Stops the parser, whose message is refused then."""
        self._refusal = status, detail
        raise _Refused

    def _head_bytes(self) -> int:
        return len(self._url) + sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _values(self, wanted: bytes) -> Iterable[bytes]:
        return (value for name, value in self._headers if name == wanted)

    def _expects_continue(self) -> bool:
        return any(value.lower() == b"100-continue" for value in self._values(b"expect"))

    def _check_coding(self, version: str) -> None:
        """RFC 9112, 6.1: chunked, and nothing else, and not in HTTP/1.0. The body would be delivered in a coding that
        its reader does not expect, or end elsewhere than another server thinks."""
        if version != "1.1":
            self._stop(400, _OLD_CHUNKS)
        codings = [c.strip() for c in b",".join(self._values(b"transfer-encoding")).lower().split(b",")]
        if codings[-1] != b"chunked":
            self._stop(400, _NO_LENGTH)
        if len(codings) > 1:
            self._stop(501, _UNKNOWN_CODING)

    def _decline_offer(self, rest: bytes) -> None:
        """A server may ignore an offer to switch protocols (RFC 9110, 7.8): the request is then an ordinary one. llhttp
        takes what follows such a head for the other protocol, so it is given the head without the offer, and then the
        rest. The connection ends with this exchange: what a client has sent behind it may be meant for a tunnel."""
        assert self._parser is not None
        parser, self._parser = self._parser, None
        websocket = self.service.websockets is not None and any(
            value.lower() == b"websocket" for value in self._values(b"upgrade")
        )
        kept = [
            (name, value)
            for name, value in self._headers
            if websocket or name not in (b"connection", b"upgrade", b"http2-settings")
        ]
        line = b"%b %b HTTP/%b\r\n" % (parser.get_method(), self._url, parser.get_http_version().encode())
        head = line + b"".join(b"%b: %b\r\n" % pair for pair in kept)
        if websocket:
            self._closing = self._last = True
            self.service.heads.cancel(self)
            self.service.upgrade(self, head + b"\r\n" + rest)
            return
        self._feed(head + b"connection: close\r\n\r\n" + rest)

    def _scope(self, exchange: Exchange, method: bytes, version: str) -> dict[str, Any]:
        service, url, headers = self.service, self._url, self._headers
        if not url.startswith(b"/"):
            url = self._origin_form(url)
        raw_path, _, query = url.partition(b"#")[0].partition(b"?")
        path = raw_path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        root_path = service.root_path
        # A proxy has removed it, or has not.
        if root_path and path != root_path and not path.startswith(root_path + "/"):
            path, raw_path = root_path + path, root_path.encode("ascii") + raw_path
        client, scheme = self._client, self._scheme
        if self._noted & _FORWARDED and service.proxies is not None and client and client[0] in service.proxies:
            client = service.proxies.client(headers) or client
            scheme = service.proxies.scheme(headers) or scheme
        return {
            "type": "http",
            "asgi": service.asgi,
            "http_version": version,
            "server": self._server,
            "client": client,
            "scheme": scheme,
            "method": method.decode("ascii"),
            "root_path": root_path,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            "state": service.app_state.copy(),
            "extensions": {DIRECT: exchange.detach, RESPOND: exchange.respond_at_once, BODY: exchange.take_body},
        }

    def _origin_form(self, url: bytes) -> bytes:
        """`GET http://name/path HTTP/1.1` is for `name`, whatever its Host header says (RFC 9112, 3.2.2)."""
        if url == b"*":
            return url
        scheme, found, rest = url.partition(b"://")
        if not found or b"/" in scheme:
            self._stop(400, _NOT_HTTP)
        authority = _END_OF_AUTHORITY.split(rest, maxsplit=1)[0]
        places = [place for place, (name, _) in enumerate(self._headers) if name == b"host"]
        if len(places) == 1:
            self._headers[places[0]] = (b"host", authority)
        rest = rest[len(authority) :]
        return rest if rest.startswith(b"/") else b"/" + rest

    def _drop_incoming(self) -> None:
        """What came of this request is all that will come."""
        exchange, self._incoming = self._incoming, None
        if exchange is None:
            return
        exchange.abandon()
        if self._queue and exchange in self._queue:
            self._queue.remove(exchange)
        elif exchange is self._current:
            self._current = None

    # --- answering

    def _start(self, exchange: Exchange) -> None:
        if exchange.gone:
            return  # the client left while this waited for its turn
        if self.service.full:
            answer = problem(503, _BUSY, headers={"Connection": "close", "Retry-After": "1"})
            exchange.respond(503, answer.raw_headers, bytes(answer.body))
            return
        if exchange.returning:
            self.service.turns.take(Turn.RETURNING_REQUEST, exchange.begin)
        else:
            self.service.turns.request(exchange.begin)

    def is_current(self, exchange: Exchange) -> bool:
        """Whether its response is the one to be written now."""
        return self._current is exchange

    def responded(self, exchange: Exchange) -> None:
        """Its response is complete."""
        self._current = None
        self._next(exchange.keep_alive)

    def fail(self, exchange: Exchange) -> None:
        """Its application has failed before it began a response."""
        answer = problem(500, FAILED, headers={"Connection": "close"})
        exchange.respond(500, answer.raw_headers, bytes(answer.body))

    def _next(self, keep_alive: bool) -> None:
        """The connection is free: for the next request, or to be closed."""
        self.service.count_request()
        if self.transport.is_closing():
            return
        if not keep_alive:
            self.close()
        elif self._queue:
            self._current = self._queue.popleft()
            self._current.begun = True
            if not self._queue:
                self.resume_reading()
            # Not at once: a thousand pipelined requests would be as many frames of the stack.
            self.service.turns.take(Turn.REQUEST, partial(self._start, self._current))
        elif self._refusal is not None:
            self._write_refusal()
        elif self._half_closed or self._shutting_down:
            self.close()
        else:
            self.resume_reading()
            self._watch()

    def _refuse(self, status: int, detail: str) -> None:
        """Answers what is not a request, after the requests before it, and ends the connection."""
        self._refusal = status, detail
        self._last = True
        started = self._incoming is not None and self._incoming.started
        self._drop_incoming()
        if started or self._reader is not None or (self._current is not None and self._current.endless):
            self.close()  # nothing is written into another response
        elif self._current is None:
            self._write_refusal()

    def _write_refusal(self) -> None:
        assert self._refusal is not None
        self.write(refusal(*self._refusal))
        self.close()

    # --- writing

    def write(self, data: bytes) -> None:
        """Writes a part of a response. What is written in one turn of the event loop goes out together: each write to
        the transport is a system call, and those were a third of the cost of a small request."""
        if self.lost:
            return
        if self._pending is None:
            self._pending = [data]
            if self.direct:
                self.service.loop.call_soon(self.flush)
        else:
            self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > _MAX_PENDING:
            self._write_pending()

    def join_writes(self) -> None:
        """Nothing is written to the transport until `flush`."""
        self.direct = False

    def flush(self) -> None:
        """Writes what is pending."""
        if not self.lost:
            self.direct = True
            self._write_pending()

    def _write_pending(self) -> None:
        pending, self._pending, self._pending_bytes = self._pending, None, 0
        if pending is not None:
            self.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    # --- flow control and deadlines

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._reading_paused and not self._queue:
            self._reading_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    async def drained(self) -> None:
        """Until the transport takes more, or is lost."""
        if self._writable is None:
            self._writable = asyncio.Event()
        await self._writable.wait()

    def _watch(self) -> None:
        """Sets the deadline for what only the client can bring."""
        service = self.service
        busy = self._current is not None or self._reader is not None
        if self._phase is _NOTHING or busy:
            service.heads.cancel(self)
        elif not self._closing:
            service.heads.start(self)
        if self._phase is _NOTHING and not busy and not self._closing:
            service.idle.start(self)

    def head_is_late(self) -> None:
        """The deadline of `Service.heads`."""
        if self._phase is _HEAD:
            seconds = self.service.heads.seconds
            self._refuse(408, f"the request's head was not complete after {seconds:g} s: send it at once")
        else:
            # Nothing was sent at all, as by browsers that connect in advance and would take a 408 for the answer to
            # what they ask next; or it was answered before its body was there.
            self.close()

    def close(self) -> None:
        """Ends the connection as soon as the client has taken what was written, and after `_LINGER` in any case.

        What a client still sends is read and ignored meanwhile: closing the socket would answer it with a reset, which
        makes the client's kernel throw the response away (RFC 9112, 9.6).
        """
        if self._closing:
            return
        self.flush()
        sends = self._phase is not _NOTHING and not self._half_closed
        self._closing = self._last = True
        self.service.heads.cancel(self)
        self.service.idle.cancel(self)
        if self._reader is not None:
            self._reader.disconnected()  # its outlet takes nothing from here on
        transport = self.transport
        if sends and not self._shutting_down and transport.can_write_eof() and not transport.is_closing():
            transport.write_eof()
            if self._reading_paused:
                self._reading_paused = False
                transport.resume_reading()
        else:
            transport.close()
            if not transport.get_write_buffer_size():
                return
        self.service.loop.call_later(_LINGER, transport.abort)

    def abort(self) -> None:
        """Ends the connection at once: the client sees that its response is not complete."""
        self._pending = None
        self.transport.abort()

    def shutdown(self) -> None:
        """uvicorn begins to shut down. The hub ends its streams by itself; what comes after them is not waited for."""
        self._shutting_down = True
        if self._closing:
            self.transport.close()
        elif self._reader is not None:
            self._keep_alive = False
        elif self._current is None:
            self.close()
        else:
            (self._queue[-1] if self._queue else self._current).keep_alive = False

    # --- the direct outlet

    def stream(self, reader: Subscription, opening: Sequence[Event], *, keep_alive: bool) -> None:
        """The hub writes the rest of the response."""
        self._current = None
        self._reader = reader
        self._keep_alive = keep_alive and not self._shutting_down
        if self._phase is _NOTHING:
            self._parser = None  # an open stream needs no more than its transport
            self._headers = []
        bound_buffers(self.transport, None if self._bounded else reader.send_timeout)
        self.join_writes()  # the head and the first events go out together
        try:
            reader.start(DirectOutlet(self), *opening)
        finally:
            self.flush()
        if self.write_paused:
            reader.pause()  # perhaps since before the stream began

    def stream_finished(self) -> None:
        """The response that the hub has written is complete."""
        self._finished, self._reader = self._reader, None
        self._next(self._keep_alive)


def _new_parser(protocol: Protocol) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(protocol)
    # A request with `Connection: close` is answered whatever comes behind it, which is not read.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _address(info: Any) -> tuple[str, int | None] | None:
    """As ASGI has it: (host, port), or (path, None) of a socket in the file system."""
    if isinstance(info, tuple):
        return str(info[0]), int(info[1])
    return (info, None) if isinstance(info, str) and info else None


def _is_event_source(exchange: Exchange) -> bool:
    return exchange.scope["method"] == "GET" and any(
        name == b"accept" and accepts(value.decode("latin-1"), "text/event-stream")
        for name, value in exchange.scope["headers"]
    )


def _escape_target(data: bytes) -> bytes:
    """Percent-encodes what is not ASCII in a request line. RFC 9112, 3.2 wants that of clients, but curl sends what was
    typed, and the parser would refuse `?message=안녕` with a 400."""
    line, end, rest = data.partition(b"\r\n")
    return b"".join(b"%%%02X" % byte if byte >= 0x80 else bytes((byte,)) for byte in line) + end + rest
