"""One answer being produced: how it ends on every way out, and what it keeps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from yeoul.errors import (
    DatabaseUnavailable,
    UpstreamCut,
    UpstreamError,
    UpstreamGarbage,
    UpstreamRefused,
    UpstreamTimeout,
)
from yeoul.hub import Hub, SubscribeOptions, Subscription
from yeoul.hub.job import CANCEL, CONTINUE, DisconnectPolicy
from yeoul.hub.reasons import LIFETIME
from yeoul.llm.dialects import Json, OpenAI, Plain
from yeoul.llm.generation import Generation
from yeoul.llm.generations import Generations
from yeoul.llm.items import Delta, Finish, Item, Note, Usage
from yeoul.llm.outcome import Outcome, State
from yeoul.sse import Decoder

Items = Delta | Finish | Note | BaseException


class Source:
    """Yields what it is told; an exception is raised, and after the last item it waits if `silent`."""

    def __init__(self, *items: Items, silent: bool = False) -> None:
        self.items = list(items)
        self.silent = silent
        self.asked = asyncio.Event()  # it waits for the model
        self.closed = asyncio.Event()

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        if not self.items:
            if not self.silent:
                raise StopAsyncIteration
            self.asked.set()
            await asyncio.get_running_loop().create_future()
        item = self.items.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    async def aclose(self) -> None:
        self.closed.set()


class Outlet:
    """Takes everything, keeps it."""

    chunked = False
    full = False

    def __init__(self) -> None:
        self.written = b""
        self.ended = asyncio.Event()

    @property
    def deliver(self) -> Callable[[bytes], object]:
        return self.write

    def write(self, payload: bytes) -> bool:
        self.written += payload
        return True

    def finish(self, payload: bytes) -> None:
        self.written += payload
        self.ended.set()

    def abort(self) -> None:
        self.ended.set()


async def end(generation: Generation) -> Outcome:
    """How it ended, once it has."""
    async with asyncio.timeout(20):
        await generation.ended()
    return generation.outcome


async def read(hub: Hub, generation: Generation) -> tuple[Subscription, Outlet]:
    outlet = Outlet()
    reader = await hub.subscribe(
        [generation.topic],
        SubscribeOptions(after=generation.origin, encoding=generation.encoding(Json), until_final=True),
    )
    reader.start(outlet)
    return reader, outlet


async def run(hub: Hub, *items: Items, **options: Any) -> Generation:
    """A generation of these items, once it has ended."""
    bounds = {name: options.pop(name) for name in ("max_seconds", "max_chars") if name in options}
    generations = Generations(hub, grace_seconds=0, **bounds)
    generation = await generations.start(Source(*items, **options))
    await end(generation)
    return generation


# --- how it ends


@pytest.mark.parametrize(
    ("items", "state", "error"),
    [
        ([Delta("a"), Finish()], State.DONE, None),
        ([Finish()], State.DONE, None),
        ([Delta("a")], State.INCOMPLETE, "without its end marker"),
        ([], State.INCOMPLETE, "without its end marker"),
        ([Delta("a"), UpstreamCut("up broke off")], State.INCOMPLETE, "up broke off"),
        ([Delta("a"), UpstreamError("up said no")], State.FAILED, "up said no"),
        ([UpstreamTimeout("up fell silent")], State.FAILED, "up fell silent"),
        ([UpstreamGarbage("up sent rubbish")], State.FAILED, "up sent rubbish"),
        ([Delta("a"), DatabaseUnavailable("its disk is full")], State.FAILED, "its disk is full"),
        ([Delta("a"), Finish(), UpstreamCut("after the end")], State.INCOMPLETE, "after the end"),
    ],
)
async def test_it_is_done_only_with_an_end_marker(
    hub: Hub, items: list[Items], state: State, error: str | None
) -> None:
    generation = await run(hub, *items)
    assert generation.outcome.state is state
    assert (error or "") in (generation.outcome.error or "")
    assert (generation.outcome.error is None) == (error is None)
    assert generation.ended_at is not None


@pytest.mark.parametrize("show", [False, True])
async def test_what_an_upstream_said_is_in_the_log_and_shown_to_readers_only_where_that_is_set(
    hub: Hub, caplog: pytest.LogCaptureFixture, show: bool
) -> None:
    refused = UpstreamRefused("up is busy", status=429, detail="org-1 has no tokens left", retry_after=7)
    generations = Generations(hub, show_details=show)
    outcome = await end(await generations.start(Source(refused), provider="up", model="m"))
    assert outcome.error == ("up is busy: org-1 has no tokens left" if show else "up is busy")
    assert (outcome.kind, outcome.retryable, outcome.retry_after) == ("rate_limited", True, 7)
    assert "of up (m) failed: up is busy: org-1 has no tokens left" in caplog.text


@pytest.mark.parametrize(
    ("items", "kind", "retryable"),
    [
        ([UpstreamCut("x")], "cut", True),
        ([UpstreamTimeout("x")], "timeout", True),
        ([UpstreamGarbage("x")], "invalid", False),
        ([Delta("a")], "cut", True),
        ([DatabaseUnavailable("x")], None, True),
        ([RuntimeError("x")], None, False),
        ([Delta("x" * 100)], "too_long", False),
    ],
)
async def test_a_failure_has_a_kind_and_says_whether_trying_again_helps(
    hub: Hub, items: list[Items], kind: str | None, retryable: bool
) -> None:
    outcome = (await run(hub, *items, max_chars=50)).outcome
    assert (outcome.kind, outcome.retryable) == (kind, retryable)


@pytest.mark.parametrize(("reason", "whole"), [("stop", True), ("length", False), ("content_filter", False)])
async def test_only_an_answer_that_the_model_finished_is_whole(hub: Hub, reason: str, whole: bool) -> None:
    assert (await run(hub, Delta("a"), Finish(reason))).outcome.whole is whole


async def test_what_a_source_raises_is_logged_and_not_shown(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    generation = await run(hub, Delta("a"), RuntimeError("connect to postgres://me:hunter2@db"))
    assert generation.outcome.state is State.FAILED
    assert generation.outcome.error == "the model's stream failed (RuntimeError)"
    assert "the stream of a generation failed" in caplog.text


async def test_the_finish_tells_reason_and_usage(hub: Hub) -> None:
    generation = await run(hub, Delta("a"), Finish("length", Usage(3, 1)))
    assert (generation.outcome.reason, generation.outcome.usage) == ("length", Usage(3, 1))


async def test_text_and_tokens_grow_with_each_delta(hub: Hub) -> None:
    generation = await run(hub, Delta("안녕"), Delta(""), Delta(" 🌊"), Finish())
    assert (generation.text, generation.tokens) == ("안녕 🌊", 2)
    assert generation.first_token_at is not None


async def test_a_bound_on_characters_ends_it_with_what_fits(hub: Hub) -> None:
    generation = await run(hub, Delta("abc"), Delta("def"), Delta("x"), Finish(), max_chars=6)
    assert generation.outcome.state is State.FAILED
    assert "longer than 6 characters" in (generation.outcome.error or "")
    assert generation.text == "abcdef"


async def test_a_bound_on_time_ends_it(hub: Hub) -> None:
    generation = await run(hub, Delta("a"), silent=True, max_seconds=0.02)
    assert generation.outcome.state is State.FAILED
    assert generation.outcome.error == "the answer took longer than 0.02 s and was stopped"


async def test_a_time_out_of_the_sources_own_is_not_taken_for_the_bound(hub: Hub) -> None:
    generation = await run(hub, TimeoutError())
    assert generation.outcome.error == "the model's stream failed (TimeoutError)"


@pytest.mark.parametrize("error", [None, UpstreamCut("cut"), RuntimeError()])
async def test_its_source_is_closed_on_every_way_out(hub: Hub, error: BaseException | None) -> None:
    source = Source(Delta("a"), error or Finish())
    generation = await Generations(hub).start(source)
    await end(generation)
    assert source.closed.is_set()


# --- stopping


async def test_a_stop_ends_a_silent_model_and_keeps_the_text(hub: Hub) -> None:
    source = Source(Delta("so far"), silent=True)
    generation = await Generations(hub).start(source)
    await source.asked.wait()
    generation.cancel()
    outcome = await end(generation)
    assert (outcome.state, outcome.error) == (State.CANCELLED, "this answer was stopped")
    assert generation.text == "so far"
    assert source.closed.is_set()


async def test_a_stop_before_the_first_step_ends_it_too(hub: Hub) -> None:
    source = Source(Delta("never"), Finish())
    generation = await Generations(hub).start(source)
    generation.cancel()
    outcome = await end(generation)
    assert outcome.state is State.CANCELLED
    assert generation.text == ""
    assert source.closed.is_set()


async def test_a_stop_after_the_end_changes_nothing(hub: Hub) -> None:
    generation = await run(hub, Delta("a"), Finish())
    generation.cancel()
    generation.interrupt()
    await asyncio.sleep(0)
    assert generation.outcome.state is State.DONE


async def test_the_first_reason_to_stop_stands_and_its_clean_up_is_not_cut_short(hub: Hub) -> None:
    class SlowToClose(Source):
        closing = asyncio.Event()
        may_close = asyncio.Event()

        async def aclose(self) -> None:
            self.closing.set()
            await self.may_close.wait()
            self.closed.set()

    source = SlowToClose(silent=True)
    generation = await Generations(hub).start(source)
    await source.asked.wait()
    generation.cancel()
    await source.closing.wait()
    generation.interrupt()
    source.may_close.set()
    assert (await end(generation)).state is State.CANCELLED
    assert source.closed.is_set()


async def test_a_stop_while_the_source_is_let_go_neither_hangs_nor_takes_the_end_away(hub: Hub) -> None:
    class SlowToClose(Source):
        closing = asyncio.Event()
        may_close = asyncio.Event()

        async def aclose(self) -> None:
            self.closing.set()
            await self.may_close.wait()
            self.closed.set()

    source = SlowToClose(Delta("all of it"), Finish())
    generation = await Generations(hub).start(source)
    await source.closing.wait()
    generation.cancel()
    source.may_close.set()
    assert (await end(generation)).state is State.DONE
    assert source.closed.is_set()


@pytest.mark.parametrize("reaction", ["ends", "finishes", "fails"])
async def test_a_source_that_takes_the_stop_for_something_else_is_still_stopped(hub: Hub, reaction: str) -> None:
    waiting = asyncio.Event()

    async def source() -> AsyncIterator[Delta | Finish]:
        yield Delta("a")
        try:
            waiting.set()
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if reaction == "fails":
                raise RuntimeError("cannot close") from None
        if reaction == "finishes":
            yield Finish()

    generation = await Generations(hub).start(source())
    await waiting.wait()
    generation.cancel()
    assert (await end(generation)).state is State.CANCELLED


async def test_an_interruption_says_to_ask_again(hub: Hub) -> None:
    source = Source(Delta("a"), silent=True)
    generation = await Generations(hub).start(source)
    await source.asked.wait()
    generation.interrupt()
    outcome = await end(generation)
    assert outcome.state is State.INTERRUPTED
    assert "ask again" in (outcome.error or "")


# --- readers that leave


@pytest.mark.parametrize("seconds", [-1.0, 86_401.0, float("nan")])
def test_a_policy_out_of_bounds_cannot_be_built(seconds: float) -> None:
    with pytest.raises(ValueError, match="0 to 86400"):
        DisconnectPolicy(seconds)


async def start(hub: Hub, policy: DisconnectPolicy) -> tuple[Generation, Source]:
    source = Source(Delta("a"), silent=True)
    generation = await Generations(hub, grace_seconds=0).start(source, policy=policy)
    await source.asked.wait()
    return generation, source


async def turns(loop_turns: int = 20) -> None:
    for _ in range(loop_turns):
        await asyncio.sleep(0)


async def test_the_last_client_to_leave_stops_it_at_once(hub: Hub) -> None:
    generation, source = await start(hub, CANCEL)
    first, _ = await read(hub, generation)
    second, _ = await read(hub, generation)
    first.end()
    await turns()
    assert generation.running
    second.end()
    assert (await end(generation)).state is State.CANCELLED
    assert source.closed.is_set()


async def test_a_reader_that_this_server_sent_away_is_waited_for(hub: Hub) -> None:
    generation, _ = await start(hub, CANCEL)
    reader, _ = await read(hub, generation)
    reader.end(LIFETIME)
    await turns()
    assert generation.running
    again, _ = await read(hub, generation)
    again.end()
    assert (await end(generation)).state is State.CANCELLED


async def test_without_any_reader_it_is_stopped_after_a_while(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yeoul.hub.job._COME_BACK", 0.01)
    generation, _ = await start(hub, CANCEL)
    assert (await end(generation)).state is State.CANCELLED


async def test_a_reader_that_reconnects_in_time_finds_it_running(hub: Hub) -> None:
    generation, _ = await start(hub, DisconnectPolicy(30))
    reader, _ = await read(hub, generation)
    reader.end()
    reader, _ = await read(hub, generation)
    assert generation.running
    assert generation._timer is None


async def test_without_a_policy_it_goes_on_alone(hub: Hub) -> None:
    generation, _ = await start(hub, CONTINUE)
    reader, _ = await read(hub, generation)
    reader.end()
    await turns()
    assert generation.running
    assert generation._timer is None


async def test_what_no_reader_had_is_counted_as_undelivered(hub: Hub) -> None:
    generation = await run(hub, Delta("a"), Delta("b"), Finish())
    assert generation.undelivered == 2
    _, outlet = await read(hub, generation)
    await outlet.ended.wait()
    assert generation.undelivered == 0
    await hub.subscribe([generation.topic], SubscribeOptions(after=generation.origin))
    assert generation.undelivered == 0, "one that begins anew takes nothing back"


# --- its text as events


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("[DONE]", ["[", "DONE]"]),
        (" [DONE]", [" [DONE]"]),
        ("x" * 16_385, ["x" * 16_384, "x"]),
        ("a\ud800b", ["a\ufffdb"]),
    ],
)
async def test_a_delta_that_one_event_cannot_carry_is_several(hub: Hub, text: str, pieces: list[str]) -> None:
    generation = await run(hub, Delta(text), Finish())
    assert generation.outcome.state is State.DONE
    assert generation.text == "".join(pieces)
    assert generation.tokens == 1
    _, outlet = await read(hub, generation)
    await outlet.ended.wait()
    shown = [json.loads(event.data).get("content") for event in Decoder().feed(outlet.written)]
    assert shown[:-1] == pieces


@pytest.mark.parametrize("text", ["가" * 2_000, "🍲" * 2_000, "x" * 5_000])
async def test_a_small_bound_on_events_cuts_deltas_smaller(text: str) -> None:
    async with Hub(max_event_bytes=1_024) as hub:
        generation = await run(hub, Delta(text), Finish())
        assert generation.outcome.state is State.DONE
        assert generation.text == text


async def test_a_note_is_an_event_of_its_own_beside_the_text(hub: Hub) -> None:
    generation = await run(hub, Note("status", {"stage": "searching"}), Delta("a"), Note("status", {}), Finish())
    assert (generation.text, generation.tokens) == ("a", 1)
    assert [part.kind for part in generation.answer.parts] == ["note", "text", "note"]
    _, outlet = await read(hub, generation)
    await outlet.ended.wait()
    lines = [line for line in outlet.written.decode().split("\n") if not line.startswith("id: ")]
    assert lines[:5] == ["event: status", 'data: {"stage": "searching"}', "", 'data: {"content": "a"}', ""]


async def test_notes_count_towards_the_bound_on_characters(hub: Hub) -> None:
    generation = await run(hub, Note("sources", {"title": "x" * 50}), Finish(), max_chars=40)
    assert "longer than 40 characters" in (generation.outcome.error or "")
    assert generation.answer.parts == []


@pytest.mark.parametrize(
    "type",
    ["", "Status", "a b", "a\nb", "stream.gap", "message", "token", "complete", "error", "failure", "finish", "x" * 65],
)
def test_a_note_that_could_be_taken_for_another_event_cannot_be_built(type: str) -> None:
    with pytest.raises(ValueError, match="use a name in lower case that no dialect uses"):
        Note(type, {})


async def test_a_note_that_is_called_like_an_event_of_the_topic_is_still_a_note(hub: Hub) -> None:
    generation = await run(hub, Note("end", {"n": 1}), Delta("a"), Finish())
    _, outlet = await read(hub, generation)
    await outlet.ended.wait()
    assert b'event: end\ndata: {"n": 1}\nid: ' in outlet.written
    assert b'data: {"done": true}\nid: ' in outlet.written


async def test_readers_of_a_dialect_share_one_encoding(hub: Hub) -> None:
    generation = await run(hub, Finish())
    assert generation.encoding(Json) is generation.encoding(Json)
    assert generation.encoding(Json, started=True).id_prefix == f"{generation.id}."
    assert len({id(generation.encoding(form)) for form in (Json, Plain, OpenAI)}) == 3


async def test_it_says_how_it_stands(hub: Hub) -> None:
    generation = await run(hub, Delta("secret"), Finish())
    assert repr(generation) == "<Generation app/app done 1 tokens>"


async def test_its_end_is_reached_even_if_it_cannot_be_published(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(Delta("a"), silent=True)
    generation = await Generations(hub).start(source)
    await source.asked.wait()

    async def broken(*_: object, **__: object) -> None:
        raise ConnectionError("no broker")

    publish: Callable[..., Any] = hub.publish
    monkeypatch.setattr(hub, "publish", broken)
    generation.cancel()
    assert (await end(generation)).state is State.CANCELLED
    assert "the end of a job could not be published" in caplog.text
    monkeypatch.setattr(hub, "publish", publish)


async def test_a_source_that_never_lets_go_does_not_hold_up_the_end(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("yeoul.hub.job._RELEASE", 0.01)
    source = Source(Delta("so far"), silent=True)

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(source, "aclose", hang)
    generation = await Generations(hub).start(source)
    await source.asked.wait()
    generation.cancel()
    async with asyncio.timeout(20):
        assert (await generation.wait()).state is State.CANCELLED
    assert "closing the source of a job failed" in caplog.text
