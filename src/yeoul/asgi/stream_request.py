"""What a request for a stream says: its position, and whom the stream is for."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from ..errors import InvalidCursor
from ..hub import Hub
from ..hub.limits import Principal, Reservation
from ..stream import LastEventId, UnknownId
from .authentication import principal_of
from .errors import Problem
from .headers import headers_of
from .origins import is_cross_site_navigation, is_speculative
from .rates import count_connect

__all__ = ["StreamRequest", "last_event_id", "read_to_its_end", "wants_end_event"]


# Opening a stream has side effects: its user appears in a chat room, a source is started.
_NO_LINK = "a link from a page of another origin opens no stream: read it with EventSource or fetch"
_NO_PREFETCH = "a prefetch opens no stream: send the request when its events are wanted"


@dataclass(slots=True)
class StreamRequest:
    """Read and counted once per request, by `of`. `position`: what the client has had, None for a new client.
    `unknown`: the id that it brought from another server instead."""

    position: LastEventId | None
    principal: Principal
    unknown: UnknownId | None = None
    reservation: Reservation | None = None

    @classmethod
    def of(cls, request: HTTPConnection, principal: Principal | None = None, *, any_id: bool = False) -> StreamRequest:
        """`principal`: by default the one that the request authenticated as. `any_id`: an id of another server, which a
        client that was moved here still has, is taken as `unknown`: to refuse it would end `EventSource` for good.
        Raises InvalidCursor without that, and Problem: 403 for a link from a page of another origin and for a prefetch,
        429 over the rate at which streams may be opened."""
        if is_cross_site_navigation(request):
            raise Problem(403, _NO_LINK)
        if is_speculative(request):
            raise Problem(403, _NO_PREFETCH)
        count_connect(request)
        scope = request.scope
        position = unknown = None
        if scope["query_string"] or b"last-event-id" in headers_of(scope):  # most clients are new
            try:
                position = last_event_id(request)
            except InvalidCursor:
                if not any_id:
                    raise
                unknown = UnknownId(_ids_of(request)[0])
        return cls(position, principal or principal_of(request), unknown)

    def reserve(self, hub: Hub) -> None:
        """Takes a place for the stream before work is started for it. Raises TooManyConnections."""
        self.reservation = hub.reserve(self.principal)


def wants_end_event(request: HTTPConnection) -> bool:
    """Whether the client asks for an event of its own, `stream.end`, after the last: `?end_event=true`. For libraries
    that close a stream at an event of a given type."""
    return bool(request.scope["query_string"]) and request.query_params.get("end_event") in ("true", "1")


def last_event_id(request: HTTPConnection) -> LastEventId | None:
    """The position the client had: the Last-Event-ID header, else `lastEventId` in the query (for clients that cannot
    set headers on a first request). None where there is none. Raises InvalidCursor, also for the one that is not
    used."""
    positions = [LastEventId.parse(text) for text in _ids_of(request)]
    return positions[0] if positions else None


def read_to_its_end(request: HTTPConnection, work: str) -> bool:
    """Whether the client says that it has received the last event of this work's stream."""
    try:
        position = last_event_id(request)
    except InvalidCursor:
        return False
    return position is not None and position.final and position.work in (None, work)


def _ids_of(request: HTTPConnection) -> list[str]:
    scope = request.scope
    sent = headers_of(scope).text(b"last-event-id")
    asked = request.query_params.get("lastEventId") if scope["query_string"] else None
    return [text for text in (sent, asked) if text]
