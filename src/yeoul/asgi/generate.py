"""Answering requests with generations: started once, resumed by the same request whenever it is sent again."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from ..errors import YeoulError
from ..hub import Hub
from ..hub.job import CONTINUE, DisconnectPolicy
from ..llm.dialect import Dialect, GenerationInfo
from ..llm.dialects import DIALECTS, find_dialect, name_of
from ..llm.generation import Generation
from ..llm.generations import Generations
from ..llm.items import Item
from ..llm.outcome import Outcome, State
from ..llm.provider import Prompt
from ..llm.providers import Providers
from ..llm.rendering import snapshot as snapshot_of
from ..llm.sources import Source, Texts
from ..sse import Event
from .authentication import caller_of
from .errors import Problem, problem_of, retry_after
from .event_stream import EventStream, departure
from .paths import external_path
from .resume import find_job, finite_stream, resume_or_start, start_once
from .stream_request import StreamRequest, wants_end_event

__all__ = [
    "AnswerRoute",
    "AnswerService",
    "NewAnswer",
    "end_or_departure",
    "failure_events",
    "failure_stream",
    "generate",
    "generation_stream",
    "problem_of_outcome",
]

_Chunk = TypeVar("_Chunk")

# HTTP's statuses for what a model server failed of; 502 is the usual one.
_STATUSES = {"rate_limited": 429, "timeout": 504}


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
    """Streams an answer that outlives its readers.

    `source`: an async iterator, or a function that returns one (awaited if need be). It is called and consumed only
    when this request starts the answer; an iterator that is not needed is closed. A client that comes back with its
    last `id:` (`EventSource` does so by itself, a fetch client by sending the same request with `Last-Event-ID`) reads
    on at the next token. A client that has read the end gets 204.

    The iterator yields text, the chunks of a stream of the OpenAI SDK, or items of `yeoul.llm` (`Delta`, `Note`,
    `Finish`, as a provider's stream does). For the chunks of other SDKs, `text` returns the text of each (None or ""
    for none).

    `dialect`: how the stream looks, "plain", "json", "envelope", "openai", "ai-sdk" ("ai-sdk-6" and "ai-sdk-5" for
    older versions) or a class. `provider` and `model` are the answer's labels in metrics and in its state.
    `on_disconnect`: what to do without readers; by default the answer goes on.

    Raises TypeError for a source that is neither an async iterator nor a function, ValueError for an unknown dialect.
    """
    form = find_dialect(dialect) if isinstance(dialect, str) else dialect
    texts = Texts(source, text)
    used = False

    def new() -> NewAnswer:
        nonlocal used
        used = True  # from here on the answer closes it
        return NewAnswer(texts, provider, model)

    try:
        return await resume_or_start(AnswerRoute(Generations.of(hub), request, new, form, on_disconnect), request)
    finally:
        if not used:
            await texts.aclose()


@dataclass(slots=True)
class NewAnswer:
    """What an answer is started with. `data`: kept with the generation, for the app that starts it. `message_id`: see
    `GenerationInfo`."""

    source: AsyncIterator[Item]
    provider: str
    model: str
    data: Any = None
    message_id: str | None = None


# Called only where an answer is started. Raises YeoulError.
_New = Callable[[], NewAnswer | Awaitable[NewAnswer]]


class AnswerService:
    """Starts the answers of an app, and finds them again.

    `on_disconnect`: what to do without readers with an answer whose request reads it. `max_tokens`: the bound of an
    answer where the prompt has none; without a bound a small model may write until its context is full. `location`: the
    path under which generations are resources.
    """

    def __init__(
        self,
        generations: Generations,
        providers: Providers,
        *,
        on_disconnect: DisconnectPolicy = CONTINUE,
        max_tokens: int | None = None,
        location: str = "/generations",
    ) -> None:
        self.generations = generations
        self.providers = providers
        self._on_disconnect = on_disconnect
        self._max_tokens = max_tokens
        self._location = location

    def ask(
        self,
        prompt: Prompt,
        provider: str | None = None,
        *,
        source: Callable[[AsyncGenerator[Item, None]], AsyncIterator[Item]] | None = None,
        data: Any = None,
    ) -> NewAnswer:
        """The answer of this provider to the prompt, by default of the server's provider. `source`: what the answer is
        made of, from the provider's stream. Raises UnknownProvider, UnknownModel."""
        chosen = self.providers.choose(provider, prompt.model)
        stream = chosen.stream(self.bounded(prompt))
        return NewAnswer(stream if source is None else source(stream), chosen.name, prompt.model or chosen.model, data)

    def bounded(self, prompt: Prompt) -> Prompt:
        """The prompt with the app's bound, where it has none."""
        return prompt if prompt.max_tokens is not None else replace(prompt, max_tokens=self._max_tokens)

    async def stream(
        self,
        request: Request,
        new: _New,
        *,
        dialect: type[Dialect],
        on_disconnect: DisconnectPolicy | None = None,
        failed: Callable[[YeoulError], Response] = problem_of,
    ) -> Response:
        """The stream of a new answer, or of the one that this request has started before. `failed`: the response where
        `new` raised a YeoulError."""
        policy = self._on_disconnect if on_disconnect is None else on_disconnect
        route = AnswerRoute(self.generations, request, new, dialect, policy, failed, self._location)
        return await resume_or_start(route, request)

    async def start(
        self, request: Request, new: _New, *, on_disconnect: DisconnectPolicy = CONTINUE
    ) -> tuple[Generation, bool]:
        """For routes that do not respond with the stream: a new answer, and True; or the one that the same
        Idempotency-Key has started before, and False. Raises Problem (400, 403, 429), and what `new` raises."""
        route = AnswerRoute(self.generations, request, new, DIALECTS["json"], on_disconnect)
        return await start_once(self.generations, request, lambda: route.start(None))

    def find(self, id: str, request: Request) -> Generation | None:
        """The answer of this id that the caller may read."""
        return find_job(self.generations, id, request)

    def location_of(self, request: Request, generation: Generation) -> str:
        """The path of the answer as a resource, as the client of this request sees it."""
        return external_path(request, f"{self._location}/{generation.id}")


@dataclass(slots=True)
class AnswerRoute:
    """`resume.JobRoute` of generations."""

    jobs: Generations
    request: Request
    new: _New
    dialect: type[Dialect]
    on_disconnect: DisconnectPolicy
    respond_to: Callable[[YeoulError], Response] = problem_of
    location: str | None = None

    async def start(self, request_key: str | None) -> Generation:
        made = self.new()
        answer = await made if inspect.isawaitable(made) else made
        try:
            return await self.jobs.start(
                answer.source,
                provider=answer.provider,
                model=answer.model,
                owner=caller_of(self.request).owner,
                policy=self.on_disconnect,
                request_key=request_key,
                data=answer.data,
                message_id=answer.message_id,
            )
        except BaseException:
            close = getattr(answer.source, "aclose", None)
            if close is not None:
                await close()
            raise

    def early_response(self, job: Generation) -> None:
        return None

    def stream(self, job: Generation, opened: StreamRequest) -> Response:
        headers = self._addresses(job) if self.location else None
        return generation_stream(job.hub, self.request, job, self.dialect, started=True, headers=headers, opened=opened)

    def _addresses(self, job: Generation) -> dict[str, str]:
        """The URLs of the answer and of its stream in this dialect. A client that has started the answer by a POST
        resumes by a GET of the latter."""
        location = external_path(self.request, f"{self.location}/{job.id}")
        stream = f"{location}/stream?dialect={name_of(self.dialect)}"
        if wants_end_event(self.request):
            stream += "&end_event=true"
        return {"location": location, "content-location": stream}

    def failed(self, error: YeoulError) -> Response:
        return self.respond_to(error)

    def lost(self, job: str) -> Response:
        text = "this answer was interrupted or is no longer kept: ask again"
        events = failure_events(self.dialect, Outcome(State.INTERRUPTED, error=text, retryable=True))
        return finite_stream(events, job, headers=self.dialect.headers)


def failure_events(dialect: type[Dialect], outcome: Outcome) -> list[Event]:
    """How a dialect reports that there is no answer, where there is no generation."""
    form = dialect(GenerationInfo("", "", 0))
    return [Event(data, kind) for kind, data in filter(None, (form.finish(outcome), form.end(outcome)))]


def failure_stream(dialect: type[Dialect], error: Exception) -> Response:
    """A stream with status 200 that says what is wrong, for routes whose contract is to fail in this way."""
    wait = retry_after(error)
    passes = wait is not None
    kind = "busy" if passes else "rejected"
    outcome = Outcome(State.FAILED, error=str(error), kind=kind, retryable=passes, retry_after=wait)
    return finite_stream(failure_events(dialect, outcome), headers=dialect.headers)


def generation_stream(
    hub: Hub,
    request: Request,
    generation: Generation,
    dialect: type[Dialect],
    *,
    started: bool = False,
    snapshot: bool = False,
    headers: Mapping[str, str] | None = None,
    opened: StreamRequest | None = None,
) -> EventStream:
    """The generation's events from its beginning, or from the request's Last-Event-ID.

    `snapshot`: a new reader first gets the answer so far in as few events as possible, then what follows. `started`:
    see `Generation.encoding`. `opened`: see EventStream.
    """
    opening: list[Event] = []
    after = generation.origin
    if snapshot:
        shown = snapshot_of(dialect(generation.info), generation.answer)
        # A reader that is cut between these events has not had all: it comes back to the beginning.
        begin = f"{generation.id}.{generation.origin}" if started else str(generation.origin)
        opening = [Event(data, kind, begin) for kind, data in shown]
        if shown:
            opening[-1] = Event(shown[-1][1], shown[-1][0])
            after = generation.position
    return EventStream(
        hub,
        generation.topic,
        request,
        after=after,
        opening=opening,
        encoding=generation.encoding(dialect, started=started, end_event=wants_end_event(request)),
        hello=False,
        until_final=True,
        headers={**dialect.headers, **(headers or {})} or None,
        opened=opened,
    )


def problem_of_outcome(outcome: Outcome) -> Problem:
    """The response for an answer that was to be given at once, and has failed."""
    status = _STATUSES.get(outcome.kind or "", 503 if outcome.state is State.INTERRUPTED else 502)
    headers = None if outcome.retry_after is None else {"Retry-After": str(ceil(outcome.retry_after))}
    return Problem(status, outcome.error or str(outcome.state), headers=headers)


async def end_or_departure(request: Request, generation: Generation) -> Outcome:
    """How it ended, for a response that has the whole answer. A client that leaves meanwhile stops the answer, since
    no other client knows its id."""

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
