"""One LLM answer being produced into its topic. It outlives its readers."""

from __future__ import annotations

import asyncio
import time
from array import array
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from ..errors import UpstreamCut, UpstreamError, UpstreamTimeout
from ..hub import Encoding, Hub, Subscription
from ..observe import Distribution, logger
from ..sse import Event, json_data
from ..stream import Cursor, draw_work_id
from .dialects import DONE, Answer, Dialect, Outcome, State, control_encoder, outcome_events, renderer
from .provider import Delta, Finish

__all__ = ["CANCEL", "CONTINUE", "DisconnectPolicy", "Generation", "GenerationStats"]

# The longest event that a delta becomes, in characters: a provider may send its whole answer as one.
_MAX_DELTA = 16_384


@dataclass(frozen=True, slots=True)
class DisconnectPolicy:
    """What becomes of an answer that nobody reads: `cancel_after` seconds without a reader it is stopped; 0 is at
    once, None never."""

    cancel_after: float | None = None

    def __post_init__(self) -> None:
        if self.cancel_after is not None and not 0 <= self.cancel_after <= 86_400:
            raise ValueError("cancel_after is 0 to 86400 seconds, or None")


CONTINUE = DisconnectPolicy()
CANCEL = DisconnectPolicy(0)

# A reader that was told to come back, or that was promised by a Location, is given this long (seconds).
_COME_BACK = 30.0


@dataclass(slots=True)
class GenerationStats:
    """What generations have done. Seconds and tokens (one delta counts as one)."""

    running: int = 0
    started: int = 0
    ended: dict[tuple[str, str], int] = field(default_factory=dict)  # (provider, state)
    tokens: int = 0
    undelivered: int = 0
    first_token: Distribution = field(default_factory=Distribution)
    token_gap: Distribution = field(default_factory=Distribution)


class Generation:
    """Runs a provider's stream into the topic `generations/<id>`. Made by `Generations.start`.

    `text` is the answer so far, `outcome` how it stands, `position` the cursor of its last delta. Times are Unix
    seconds.
    """

    def __init__(
        self,
        hub: Hub,
        stats: GenerationStats,
        *,
        provider: str,
        model: str,
        owner: str | None,
        policy: DisconnectPolicy,
        on_end: Callable[[Generation], None],
    ) -> None:
        self.id = draw_work_id()
        self.topic = f"generations/{self.id}"
        self.provider = provider
        self.model = model
        self.owner = owner
        self.policy = policy
        self.created = time.time()
        self.first_token_at: float | None = None
        self.ended_at: float | None = None
        self.outcome = Outcome(State.RUNNING)
        self.origin = Cursor(hub.epoch, 0)  # just before its first event
        self.position = self.origin
        self.readers: dict[Subscription, None] = {}
        self._hub = hub
        self._stats = stats
        self._on_end = on_end
        self._parts: list[str] = []
        self._offsets = array("q")  # of each delta
        self._delivered = 0  # the furthest that any reader has been
        self._task: asyncio.Task[None] | None = None
        self._stop = Outcome(State.INTERRUPTED, error="the server ended this answer: ask again")
        self._timer: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()
        self._encodings: dict[tuple[type[Dialect], bool], Encoding] = {}
        self._last_token = 0.0

    @property
    def running(self) -> bool:
        return self.outcome.state is State.RUNNING

    @property
    def text(self) -> str:
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    @property
    def tokens(self) -> int:
        return len(self._offsets)

    @property
    def undelivered(self) -> int:
        """Tokens that no reader has been handed (so far)."""
        furthest = max((reader.offset for reader in self.readers), default=0)
        return len(self._offsets) - bisect_right(self._offsets, max(furthest, self._delivered))

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

    async def begin(self, source: AsyncIterator[Delta | Finish], *, max_seconds: float, max_chars: int) -> None:
        start = {"id": self.id, "provider": self.provider, "model": self.model, "created": int(self.created)}
        cursor = await self._hub.publish(self.topic, Event(json_data(start), "start"))
        self.origin = Cursor(cursor.epoch, cursor.offset - 1)
        self.position = cursor
        self._hub.watch(self.topic, self._on_reader)
        self._task = self._hub.loop.create_task(self._run(source, max_seconds, max_chars))
        self._wait_for_reader(_COME_BACK)

    def cancel(self) -> None:
        """Stops it, also while the model is silent; what was said so far is kept."""
        self._end_task(Outcome(State.CANCELLED, error="this answer was stopped"))

    def interrupt(self) -> None:
        """Stops it because this server goes away."""
        self._end_task(self._stop)

    async def wait(self) -> Outcome:
        """Until it has ended."""
        await self._over.wait()
        return self.outcome

    def close(self) -> None:
        """Forgotten: gives back what it holds, and counts what nobody read."""
        self._stats.undelivered += self.undelivered
        self._hub.watch(self.topic, None)
        self._cancel_timer()

    def __repr__(self) -> str:
        return f"<Generation {self.provider}/{self.model} {self.outcome.state} {self.tokens} tokens>"

    async def _run(self, source: AsyncIterator[Delta | Finish], max_seconds: float, max_chars: int) -> None:
        try:
            outcome = await self._consume(source, max_seconds, max_chars)
        except asyncio.CancelledError:
            outcome = self._stop
        except UpstreamCut as error:
            outcome = Outcome(State.INCOMPLETE, error=str(error))
        except UpstreamError as error:
            outcome = Outcome(State.FAILED, error=str(error))
        except Exception as error:
            # Its text is not ours to show: it may hold a secret.
            logger.exception("the stream of a generation failed")
            outcome = Outcome(State.FAILED, error=f"the model's stream failed ({type(error).__name__})")
        await self._conclude(outcome)

    async def _consume(self, source: AsyncIterator[Delta | Finish], max_seconds: float, max_chars: int) -> Outcome:
        finish: Finish | None = None
        size = 0
        limit = asyncio.timeout(max_seconds)
        try:
            async with limit:
                async for item in source:
                    if isinstance(item, Finish):
                        finish = item
                        continue
                    size += len(item.text)
                    if size > max_chars:
                        raise UpstreamError(f"the answer is longer than {max_chars} characters: it was ended there")
                    await self._append(item.text)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise UpstreamTimeout(f"the answer took longer than {max_seconds:g} s: it was ended there") from error
        finally:
            # Also on cancellation: this is what closes the request to the model.
            close = getattr(source, "aclose", None)
            if close is not None:
                await close()
        if finish is None:
            return Outcome(State.INCOMPLETE, error="the model's stream ended without its end marker")
        return Outcome(State.DONE, finish.reason, usage=finish.usage)

    async def _append(self, text: str) -> None:
        if not text:
            return
        now = self._hub.loop.time()
        if self.first_token_at is None:
            self.first_token_at = time.time()
            self._stats.first_token.observe(self.first_token_at - self.created)
        else:
            self._stats.token_gap.observe(now - self._last_token)
        self._last_token = now
        for piece in _pieces(text):
            cursor = await self._hub.publish(self.topic, Event(piece, "delta"))
            self._parts.append(piece)
            self._offsets.append(cursor.offset)
            self.position = cursor
        self._stats.tokens += 1

    async def _conclude(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.ended_at = time.time()
        self._cancel_timer()
        self._stats.running -= 1
        key = (self.provider, str(outcome.state))
        self._stats.ended[key] = self._stats.ended.get(key, 0) + 1
        try:
            await self._hub.publish(self.topic, *outcome_events(outcome), final=True)
        except Exception:
            logger.exception("the end of a generation could not be published")
        self._on_end(self)
        self._over.set()

    def _end_task(self, outcome: Outcome) -> None:
        if self.running and self._task is not None:
            self._stop = outcome
            self._task.cancel()

    def _on_reader(self, reader: Subscription, reason: str | None) -> None:
        if reason is None:
            self.readers[reader] = None
            self._cancel_timer()
            return
        self.readers.pop(reader, None)
        self._delivered = max(self._delivered, reader.offset)
        if not self.readers:
            self._wait_for_reader(0.0 if reason == "client" else _COME_BACK)

    def _wait_for_reader(self, at_least: float) -> None:
        """`at_least`: what a reader is given that this server itself sent away, or has yet to see."""
        if self.policy.cancel_after is not None and self.running:
            self._cancel_timer()
            self._timer = self._hub.loop.call_later(max(at_least, self.policy.cancel_after), self.cancel)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _pieces(text: str) -> list[str]:
    """The text as events can carry it."""
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        text = text.encode(errors="replace").decode()  # half of a pair: UTF-8 has no form for it
    if text == DONE:
        # As one event it would read as the end in the plain dialect.
        return [DONE[:1], DONE[1:]]
    if len(text) <= _MAX_DELTA:
        return [text]
    return [text[at : at + _MAX_DELTA] for at in range(0, len(text), _MAX_DELTA)]
