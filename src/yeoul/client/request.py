"""One request, up to the answer that streams: its attempts, and what it means when there is none."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from ..errors import UpstreamCut, UpstreamError, UpstreamGarbage, UpstreamRefused, UpstreamTimeout
from ..observe import logger
from ..stream.retry import RETRYABLE_STATUSES, RetryPolicy, parse_retry_after
from .refusal import complaint, readable

__all__ = ["DEFAULT_MAX_ERROR_BYTES", "Request", "Timeouts", "answer", "close", "stream_headers"]

# What is read of an error's body. Its message stands at the beginning; an error page of megabytes has no more to say.
DEFAULT_MAX_ERROR_BYTES = 64 * 1024

# How long an error's body may take, in seconds: its status is known already, and is worth more soon than complete.
_ERROR_BODY_SECONDS = 5.0

_MIME_TYPE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an upstream may be silent, in seconds; None is for ever.

    `connect` covers name, TCP and TLS; `first_byte` the wait for the answer's head, and after it the wait for the
    first byte of its body; `idle` every later wait (comments end it too).
    """

    connect: float | None = 5.0
    first_byte: float | None = 60.0
    idle: float | None = 60.0

    def __post_init__(self) -> None:
        if any(seconds is not None and not seconds > 0 for seconds in (self.connect, self.first_byte, self.idle)):
            raise ValueError(f"time-outs are seconds > 0, or None, not {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of an upstream. `name` is what messages call it; `secrets` never occur in them."""

    session: aiohttp.ClientSession
    method: str
    url: URL
    name: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    timeouts: Timeouts
    max_error_bytes: int
    secrets: Sequence[str] = field(repr=False)


def stream_headers(headers: Mapping[str, str] | None, last_event_id: str) -> CIMultiDict[str]:
    """What a reader of a stream sends, and over it what the caller wants sent."""
    # identity: a compressor on the way holds tokens back until its block is full.
    own = CIMultiDict({hdrs.ACCEPT: _MIME_TYPE, hdrs.ACCEPT_ENCODING: "identity"})
    if last_event_id:
        own["Last-Event-ID"] = last_event_id
    own.update(headers or {})
    return own


async def answer(request: Request, retry: RetryPolicy) -> aiohttp.ClientResponse:
    """The first answer that streams, or the last refusal."""
    for delay in (*retry.delays(), None):
        try:
            return await _ask(request)
        except UpstreamRefused as refusal:
            wait = _wait_before_next(refusal, delay, retry)
            if wait is None:
                raise
        await asyncio.sleep(wait)
    raise AssertionError("the last delay is None")


def _wait_before_next(refusal: UpstreamRefused, delay: float | None, retry: RetryPolicy) -> float | None:
    """Seconds until the next attempt, None for no other attempt."""
    if delay is None or not _may_pass(refusal):
        return None
    if refusal.retry_after is None:
        return delay
    return refusal.retry_after if refusal.retry_after <= retry.max_retry_after else None


def _may_pass(refusal: UpstreamRefused) -> bool:
    if refusal.status is not None:
        return refusal.status in RETRYABLE_STATUSES
    cause = refusal.__cause__
    return isinstance(cause, aiohttp.ClientConnectorError) and not isinstance(cause, aiohttp.ClientSSLError)


async def _ask(request: Request) -> aiohttp.ClientResponse:
    """One attempt."""
    times = request.timeouts
    try:
        response = await request.session.request(
            request.method,
            request.url,
            headers=request.headers,
            data=request.body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=times.connect, sock_read=times.first_byte),
        )
    except (aiohttp.ClientError, OSError) as error:
        raise _unanswered(request, error) from error
    try:
        await _check(request, response)
    except BaseException:
        close(response)
        raise
    return response


def _why(error: OSError) -> str:
    """Without the address that is in the error's own words."""
    if isinstance(error, socket.gaierror):
        return "its host's name is unknown"
    return os.strerror(error.errno).lower() if error.errno else "no connection"


def _unanswered(request: Request, error: Exception) -> UpstreamError:
    """What it means that no answer came. (All of aiohttp's errors up to the answer's head.)"""
    name, times = request.name, request.timeouts
    match error:
        case aiohttp.ConnectionTimeoutError():
            return UpstreamTimeout(f"{name} did not accept a connection within {times.connect:g} s (connect time-out)")
        case TimeoutError():
            return UpstreamTimeout(f"{name} did not answer within {times.first_byte:g} s (first-byte time-out)")
        case aiohttp.ClientConnectorError():
            # Its address may be nobody's business outside: it is for the log.
            logger.warning("%s cannot be reached at %s: %s", name, request.url.origin(), error.os_error)
            return UpstreamRefused(f"{name} cannot be reached: {_why(error.os_error)}")
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return UpstreamRefused(f"the URL of {name} is not one: it must begin with http:// or https:// and a host")
        case aiohttp.ClientHttpProxyError():
            _forget_headers(error)
            return UpstreamRefused(f"the proxy on the way to {name} refused: {_status_line(error.status)}")
        case aiohttp.ClientResponseError():
            _forget_headers(error)
            return UpstreamGarbage(f"{name} answered with something that is not HTTP")
    return UpstreamCut(f"{name} closed the connection before it answered")


def _forget_headers(error: aiohttp.ClientResponseError) -> None:
    # Its repr shows the request's headers, and it stays the `__cause__` of what we raise: loggers print that.
    error.request_info = error.request_info._replace(headers=CIMultiDictProxy(CIMultiDict()))
    error.args = (error.request_info, ())


async def _check(request: Request, response: aiohttp.ClientResponse) -> None:
    """Raises unless this answer is an event stream."""
    status, name = response.status, request.name
    if 200 <= status < 300 and response.content_type == _MIME_TYPE:
        return
    if status in (204, 205):
        raise UpstreamRefused(f"{name} answered {_status_line(status)}: it has nothing to stream", status=status)
    if 300 <= status < 400:
        raise UpstreamRefused(f"{name} answered {_status_line(status)}{_redirect(request, response)}", status=status)
    said = complaint(
        await _error_body(response, request.max_error_bytes),
        response.content_type,
        response.charset,
        request.secrets,
    )
    if status < 300:
        kind = readable(response.headers.get(hdrs.CONTENT_TYPE, "no Content-Type"), request.secrets, 80)
        raise UpstreamGarbage(f"{name} answered {status} with {kind}, not {_MIME_TYPE}" + (f": {said}" if said else ""))
    raise UpstreamRefused(
        f"{name} answered {_status_line(status)}" + (f": {said}" if said else ""),
        status=status,
        retry_after=parse_retry_after(response.headers.get(hdrs.RETRY_AFTER), time.time()),
    )


def _status_line(status: int) -> str:
    # The standard's phrase: the reason on the wire is the upstream's free text.
    return f"{status} {HTTPStatus(status).phrase}" if status in set(HTTPStatus) else str(status)


def _redirect(request: Request, response: aiohttp.ClientResponse) -> str:
    # The query of a redirect often is a ticket.
    target = response.headers.get(hdrs.LOCATION, "").partition("?")[0]
    to = f" to {readable(target, request.secrets, 120)}" if target else ""
    return f", a redirect{to}: redirects are not followed, give the URL that answers itself"


async def _error_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Its beginning; what came of it where it is cut or slow."""
    body = bytearray()
    with suppress(aiohttp.ClientError, OSError):  # TimeoutError is one
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            while len(body) < limit and (data := await response.content.readany()):
                body += data
    return bytes(body[:limit])


def close(response: aiohttp.ClientResponse) -> None:
    """Closes the connection, unless the answer was read to its end and the connection went back to the pool.

    Aborted first: closing a TLS transport waits for the peer's farewell, and a peer that still generates sends on.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()
