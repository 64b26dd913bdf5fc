"""Requests that start a job, and resume its stream when they are sent again. For every kind of job.

A request is recognised by what it brings:

- a `Last-Event-ID` that names the job: its stream goes on. Such a request never starts anything.
- an `Idempotency-Key`: the job that the same key has started, whether or not it has ended.
- neither, and a GET: the running job of the same request, if its reader was lost before it can have had an `id:`; and
  no job for five seconds after the same request was answered that its stream is complete, since some libraries open a
  new stream whenever one ends.
- all other requests start a job, if a person or a program asked for it: browsers and link previews fetch addresses on
  their own, and jobs cost money.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from ..errors import InvalidCursor, YeoulError
from ..hub import Hub
from ..hub.job import Job, Jobs
from ..sse import Event, encode
from ..stream import Cursor, LastEventId, draw_work_id
from .authentication import caller_of, require_trusted_page, require_unrestricted
from .errors import Problem, problem_of
from .event_stream import STREAM_HEADERS, complete, departure
from .idempotency import REPLAYED, request_key_of
from .origins import require_deliberate
from .rates import count_connect
from .stream_request import StreamRequest

__all__ = ["Completions", "JobRoute", "find_job", "finite_stream", "resume_or_start", "start_once"]

_J = TypeVar("_J", bound=Job)

# The epoch in the ids of a stream that has no job. No broker draws it.
_NO_EPOCH = "over"


class JobRoute(Protocol[_J]):
    """What a route does with its jobs, for one request."""

    @property
    def jobs(self) -> Jobs[_J]: ...

    async def start(self, request_key: str | None) -> _J:
        """Starts the job; the key is for `Jobs.launch`. Raises YeoulError."""
        ...

    def early_response(self, job: _J) -> Coroutine[None, None, Response | None] | None:
        """What is awaited before the response begins, and answered instead of the stream, if anything. None for routes
        that begin at once."""
        ...

    def stream(self, job: _J, opened: StreamRequest) -> Response:
        """The job's stream, from the position in the request on."""
        ...

    def failed(self, error: YeoulError) -> Response:
        """The response where no job was started."""
        ...

    def lost(self, job: str) -> Response:
        """The stream for a reader whose job, of this id, is not known any more."""
        ...


async def resume_or_start(route: JobRoute[_J], request: Request) -> Response:
    """The stream of the job that the request names or has started before, or of a new one."""
    if request.method == "HEAD":
        return _headers_only()
    try:
        require_deliberate(request)
        opened = StreamRequest.of(request)
        await route.jobs.recover()
        if opened.position is not None:
            return _resume(route, request, opened, opened.position)
        key = await request_key_of(request)
        if key is not None:
            job, is_new = await route.jobs.once(key.name, key.content, lambda: _start(route, request, opened))
            response = await _respond(route, request, job, opened)
            if not is_new:
                response.headers[REPLAYED] = "true"
            return response
        same = _fingerprint(request)
        hub = route.jobs.hub
        if same is not None and Completions.of(hub).repeats(same, hub.loop.time()):
            return complete(request)
        abandoned = route.jobs.find_abandoned(same) if same is not None else None
        job = await _start(route, request, opened, same) if abandoned is None else abandoned
        return await _respond(route, request, job, opened)
    except Problem as error:
        return problem_of(error)
    except YeoulError as error:
        return route.failed(error)


async def start_once(jobs: Jobs[_J], request: Request, start: Callable[[], Awaitable[_J]]) -> tuple[_J, bool]:
    """For routes that start a job and do not respond with its stream: the job that `start` starts, and True; or the job
    that the same `Idempotency-Key` has started before, and False. Counts as a stream that is opened.

    Raises Problem (400, 403, 429), and what `start` raises.
    """
    require_deliberate(request)
    count_connect(request)
    key = await request_key_of(request)

    async def checked() -> _J:
        _check_permitted(request)
        return await start()

    if key is None:
        return await checked(), True
    return await jobs.once(key.name, key.content, checked)


def find_job(jobs: Jobs[_J], id: str, request: Request) -> _J | None:
    """The job of this id that the caller may read, None where there is none: the id alone gives others no access."""
    job = jobs.get(id)
    return job if job is not None and caller_of(request).may_read(job.owner) else None


def finite_stream(
    events: Iterable[Event], job: str | None = None, *, headers: Mapping[str, str] | None = None
) -> Response:
    """A stream of these events alone. `job`: the id that the client sent. A client that comes back after the last of
    them is answered that its stream is complete."""
    events = list(events)
    cursor, work = Cursor(_NO_EPOCH, 0), job or draw_work_id()
    ids = [LastEventId(cursor, work, final=number == len(events)) for number in range(1, len(events) + 1)]
    body = b"".join(encode(event, id=str(id)) for event, id in zip(events, ids, strict=True))
    return Response(body, headers={**STREAM_HEADERS, **(headers or {})})


async def _start(route: JobRoute[_J], request: Request, opened: StreamRequest, same: str | None = None) -> _J:
    _check_permitted(request)
    opened.reserve(route.jobs.hub)
    return await route.start(same)


async def _respond(route: JobRoute[_J], request: Request, job: _J, opened: StreamRequest) -> Response:
    waiting = route.early_response(job)
    early = None if waiting is None else await _early_response(request, job, waiting)
    return route.stream(job, opened) if early is None else early


def _resume(route: JobRoute[_J], request: Request, opened: StreamRequest, position: LastEventId) -> Response:
    if position.work is None:
        raise InvalidCursor(
            f"Last-Event-ID '{position}' does not name an answer: "
            "send the last `id:` of this very stream, or none to start a new one"
        )
    job = find_job(route.jobs, position.work, request)
    if position.final:
        same = _fingerprint(request)
        if same is not None:
            hub = route.jobs.hub
            Completions.of(hub).note(same, hub.loop.time())
        if job is None:
            return complete(request)
    if job is not None:
        return route.stream(job, opened)
    # The server was restarted, or the job is no longer kept. To start it again would cost money without being
    # asked for, and to send nothing would let the reader wait.
    return route.lost(position.work)


async def _early_response(request: Request, job: Job, early: Coroutine[None, None, Response | None]) -> Response | None:
    """What `early` returns. A client that leaves meanwhile was never a reader of the job, so its departure is noted
    here."""
    waiting = asyncio.create_task(early)
    leaving = asyncio.create_task(departure(request.receive))
    try:
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        job.reader_lost()
        return Response(status_code=499)  # never sent: the client has left
    finally:
        for task in (waiting, leaving):
            task.cancel()
        await asyncio.gather(waiting, leaving, return_exceptions=True)


def _headers_only() -> Response:
    """To HEAD, which must start nothing: the headers of a stream."""
    response = Response(headers=STREAM_HEADERS)
    del response.headers["content-length"]  # a GET's response has none
    return response


def _check_permitted(request: Request) -> None:
    require_trusted_page(request)
    require_unrestricted(request)


# --- the same request again


def _fingerprint(request: Request) -> str | None:
    """What two requests have in common where one is the other, sent again. A POST's body is not part of it, so that
    POSTs have none. Contains secrets."""
    if request.method != "GET":
        return None
    client = request.client.host if request.client else ""
    headers = request.headers
    # A user is the same with a ticket that is used for the first time, and then with it and a new cookie.
    user = caller_of(request).user
    sent = (user,) if user is not None else (headers.get("cookie", ""), headers.get("authorization", ""))
    who = (client, headers.get("user-agent", ""), *sent)
    return repr((*who, request.url.path, request.url.query))


class Completions:
    """Requests that were answered with "this stream is complete" a moment ago.

    `EventSource` stops then. Some libraries open a new one instead, which would start the same job again and again. So
    the same request is answered in the same way for `WINDOW` seconds. htmx tries again after 0.5 s, 1 s, 2 s and so on:
    whatever comes in pauses that double each time comes from a timer, and not from a person who asks again.
    """

    WINDOW = 5.0
    _DOUBLE = (1.6, 2.4)  # what counts as twice the last pause
    _MOST = 10_000

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, _Completion] = OrderedDict()  # the last answered at the end

    @classmethod
    def of(cls, hub: Hub) -> Completions:
        found = hub.components.get(cls)
        if not isinstance(found, cls):
            found = hub.components[cls] = cls()
        return found

    def note(self, fingerprint: str, now: float) -> None:
        """The request's stream was found complete at `now` (seconds, of a clock that does not go back)."""
        digest = _digest(fingerprint)
        self._known[digest] = _Completion(now, now)
        self._known.move_to_end(digest)
        while len(self._known) > self._MOST:
            self._known.popitem(last=False)

    def repeats(self, fingerprint: str, now: float) -> bool:
        """Whether the request, which names no stream, is answered like the last one. False: it is a new question."""
        digest = _digest(fingerprint)
        known = self._known.get(digest)
        if known is None:
            return False
        pause = now - known.last
        doubles = self._DOUBLE[0] * known.pause <= pause <= self._DOUBLE[1] * known.pause
        if now - known.since >= self.WINDOW and not (doubles and known.doubles):
            del self._known[digest]
            return False
        known.last, known.pause, known.doubles = now, pause, doubles
        self._known.move_to_end(digest)
        return True


@dataclass(slots=True)
class _Completion:
    """`since`: when the stream was found complete. `last`: when the same was answered last, `pause` seconds after the
    time before. `doubles`: whether that was about twice as long as the pause before it."""

    since: float
    last: float
    pause: float = 0.0
    doubles: bool = False


def _digest(fingerprint: str) -> bytes:
    return blake2b(fingerprint.encode(errors="surrogatepass"), digest_size=16).digest()
