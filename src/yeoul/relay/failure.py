"""What a relayed stream failed of, in a form that may be shown: no address, no secret. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from ..errors import (
    EventTooLarge,
    HubClosed,
    InvalidCursor,
    InvalidParameters,
    TooManyTopics,
    TooMuchWork,
    UpstreamCut,
    UpstreamError,
    UpstreamGarbage,
    UpstreamRefused,
    UpstreamTimeout,
)
from .route import Route

__all__ = ["GONE", "LOOP", "Failure", "failure_of", "stopped"]

_KNOWN = frozenset(HTTPStatus)


@dataclass(frozen=True, slots=True)
class Failure:
    """`kind` is what a route's `messages` may have own words for, `status` what HTTP calls it; `retry_after` in
    seconds. `private`: what happened in full, for the log, where that is more than whoever asked may know."""

    kind: str
    status: int
    message: str
    retry_after: float | None = None
    private: str | None = None

    def words(self, route: Route) -> str:
        return route.message((self.kind,), self.message)


GONE = Failure("gone", 410, "this stream was interrupted or is no longer kept: ask again")
LOOP = Failure("loop", 508, "this request came back to the server that sent it: a route leads to itself")


def stopped(reason: str) -> Failure:
    """`reason`: "cancelled" or "interrupted"."""
    if reason == "cancelled":
        return Failure("stopped", 502, "this stream was stopped")
    return Failure("stopped", 503, "the server ended this stream: ask again", retry_after=1)


def failure_of(error: Exception, name: str) -> Failure:
    """`name`: what messages call the upstream."""
    text = str(error)
    match error:
        case UpstreamRefused(status=None):
            # The text names the address, which is nobody's business on the outside.
            return Failure("unreachable", 502, f"{name} cannot be reached", private=text)
        case UpstreamRefused(status=int(status)) if status < 400:
            return Failure("garbage", 502, f"{name} answered {_phrase(status)} instead of a stream", private=text)
        case UpstreamRefused(status=int(status), retry_after=wait):
            # 407 is about the proxy between us and the upstream; statuses without a name are some server's own.
            shown = status if status in _KNOWN and status != HTTPStatus.PROXY_AUTHENTICATION_REQUIRED else 502
            return Failure(str(status), shown, text, retry_after=wait)
        case UpstreamTimeout():
            return Failure("timeout", 504, text)
        case UpstreamCut():
            return Failure("cut", 502, text)
        case UpstreamGarbage() | EventTooLarge():
            return Failure("garbage", 502, text)
        case UpstreamError():
            return Failure("cut", 502, text)
        case InvalidParameters():
            return Failure("wrong", 422, text)
        case InvalidCursor():
            return Failure("wrong", 400, text)
        case TooMuchWork():
            return Failure("busy", 429, text, retry_after=5)
        case HubClosed():
            return Failure("busy", 503, text, retry_after=1)
        case TooManyTopics():
            return Failure("busy", 503, text, retry_after=60)
    # Its text is not ours to show: it may hold a secret.
    return Failure("failed", 500, f"the stream failed ({type(error).__name__})", private=repr(error))


def _phrase(status: int) -> str:
    return f"{status} {HTTPStatus(status).phrase}" if status in _KNOWN else str(status)
