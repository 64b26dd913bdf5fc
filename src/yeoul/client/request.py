"""One request, up to the response that streams: attempts, and the errors of those that fail."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import SimpleNamespace

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ..errors import UpstreamCut, UpstreamError, UpstreamGarbage, UpstreamRefused, UpstreamTimeout
from ..stream.retry import RetryPolicy, parse_retry_after
from .proxies import proxy_for
from .refusal import complaint, readable
from .timeouts import Timeouts

__all__ = ["DEFAULT_MAX_ERROR_BYTES", "Opened", "Request", "close", "open_response", "stream_headers", "tracing"]

# What is read of an error's body. Its message stands at the beginning; an error page of megabytes has no more to say.
DEFAULT_MAX_ERROR_BYTES = 64 * 1024

# How long an error's body may take, in seconds: its status is known already, and is worth more soon than complete.
_ERROR_BODY_SECONDS = 5.0

_MIME_TYPE = "text/event-stream"

# What an event stream begins with, whatever its Content-Type says: a comment, or a field of the standard.
_FIRST_FIELDS = (b":", b"data:", b"event:", b"id:", b"retry:")
_LONGEST_FIELD = max(map(len, _FIRST_FIELDS))
_BLANK = b"\xef\xbb\xbf \t\r\n"

# Content codings that aiohttp decodes, or that change nothing. Others cannot be read.
_KNOWN_ENCODINGS = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of an upstream. `name` is what messages call it; `secrets` never occur in them. `documents`: a
    single JSON value is taken instead of an event stream."""

    session: aiohttp.ClientSession
    method: str
    url: URL
    name: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    timeouts: Timeouts
    max_error_bytes: int
    secrets: Sequence[str] = field(repr=False)
    documents: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """A response that streams. `sent_at`: when there was a connection for the request, in the loop's time; `begun`: the
    bytes of its body that have been read already."""

    response: aiohttp.ClientResponse
    sent_at: float
    begun: bytes


class _Attempt:
    """What aiohttp says about the connection of one attempt, through the signals of `tracing`."""

    def __init__(self, seconds: float | None) -> None:
        self.reused = False
        self.sent_at = asyncio.get_running_loop().time()
        self.limit = asyncio.timeout(None)
        self._seconds = seconds

    def connected(self, *, reused: bool) -> None:
        self.reused = reused
        self.sent_at = asyncio.get_running_loop().time()
        if self._seconds is not None:
            self.limit.reschedule(self.sent_at + self._seconds)


def tracing() -> aiohttp.TraceConfig:
    """What a session must be made with for attempts to know their connection."""

    async def created(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        if isinstance(context.trace_request_ctx, _Attempt):
            context.trace_request_ctx.connected(reused=False)

    async def reused(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        if isinstance(context.trace_request_ctx, _Attempt):
            context.trace_request_ctx.connected(reused=True)

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(created)
    trace.on_connection_reuseconn.append(reused)
    return trace


def stream_headers(headers: Mapping[str, str] | None, last_event_id: str) -> CIMultiDict[str]:
    """What a reader of a stream sends, replaced by what the caller wants to be sent."""
    # identity: a compressor on the way holds tokens back until its block is full.
    own = CIMultiDict({hdrs.ACCEPT: _MIME_TYPE, hdrs.ACCEPT_ENCODING: "identity"})
    if last_event_id:
        own["Last-Event-ID"] = last_event_id
    own.update(headers or {})
    return own


async def open_response(request: Request, retry: RetryPolicy) -> Opened:
    """The first response that streams. Raises the last attempt's UpstreamError if all fail."""
    for delay in (*retry.delays(), None):
        try:
            return await _attempt_on_live_connection(request)
        except UpstreamRefused as refusal:
            wait = _wait_before_next(refusal, delay, retry)
            if wait is None:
                raise
        await asyncio.sleep(wait)
    raise AssertionError("the last delay is None")


def _wait_before_next(refusal: UpstreamRefused, delay: float | None, retry: RetryPolicy) -> float | None:
    """Seconds until the next attempt, None for no other attempt."""
    if delay is None or not _may_pass(refusal, retry):
        return None
    if refusal.retry_after is None:
        return delay
    return refusal.retry_after if refusal.retry_after <= retry.max_retry_after else None


def _may_pass(refusal: UpstreamRefused, retry: RetryPolicy) -> bool:
    if refusal.status is not None:
        return refusal.status in retry.statuses
    cause = refusal.__cause__
    return isinstance(cause, aiohttp.ClientConnectorError) and not isinstance(cause, aiohttp.ClientSSLError)


async def _attempt_on_live_connection(request: Request) -> Opened:
    """One attempt; another one where it got a pooled connection that the upstream had closed in the meantime.

    A server closes an idle connection without knowing that a request is under way to it, so the loss of a reused
    connection before any byte of a response says that the request was not read. (RFC 9112, 9.3.1: a client may repeat
    it. Every SDK does.) A new connection that is lost says nothing of the kind.
    """
    attempt = _Attempt(request.timeouts.first_byte)
    try:
        return await _ask(request, attempt)
    except UpstreamCut:
        if not attempt.reused:
            raise
    return await _ask(request, _Attempt(request.timeouts.first_byte))


async def _ask(request: Request, attempt: _Attempt) -> Opened:
    times = request.timeouts
    try:
        async with attempt.limit:
            response = await request.session.request(
                request.method,
                request.url,
                headers=request.headers,
                data=request.body,
                allow_redirects=False,
                proxy=proxy_for(request.url),
                timeout=aiohttp.ClientTimeout(total=None, connect=times.connect, sock_read=times.first_byte),
                trace_request_ctx=attempt,
            )
    except (aiohttp.ClientError, OSError) as error:
        raise _unanswered(request, error) from error
    try:
        return Opened(response, attempt.sent_at, await _check(request, response, attempt))
    except BaseException:
        close(response)
        raise


def _why(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the name of its host is unknown"
    if isinstance(error, aiohttp.ClientSSLError) or error.errno is None:
        return str(error.strerror or "no connection")
    return os.strerror(error.errno).lower() if error.errno > 0 else "no connection"


def _unanswered(request: Request, error: Exception) -> UpstreamError:
    """What it means that no response came. (All of aiohttp's errors up to the response's head.)"""
    name, times, origin = request.name, request.timeouts, request.url.origin()
    match error:
        case aiohttp.ConnectionTimeoutError():
            return UpstreamTimeout(
                f"{name} did not accept a connection within {times.connect:g} s (connect time-out)",
                detail=f"at {origin}",
            )
        case TimeoutError():
            late = f"{name} did not answer within {times.first_byte:g} s (first-byte time-out)"
            return UpstreamTimeout(late, detail=f"at {origin}")
        case aiohttp.ClientProxyConnectionError():
            return UpstreamRefused(
                f"{name} cannot be reached", detail=f"through the proxy for {origin}: {_why(error.os_error)}"
            )
        case aiohttp.ClientSSLError():
            detail = f"TLS with {origin} failed: {readable(_why(error.os_error), request.secrets, 120)}"
            return UpstreamRefused(f"{name} cannot be reached", detail=detail, retryable=False)
        case aiohttp.ClientConnectorError():
            return UpstreamRefused(f"{name} cannot be reached", detail=f"at {origin}: {_why(error.os_error)}")
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return UpstreamRefused(
                f"the URL of {name} is invalid: it must begin with http:// or https:// and a host", retryable=False
            )
        case aiohttp.ClientHttpProxyError():
            _forget_headers(error)
            return UpstreamRefused(
                f"{name} cannot be reached", detail=f"the proxy for {origin} answered {_status_line(error.status)}"
            )
        case aiohttp.ClientResponseError():
            _forget_headers(error)
            return _unreadable_head(request, error)
    return UpstreamCut(f"{name} closed the connection before it answered", detail=f"at {origin}")


def _unreadable_head(request: Request, error: aiohttp.ClientResponseError) -> UpstreamGarbage:
    name, said = request.name, readable(error.message, request.secrets, 160)
    if "content-encoding" in said:
        return _undecodable(name, said)
    if "Got more than" in said:
        return UpstreamGarbage(f"{name} answered with a header that is too long", detail=said)
    if request.url.scheme == "http":
        said += "; is it a TLS port? then its URL begins with https://"
    return UpstreamGarbage(f"{name} answered with something that is not HTTP", detail=said)


def _undecodable(name: str, what: str) -> UpstreamGarbage:
    return UpstreamGarbage(
        f"{name} compressed its answer in a way that cannot be read",
        detail=f"{what}; the request asked for no compression: turn it off for this URL",
    )


def _forget_headers(error: aiohttp.ClientResponseError) -> None:
    # Its repr shows the request's headers, and it stays the `__cause__` of what we raise: loggers print that.
    error.request_info = error.request_info._replace(headers=CIMultiDictProxy(CIMultiDict()))
    error.args = (error.request_info, ())


async def _check(request: Request, response: aiohttp.ClientResponse, attempt: _Attempt) -> bytes:
    """Raises unless this response is an event stream (or a document, where one will do). Returns what had to be read of
    its body to know."""
    status, name = response.status, request.name
    encoding = response.headers.get(hdrs.CONTENT_ENCODING, "").strip().lower()
    if 200 <= status < 300 and status not in (204, 205):
        if encoding not in _KNOWN_ENCODINGS:
            raise _undecodable(name, f"Content-Encoding: {readable(encoding, request.secrets, 40)}")
        if response.content_type == _MIME_TYPE:
            return b""
        begun = await _begin_body(request, response, attempt)
        start = begun.lstrip(_BLANK)
        if start.startswith(_FIRST_FIELDS) or (request.documents and start[:1] in (b"{", b"[")):
            return begun
    else:
        begun = b""
    body = begun + await _error_body(response, request.max_error_bytes - len(begun))
    said = complaint(body, response.content_type, response.charset, request.secrets)
    raise _refusal(request, response, body, said)


def _refusal(request: Request, response: aiohttp.ClientResponse, body: bytes, said: str) -> UpstreamError:
    status, name = response.status, request.name
    line = _status_line(status)
    if status in (204, 205):
        return UpstreamRefused(f"{name} answered {line}: it has nothing to stream", status=status)
    if status < 300:
        kind = readable(response.headers.get(hdrs.CONTENT_TYPE, "no Content-Type"), request.secrets, 80)
        detail = f"it answered {status} with {kind}" + (f": {said}" if said else "")
        return UpstreamGarbage(f"{name} answered with something that is not an event stream", detail=detail)
    if status < 400:
        detail = f"it answered {line}{_redirect(request, response)}: redirects are not followed, give the final URL"
        return UpstreamRefused(
            f"{name} answered with a redirect",
            status=status,
            detail=detail,
            location=response.headers.get(hdrs.LOCATION, ""),
        )
    where = f"{line} at {request.url.origin()}{request.url.path}"
    default = "{} failed ({})" if status >= 500 else "{} did not accept the request ({})"
    return UpstreamRefused(
        _REFUSALS.get(status, default).format(name, line),
        status=status,
        said=said,
        body=body,
        detail="; ".join(filter(None, (f"{where}: {said}" if said else where, _hint(status, said)))),
        retry_after=parse_retry_after(response.headers.get(hdrs.RETRY_AFTER), _server_time(response)),
    )


def _server_time(response: aiohttp.ClientResponse) -> float:
    """Unix time by the server's clock, against which its own dates are read: this machine's may be wrong."""
    try:
        return parsedate_to_datetime(response.headers[hdrs.DATE]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return time.time()


# The messages for readers, by status: never the upstream's own words, which name accounts, hosts and files.
_REFUSALS = {
    401: "{} refused this server's credentials ({})",
    403: "{} refused this server's credentials ({})",
    404: "{} does not have what was asked for ({})",
    407: "the proxy in front of {} asks for credentials ({})",
    413: "the request is too large for {} ({})",
    429: "{} is receiving too many requests ({})",
}


def _hint(status: int, said: str) -> str:
    if status == 404 and "model" not in said.lower():
        return "check the URL: most model servers want a path in it, as in http://host:port/v1"
    return ""


def _status_line(status: int) -> str:
    # The standard's phrase: the reason on the wire is the upstream's free text.
    return f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)


def _redirect(request: Request, response: aiohttp.ClientResponse) -> str:
    # The query of a redirect often is a ticket.
    target = response.headers.get(hdrs.LOCATION, "").partition("?")[0]
    return f" to {readable(target, request.secrets, 120)}" if target else ""


async def _begin_body(request: Request, response: aiohttp.ClientResponse, attempt: _Attempt) -> bytes:
    """As much of the body as tells an event stream from a document; less where it ends before that."""
    seconds = request.timeouts.first_event or request.timeouts.first_byte
    begun = bytearray()
    try:
        async with asyncio.timeout_at(None if seconds is None else attempt.sent_at + seconds):
            while len(begun.lstrip(_BLANK)) < _LONGEST_FIELD and (data := await response.content.readany()):
                begun += data
                if len(begun) > request.max_error_bytes:
                    break
    except TimeoutError as error:
        raise UpstreamTimeout(f"{request.name} began no answer within {seconds:g} s (first-byte time-out)") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamCut(f"{request.name} broke off: the connection was lost") from error
    return bytes(begun)


async def _error_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Its beginning; as much as there is where it is cut or slow."""
    body = bytearray()
    with suppress(aiohttp.ClientError, OSError):  # TimeoutError is one
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            while len(body) < limit and (data := await response.content.readany()):
                body += data
    return bytes(body[: max(limit, 0)])


def close(response: aiohttp.ClientResponse) -> None:
    """Closes the connection, unless the response was read to its end and the connection went back to the pool.

    Aborted first: closing a TLS transport waits for the peer's farewell, and a peer that still generates sends on.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()
