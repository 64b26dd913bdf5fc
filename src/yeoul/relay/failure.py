"""Why a relayed stream failed, in a form that readers may see: without an address, without a secret. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from ..errors import (
    EventTooLarge,
    HubClosed,
    InvalidCursor,
    InvalidParameters,
    KeyReused,
    TooManyTopics,
    TooMuchWork,
    UpstreamCut,
    UpstreamError,
    UpstreamGarbage,
    UpstreamRefused,
    UpstreamTimeout,
)
from ..sse import Event
from .route import Route

__all__ = ["GONE", "LOOP", "Failure", "failure_of", "stopped"]

_KNOWN = frozenset(HTTPStatus)


@dataclass(frozen=True, slots=True)
class Failure:
    """- `kind`: the name of the failure in a route's `messages`.
    - `retryable`: whether the same request may succeed later, `retry_after` after how many seconds.
    - `private`: what happened in full, for the log, where that is more than readers may know.
    """

    kind: str
    status: int
    message: str
    retryable: bool = True
    retry_after: float | None = None
    private: str | None = None

    def text(self, route: Route) -> str:
        return route.message((self.kind,), self.message)

    def event(self, route: Route) -> Event:
        return route.error_event.event(self.text(route), self.status, retryable=self.retryable)


GONE = Failure("gone", 410, "this stream was interrupted or is no longer kept: ask again")
LOOP = Failure(
    "loop", 508, "this request came back to the server that sent it: a route leads to itself", retryable=False
)


def stopped(reason: str) -> Failure:
    """`reason`: "cancelled" or "interrupted"."""
    if reason == "cancelled":
        return Failure("stopped", 502, "this stream was stopped", retryable=False)
    return Failure("stopped", 503, "the server ended this stream: ask again", retry_after=1)


def failure_of(error: Exception, name: str) -> Failure:
    """`name`: the upstream's name in messages."""
    text = str(error)
    # What the upstream itself said, and where it is: for the log.
    private = error.full if isinstance(error, UpstreamError) and error.detail else None
    match error:
        case UpstreamRefused(status=None):
            return Failure("unreachable", 502, f"{name} cannot be reached", error.retryable, private=private or text)
        case UpstreamRefused(status=int(status)) if status < 400:
            return Failure(
                "garbage", 502, f"{name} answered {_phrase(status)} instead of a stream", False, private=private or text
            )
        case UpstreamRefused(status=int(status), retry_after=wait):
            # 407 is about the proxy between this server and the upstream; unknown statuses are not in any standard.
            shown = status if status in _KNOWN and status != HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else 502
            return Failure(str(status), shown, text, error.retryable, retry_after=wait, private=private)
        case UpstreamTimeout():
            return Failure("timeout", 504, text, error.retryable, private=private)
        case UpstreamCut():
            return Failure("cut", 502, text, error.retryable, private=private)
        case UpstreamGarbage() | EventTooLarge():
            return Failure("garbage", 502, text, False, private=private)
        case UpstreamError():
            return Failure("cut", 502, text, error.retryable, private=private)
        case InvalidParameters() | KeyReused():
            return Failure("wrong", 422, text, False)
        case InvalidCursor():
            return Failure("wrong", 400, text, False)
        case TooMuchWork():
            return Failure("busy", 429, text, retry_after=5)
        case HubClosed():
            return Failure("busy", 503, text, retry_after=1)
        case TooManyTopics():
            return Failure("busy", 503, text, retry_after=60)
    # Its text may contain a secret.
    return Failure("failed", 500, f"the stream failed ({type(error).__name__})", False, private=repr(error))


def _phrase(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}" if status in _KNOWN else str(status)
