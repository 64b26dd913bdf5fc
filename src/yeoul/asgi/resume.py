"""A request that starts work once, and attaches to it ever after. For every kind of work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from ..errors import InvalidCursor, YeoulError
from ..hub.job import Job, Jobs
from ..sse import Event, encode
from ..stream import LastEventId, draw_work_id
from .authentication import caller_of, principal_of, require_trusted_page, require_unrestricted
from .errors import Problem, problem_of
from .event_stream import STREAM_HEADERS, departure, last_event_id
from .origins import require_deliberate
from .rates import count_connect

__all__ = ["attach_or_start", "check_may_start", "find_work", "finite_stream"]

_W = TypeVar("_W", bound=Job)

# Stands where an epoch would in the ids of a stream that has no work behind it (any more): no broker draws it, so that
# the reader's next attempt is recognised, and answered with 204.
_OVER = "over"


async def attach_or_start(
    works: Jobs[_W],
    request: Request,
    start: Callable[[str | None], Awaitable[_W]],
    *,
    stream: Callable[[_W], Response],
    lost: Callable[[], Iterable[Event]],
    failed: Callable[[YeoulError], Response] = problem_of,
    ready: Callable[[_W], Coroutine[None, None, Response | None]] | None = None,
) -> Response:
    """The stream of the work that the request's Last-Event-ID names, or of new work.

    `start` is given what the request can be recognised by, for `Jobs.launch(request_key=…)`; what it raises is answered
    by `failed`, since nothing has been sent yet. `lost`: what to tell a reader whose work nobody knows any more, before
    it is told not to come back. `ready`: awaited before the response to new work begins, which is what it answers, or
    the stream where that is None.
    """
    if request.method == "HEAD":
        return _headers_only()
    try:
        _check_was_asked(request)
    except Problem as error:
        return problem_of(error)
    try:
        position = last_event_id(request)
        if position is not None:
            return _attach(works, request, position, stream, lost)
        request_key = _request_key(request)
        work = works.find_abandoned(request_key) if request_key else None
        if work is None:
            _check_right(request)
            works.hub.check_admission(principal_of(request))  # or it would be paid for, and nobody given it
            work = await start(request_key)
    except YeoulError as error:
        return failed(error)
    early = await _before_the_head(request, work, ready(work)) if ready is not None else None
    return early if early is not None else stream(work)


def find_work(works: Jobs[_W], id: str, request: Request) -> _W | None:
    """The work of this id, if there is one that is the caller's to know: an id that somebody else has got hold of
    leads to nothing."""
    work = works.get(id)
    return work if work is not None and caller_of(request).may_read(work.owner) else None


def finite_stream(events: Iterable[Event], work: str | None = None) -> Response:
    """A stream of these events alone. A reader that comes back after it gets 204."""
    id = f"{work or draw_work_id()}.{_OVER}-0"
    return Response(b"".join(encode(event, id=id) for event in events), headers=STREAM_HEADERS)


def _attach(
    works: Jobs[_W],
    request: Request,
    position: LastEventId,
    stream: Callable[[_W], Response],
    lost: Callable[[], Iterable[Event]],
) -> Response:
    if position.work is None:
        raise InvalidCursor(
            f"Last-Event-ID '{position.cursor}' names no answer: "
            "send the last `id:` of this very stream, or none to ask anew"
        )
    work = find_work(works, position.work, request)
    if work is not None:
        return stream(work)
    if position.cursor.epoch == _OVER:
        return Response(status_code=204, headers={"cache-control": "no-store"})
    # The work is gone: the server was started anew, or it is no longer kept. To begin it again would be to pay twice
    # without being asked; to say nothing would be to let the reader hang.
    return finite_stream(lost(), position.work)


async def _before_the_head(
    request: Request, work: Job, ready: Coroutine[None, None, Response | None]
) -> Response | None:
    """What `ready` answers. A client that leaves meanwhile has never read, so that its leaving is noted here."""
    waiting = asyncio.create_task(ready)
    leaving = asyncio.create_task(departure(request.receive))
    try:
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        work.reader_lost()
        return Response(status_code=499)  # nobody is there to read it
    finally:
        for task in (waiting, leaving):
            task.cancel()
        await asyncio.gather(waiting, leaving, return_exceptions=True)


def _headers_only() -> Response:
    """To HEAD: it asks what a GET would answer, and must start nothing."""
    response = Response(headers=STREAM_HEADERS)
    del response.headers["content-length"]  # a GET's answer has none
    return response


def check_may_start(request: Request) -> None:
    """For routes that start work which is paid for, and do not answer with its stream. Counts as a stream that is
    opened. Raises Problem (403, 429)."""
    _check_was_asked(request)
    _check_right(request)


def _check_was_asked(request: Request) -> None:
    require_deliberate(request)
    count_connect(request)  # before there is work to pay for


def _check_right(request: Request) -> None:
    require_trusted_page(request)
    require_unrestricted(request)


def _request_key(request: Request) -> str | None:
    """What makes two requests the same one, sent again. A POST's body is not in it, so POSTs have none."""
    if request.method != "GET":
        return None
    client = request.client.host if request.client else ""
    headers = request.headers
    # A user is the same with a ticket that is used for the first time, and then with it and a new cookie.
    user = caller_of(request).user
    sent = (user,) if user is not None else (headers.get("cookie", ""), headers.get("authorization", ""))
    who = (client, headers.get("user-agent", ""), *sent)
    return repr((*who, request.url.path, request.url.query))
