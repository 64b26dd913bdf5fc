"""One LLM answer being produced into its topic. It outlives its readers."""

from __future__ import annotations

import time
from array import array
from asyncio import timeout
from bisect import bisect_right
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import UpstreamCut, UpstreamError, UpstreamTimeout, YeoulError
from ..hub import Encoding, Hub
from ..hub.job import CONTINUE, DisconnectPolicy, Job
from ..observe import Distribution, logger
from ..sse import Event, json_data
from ..stream import Cursor
from .dialects import DONE, NOTE, Answer, Dialect, Outcome, State, control_encoder, outcome_events, renderer
from .provider import Finish, Item, Note

__all__ = ["Generation", "GenerationStats"]

# The longest event that a delta becomes, in characters: a provider may send its whole answer as one.
_MAX_DELTA = 16_384


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

    `text` is the answer so far, `notes` what was said beside it, `outcome` how it stands, `position` the cursor of the
    last of these.
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
    ) -> None:
        super().__init__(hub, owner=owner, upstream=provider, policy=policy)
        self.provider = provider
        self.model = model
        self.first_token_at: float | None = None
        self.outcome = Outcome(State.RUNNING)
        self._source = source
        self._stats = stats
        self._max_seconds = max_seconds
        self._max_chars = max_chars
        self._finish: Finish | None = None
        self.notes: list[tuple[str, str]] = []  # (type, JSON) of each
        self._parts: list[str] = []
        self._offsets = array("q")  # of each delta
        self._encodings: dict[tuple[type[Dialect], bool], Encoding] = {}
        self._last_token = 0.0
        self._max_delta = max(1, min(_MAX_DELTA, hub.max_event_bytes // 4))  # UTF-8 has at most 4 bytes a character
        self._position: Cursor | None = None

    @property
    def position(self) -> Cursor:
        return self._position or self.origin

    @property
    def text(self) -> str:
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    @property
    def result(self) -> Any:
        """The answer's JSON value, once it is done, where it was asked for as JSON."""
        return self._finish.result if self._finish and self.outcome.state is State.DONE else None

    @property
    def tokens(self) -> int:
        return len(self._offsets)

    @property
    def undelivered(self) -> int:
        """Tokens that no reader has been handed (so far)."""
        return len(self._offsets) - bisect_right(self._offsets, self.delivered)

    def encoding(self, dialect: type[Dialect], *, started: bool = False) -> Encoding:
        """How readers in this dialect see it. `started`: their request started the work, so ids carry its name, and
        the first event comes before the first token. The same object for all of them: they share the bytes."""
        key = (dialect, started)
        if key not in self._encodings:
            form = dialect(Answer(self.id, self.model, int(self.created)))
            prefix = f"{self.id}." if started else ""
            render = renderer(form, prefix, announce=started)
            self._encodings[key] = Encoding(render, control_encoder(form), prefix)
        return self._encodings[key]

    def first_event(self) -> Event:
        about = {"id": self.id, "provider": self.provider, "model": self.model, "created": int(self.created)}
        return Event(json_data(about), "start")

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
            late = f"the answer took longer than {self._max_seconds:g} s: it was ended there"
            raise UpstreamTimeout(late) from error

    async def release(self) -> None:
        """Closes the request to the model."""
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()

    def conclude(self, stopped: str | None, error: Exception | None) -> list[Event]:
        self.outcome = self._outcome(stopped, error)
        key = (self.provider, str(self.outcome.state))
        self._stats.ended[key] = self._stats.ended.get(key, 0) + 1
        return list(outcome_events(self.outcome))

    def close(self) -> None:
        self._stats.undelivered += self.undelivered
        super().close()

    def __repr__(self) -> str:
        return f"<Generation {self.provider}/{self.model} {self.outcome.state} {self.tokens} tokens>"

    async def _consume(self) -> None:
        chars = 0
        async for item in self._source:
            if isinstance(item, Finish):
                self._finish = item
                continue
            text = json_data(item.data) if isinstance(item, Note) else item.text
            chars += len(text)
            if chars > self._max_chars:
                raise UpstreamError(f"the answer is longer than {self._max_chars} characters: it was ended there")
            await (self._note(item.type, text) if isinstance(item, Note) else self._append(text))

    async def _note(self, kind: str, data: str) -> None:
        self._position = await self.hub.publish(self.topic, Event(data, NOTE + kind))
        self.notes.append((kind, data))

    async def _append(self, text: str) -> None:
        if not text:
            return
        now = self.hub.loop.time()
        if self.first_token_at is None:
            self.first_token_at = time.time()
            self._stats.first_token.observe(self.first_token_at - self.created)
        else:
            self._stats.token_gap.observe(now - self._last_token)
        self._last_token = now
        for piece in _pieces(text, self._max_delta):
            cursor = await self.hub.publish(self.topic, Event(piece, "delta"))
            self._parts.append(piece)
            self._offsets.append(cursor.offset)
            self._position = cursor
        self._stats.tokens += 1

    def _outcome(self, stopped: str | None, error: Exception | None) -> Outcome:
        if stopped == "cancelled":
            return Outcome(State.CANCELLED, error="this answer was stopped")
        if stopped is not None:
            return Outcome(State.INTERRUPTED, error="the server ended this answer: ask again")
        if isinstance(error, UpstreamCut):
            return Outcome(State.INCOMPLETE, error=str(error))
        if isinstance(error, YeoulError):
            return Outcome(State.FAILED, error=str(error))
        if error is not None:
            # Its text is not ours to show: it may hold a secret.
            logger.error("the stream of a generation failed", exc_info=error)
            return Outcome(State.FAILED, error=f"the model's stream failed ({type(error).__name__})")
        if self._finish is None:
            return Outcome(State.INCOMPLETE, error="the model's stream ended without its end marker")
        return Outcome(State.DONE, self._finish.reason, usage=self._finish.usage)


def _pieces(text: str, longest: int) -> list[str]:
    """The text as events can carry it."""
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        text = text.encode(errors="replace").decode()  # half of a pair: UTF-8 has no form for it
    if text == DONE:
        # As one event it would read as the end in the plain dialect.
        return [DONE[:1], DONE[1:]]
    if len(text) <= longest:
        return [text]
    return [text[at : at + longest] for at in range(0, len(text), longest)]
