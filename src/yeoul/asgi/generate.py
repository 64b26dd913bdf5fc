"""Answering with a generation: start it once, attach to it ever after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from math import ceil
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from ..errors import YeoulError
from ..hub import Hub
from ..hub.job import CONTINUE, DisconnectPolicy
from ..llm.dialects import DIALECTS, Dialect, GenerationInfo, Outcome, State
from ..llm.generation import Generation
from ..llm.generations import Generations
from ..llm.sources import Source, Texts
from ..sse import Event
from .authentication import caller_of
from .errors import Problem, problem_of, retry_after
from .event_stream import EventStream, departure
from .resume import attach_or_start, finite_stream

__all__ = [
    "dialect_named",
    "end_or_departure",
    "failure_events",
    "failure_stream",
    "generate",
    "generation_stream",
    "problem_of_outcome",
    "start_or_attach",
]

_Chunk = TypeVar("_Chunk")

# HTTP's statuses for what a model server failed of; 502 is the usual one.
_STATUSES = {"rate_limited": 429, "timeout": 504}


def dialect_named(name: str) -> type[Dialect]:
    """Raises ValueError, which lists the dialects that there are."""
    dialect = DIALECTS.get(name)
    if dialect is None:
        raise ValueError(f"no dialect {name!r}: use one of {', '.join(DIALECTS)}")
    return dialect


async def generate(
    hub: Hub,
    request: Request,
    source: Source[_Chunk],
    *,
    text: Callable[[_Chunk], str | None] | None = None,
    dialect: str | type[Dialect] = "json",
    provider: str = "app",
    model: str = "app",
    on_disconnect: DisconnectPolicy = CONTINUE,
) -> Response:
    """Streams an answer that survives its reader.

    `source`: an async iterator of text, or a function that makes one (awaited where need be). It is called, and
    consumed, only when this request starts the answer (an iterator that is not needed is closed): a client that comes
    back with its last `id:` (`EventSource` does so by itself, a fetch client by sending the same request with
    `Last-Event-ID`) attaches to the answer it started, at the next token; once it has had the end it gets 204. `text`
    picks the text out of each chunk, for an SDK's stream (None or "" skips it). `on_disconnect`: by default the answer
    goes on without readers.
    """
    form = dialect_named(dialect) if isinstance(dialect, str) else dialect
    generations = Generations.of(hub)
    texts = Texts(source, text)
    taken = False

    async def start(request_key: str | None) -> Generation:
        nonlocal taken
        generation = await generations.start(
            texts,
            provider=provider,
            model=model,
            owner=caller_of(request).owner,
            policy=on_disconnect,
            request_key=request_key,
        )
        taken = True
        return generation

    try:
        return await start_or_attach(generations, request, start, dialect=form)
    finally:
        if not taken:
            await texts.aclose()


async def start_or_attach(
    generations: Generations,
    request: Request,
    start: Callable[[str | None], Awaitable[Generation]],
    *,
    dialect: type[Dialect],
    location: str | None = None,
    failed: Callable[[YeoulError], Response] = problem_of,
) -> Response:
    """The stream of the generation that the request's Last-Event-ID names, or of a new one: `attach_or_start`.

    `location`: the path that generations are found under, for a `Location` header.
    """

    def stream(generation: Generation) -> Response:
        headers = {"location": f"{location}/{generation.id}"} if location else None
        return generation_stream(generation.hub, request, generation, dialect, started=True, headers=headers)

    def lost() -> list[Event]:
        gone = "this answer was interrupted or is no longer kept: ask again"
        return failure_events(dialect, Outcome(State.INTERRUPTED, error=gone, retryable=True))

    return await attach_or_start(generations, request, start, stream=stream, lost=lost, failed=failed)


def failure_events(dialect: type[Dialect], outcome: Outcome) -> list[Event]:
    """How a dialect says that there is no answer, where there is no generation to say it."""
    form = dialect(GenerationInfo("", "", 0))
    return [Event(data, kind) for kind, data in filter(None, (form.finish(outcome), form.end(outcome)))]


def failure_stream(dialect: type[Dialect], error: Exception) -> Response:
    """A stream with status 200 that says what is wrong, for routes whose contract is to fail like that."""
    wait = retry_after(error)
    passes = wait is not None
    kind = "busy" if passes else "rejected"
    outcome = Outcome(State.FAILED, error=str(error), kind=kind, retryable=passes, retry_after=wait)
    return finite_stream(failure_events(dialect, outcome))


def generation_stream(
    hub: Hub,
    request: Request,
    generation: Generation,
    dialect: type[Dialect],
    *,
    started: bool = False,
    snapshot: bool = False,
    headers: Mapping[str, str] | None = None,
) -> EventStream:
    """The generation's events from its beginning, or from the request's Last-Event-ID.

    `snapshot`: a new reader first gets the notes and the text so far as one event, then what follows. `started`: see
    `Generation.encoding`.
    """
    opening: list[Event] = []
    after = generation.origin
    if snapshot and generation.text:
        form = dialect(generation.info)
        notes = filter(None, (form.note(kind, data) for kind, data in generation.notes))
        kind, data = form.delta(generation.text)
        # Whoever is cut between these events has not had the text: it comes back to the beginning.
        opening = [*(Event(note, type, str(generation.origin)) for type, note in notes), Event(data, kind)]
        after = generation.position
    return EventStream(
        hub,
        generation.topic,
        request,
        after=after,
        opening=opening,
        encoding=generation.encoding(dialect, started=started),
        hello=False,
        until_final=True,
        headers=headers,
    )


def problem_of_outcome(outcome: Outcome) -> Problem:
    """The response for an answer that was to be given at once, and has failed."""
    status = _STATUSES.get(outcome.kind or "", 503 if outcome.state is State.INTERRUPTED else 502)
    headers = None if outcome.retry_after is None else {"Retry-After": str(ceil(outcome.retry_after))}
    return Problem(status, outcome.error or str(outcome.state), headers=headers)


async def end_or_departure(request: Request, generation: Generation) -> Outcome:
    """How it ended, for an answer that is given at once: a client that leaves meanwhile stops it, since nobody else
    knows of it."""

    async def stop() -> None:
        await departure(request.receive)
        generation.cancel()

    watch = asyncio.create_task(stop())
    try:
        return await generation.wait()
    finally:
        generation.cancel()  # has an effect only where this request itself was cancelled
        watch.cancel()
        with suppress(asyncio.CancelledError):
            await watch
