"""One LLM answer being produced into its topic. It outlives its readers."""

from __future__ import annotations

import time
from array import array
from asyncio import timeout
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import BrokerUnavailable, DatabaseUnavailable, UpstreamCut, UpstreamError, UpstreamTimeout, YeoulError
from ..hub import Encoding, Hub
from ..hub.job import CONTINUE, DisconnectPolicy, Job
from ..observe import Distribution, logger
from ..sse import Event, json_data
from ..sse.event import checked_event
from ..stream import Cursor, Frame
from .answer import DONE, Answer
from .dialect import Dialect, GenerationInfo
from .items import Delta, Finish, Item
from .outcome import Outcome, State, outcome_events, outcome_of
from .rendering import control_encoder, renderer

__all__ = ["Generation", "GenerationStats"]


# The types of the last events of its topic.
_LAST = ("finish", "end", "last")


@dataclass(slots=True)
class GenerationStats:
    """What generations have done. Seconds and tokens (one delta counts as one)."""

    started: int = 0
    ended: dict[tuple[str, str], int] = field(default_factory=dict)  # (provider, state)
    tokens: int = 0
    undelivered: int = 0
    first_token: Distribution = field(default_factory=Distribution)
    token_gap: Distribution = field(default_factory=Distribution)


class Generation(Job):
    """Runs a provider's stream into the topic `generations/<id>`. Made by `Generations.start`.

    `answer` has the parts so far, `text` what there is to read of them, `outcome` its state, `position` the cursor of
    its last event. `data` is what the app that started it keeps with it. `message_id`: see `GenerationInfo`.
    `show_details`: readers see what the upstream itself said of a failure, too.
    """

    kind = "generations"

    def __init__(
        self,
        hub: Hub,
        source: AsyncIterator[Item],
        stats: GenerationStats,
        *,
        provider: str,
        model: str,
        owner: str | None = None,
        policy: DisconnectPolicy = CONTINUE,
        max_seconds: float,
        max_chars: int,
        show_details: bool = False,
        data: Any = None,
        message_id: str | None = None,
        id: str | None = None,
        created: float | None = None,
    ) -> None:
        super().__init__(hub, owner=owner, upstream=provider, policy=policy, id=id, created=created)
        self.provider = provider
        self.model = model
        self.data = data
        self.message_id = message_id
        self.answer = Answer(hub.max_event_bytes)
        self.first_token_at: float | None = None
        self.outcome = Outcome(State.RUNNING)
        self._source = source
        self._stats = stats
        self._max_seconds = max_seconds
        self._max_chars = max_chars
        self._show_details = show_details
        self._finish: Finish | None = None
        self._chars = 0  # of texts, and of the JSON of all other parts
        self._offsets = array("q")  # of each delta
        self._encodings: dict[tuple[type[Dialect], bool, bool], Encoding] = {}
        self._last_token = 0.0
        self._position: Cursor | None = None

    @property
    def info(self) -> GenerationInfo:
        return GenerationInfo(self.id, self.model, int(self.created), self.message_id)

    @property
    def position(self) -> Cursor:
        # The first event stands right after the origin.
        return self._position or Cursor(self.origin.epoch, self.origin.offset + 1)

    @property
    def text(self) -> str:
        return self.answer.text

    @property
    def result(self) -> Any:
        """The answer's JSON value, once it is done, where the app asked for JSON."""
        return self._finish.result if self._finish and self.outcome.state is State.DONE else None

    @property
    def tokens(self) -> int:
        return len(self._offsets)

    @property
    def undelivered(self) -> int:
        """Tokens that have not been delivered to any reader (so far)."""
        return len(self._offsets) - bisect_right(self._offsets, self.delivered)

    def encoding(self, dialect: type[Dialect], *, started: bool = False, end_event: bool = False) -> Encoding:
        """How readers in this dialect see it. `started`: their request started the work, so ids carry its name, and
        the first event comes before the first token. `end_event`: they have asked for a named last event. The same
        object for all of these readers: they share the bytes."""
        key = (dialect, started, end_event)
        if key not in self._encodings:
            form = dialect(self.info)
            prefix = f"{self.id}." if started else ""
            render = renderer(form, prefix, announce=started, end_event=end_event)
            self._encodings[key] = Encoding(render, control_encoder(form), prefix)
        return self._encodings[key]

    def first_event(self) -> Event:
        about = {
            "id": self.id,
            "provider": self.provider,
            "model": self.model,
            "created": self.created,
            "owner": self.owner,
            "message_id": self.message_id,
        }
        return Event(json_data(about), "start")

    def read_back(self, frames: Sequence[Frame]) -> None:
        self._take_in(frames[1:])

    def _take_in(self, frames: Sequence[Frame]) -> None:
        """Events of its topic that it has not noted."""
        for frame in frames:
            event = frame.event
            if event.type in _LAST:
                # The position stays before them: whoever is shown the answer so far has its end still to come.
                self.outcome = outcome_of(event.data)
                continue
            self._position = Cursor(frame.epoch, frame.offset)
            self.answer.add([event])
            if event.type.startswith("text."):
                self._offsets.append(frame.offset)

    async def wait(self) -> Outcome:
        """Until it has ended."""
        await self.ended()
        return self.outcome

    async def produce(self) -> None:
        limit = timeout(self._max_seconds)
        try:
            async with limit:
                await self._consume()
        except TimeoutError as error:
            if not limit.expired():
                raise
            late = f"the answer took longer than {self._max_seconds:g} s and was stopped"
            raise UpstreamTimeout(late, retryable=False) from error

    async def release(self) -> None:
        """Closes the request to the model."""
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    def conclude(self, stopped: str | None, error: Exception | None) -> list[Event]:
        # A token that was being written when it was stopped: readers have it.
        self._take_in(self.published_after(self.position.offset))
        self.outcome = self._outcome(stopped, error)
        key = (self.provider, str(self.outcome.state))
        self._stats.ended[key] = self._stats.ended.get(key, 0) + 1
        done = self.outcome.state is State.DONE
        return [*self.answer.closing(done=done), *outcome_events(self.outcome)]

    def close(self) -> None:
        self._stats.undelivered += self.undelivered
        super().close()

    def __repr__(self) -> str:
        return f"<Generation {self.provider}/{self.model} {self.outcome.state} {self.tokens} tokens>"

    async def _consume(self) -> None:
        # Each token goes through this loop: what it needs is looked up before.
        publish, clock, topic, answer = self.hub.publish, self.hub.loop.time, self.topic, self.answer
        longest = answer.longest
        async for item in self._source:
            if type(item) is not Delta:
                await self._take(item)
                continue
            text = item.text
            if not text:
                continue
            self._chars += len(text)
            if self._chars > self._max_chars:
                raise self._too_long()
            self._note_token(clock())
            pieces = answer.text_pieces
            if pieces is not None and text.isascii() and len(text) <= longest and text != DONE:
                assert answer.text_type is not None
                cursor = await publish(topic, checked_event(text, answer.text_type))
                pieces.append(text)
            else:
                cursor = await self._publish(answer.events(item))
            self._offsets.append(cursor.offset)
            self._position = cursor

    async def _take(self, item: Item) -> None:
        if isinstance(item, Finish):
            self._finish = item
            return
        events = self.answer.events(item)
        self._chars += sum(len(event.data) for event in events)
        if self._chars > self._max_chars:
            raise self._too_long()
        await self._publish(events)

    async def _publish(self, events: Sequence[Event]) -> Cursor:
        """In batches: what is very long must not push its own beginning out of the topic before it is read."""
        at, cursor = 0, self.position
        while at < len(events):
            end, chars = at, 0
            while end < len(events) and (end == at or chars + len(events[end].data) <= self.answer.longest):
                chars += len(events[end].data)
                end += 1
            batch = events[at:end]
            cursor = self._position = await self.hub.publish(self.topic, *batch)
            self.answer.add(batch)
            at = end
        return cursor

    def _too_long(self) -> UpstreamError:
        long = f"the answer is longer than {self._max_chars} characters and was stopped"
        return UpstreamError(long, kind="too_long", retryable=False)

    def _note_token(self, now: float) -> None:
        stats = self._stats
        stats.tokens += 1
        if self._last_token:
            stats.token_gap.observe(now - self._last_token)
        else:
            self.first_token_at = time.time()
            stats.first_token.observe(self.first_token_at - self.created)
        self._last_token = now

    def _outcome(self, stopped: str | None, error: Exception | None) -> Outcome:
        if stopped == "cancelled":
            return Outcome(State.CANCELLED, error="this answer was stopped")
        if stopped is not None:
            return Outcome(State.INTERRUPTED, error="the server ended this answer: ask again", retryable=True)
        if isinstance(error, UpstreamError):
            return self._upstream_failure(error)
        if isinstance(error, YeoulError):
            return Outcome(
                State.FAILED, error=str(error), retryable=isinstance(error, (BrokerUnavailable, DatabaseUnavailable))
            )
        if error is not None:
            # Its text may hold a secret: it goes to the log alone.
            logger.error("the stream of a generation failed", exc_info=error)
            return Outcome(State.FAILED, error=f"the model's stream failed ({type(error).__name__})")
        if self._finish is None:
            ended = "the model's stream ended without its end marker"
            return Outcome(State.INCOMPLETE, error=ended, kind="cut", retryable=True)
        return Outcome(State.DONE, self._finish.reason, usage=self._finish.usage or self.answer.usage)

    def _upstream_failure(self, error: UpstreamError) -> Outcome:
        logger.warning("answer %s of %s (%s) failed: %s", self.id, self.provider, self.model, error.full)
        return Outcome(
            State.INCOMPLETE if isinstance(error, UpstreamCut) else State.FAILED,
            error=error.full if self._show_details else str(error),
            kind=error.kind,
            retryable=error.retryable,
            retry_after=error.retry_after,
        )
