"""The lessons: a countdown, a make-believe model, a real one, and the same answer at once."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from time import monotonic

import pytest

from support.event_source import EventSource
from support.machine import budget
from support.polling import eventually, generation, metrics
from support.reader import ask, open_stream
from support.serving import one_outlet
from support.upstream import TOKENS, Answer, Upstream, complete, eof, stall

FAKE_ANSWER = "안녕하세요! 저는 AI 어시스턴트입니다."


async def arrivals(port: int, path: str) -> tuple[list[str], list[float]]:
    """The data of each event, and when it came."""
    times: list[float] = []
    async with await open_stream(port, path) as stream:
        assert stream.status == 200
        while await stream.read():
            times += [monotonic()] * (len(stream.events) - len(times))
        return stream.data, times


@pytest.mark.slow
async def test_the_countdown_says_a_number_a_second_then_lift_off_and_ends(port: int) -> None:
    data, times = await arrivals(port, "/sse/countdown")
    assert data == ["5", "4", "3", "2", "1", "발사!"]
    most = budget(1.6)
    assert all(0.8 < later - sooner < most for sooner, later in pairwise(times))


async def test_a_countdown_that_was_heard_to_its_end_is_not_begun_again(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yeoul.apps.answers.lessons._COUNTDOWN_PACE", 0.01)
    source = EventSource(port, "/sse/countdown")
    events = await source.read_all([60, 30])
    assert [event.data for event in events] == ["5", "4", "3", "2", "1", "발사!"]
    assert source.statuses[-1] == 204


async def test_the_make_believe_model_sends_a_character_every_50_ms(port: int) -> None:
    data, times = await arrivals(port, "/sse/fake-llm")
    assert data == [*FAKE_ANSWER, "[DONE]"]
    assert 0.045 * len(FAKE_ANSWER) < times[-1] - times[0] < budget(0.1 * len(FAKE_ANSWER))


async def test_an_answer_streams_token_by_token_then_done(port: int, upstream: Upstream) -> None:
    async with await open_stream(port, "/sse/chat?message=양파?&model=m-2") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        events = await stream.rest()
        location = stream.headers["location"]
    assert [event.data for event in events] == ["", *TOKENS, "[DONE]"]
    assert {event.type for event in events} == {"message"}
    assert {(event.id or "").partition(".")[0] for event in events} == {location.removeprefix("/generations/")}
    asked = upstream.requests[0].json
    assert asked["model"] == "m-2"
    assert asked["messages"][-1] == {"role": "user", "content": "양파?"}


@pytest.mark.parametrize(
    "tokens",
    [
        ("\n", "a\nb", "\n\n", "c"),
        (" ", "  leading", " spaces ", ":colon", "data: x"),
        ("before", "[DONE]", "after"),
        ("[DONE]",),
        ("\u2028", "\u2029", "\x85", "\ufeff", "\x00", "👩‍🍳"),
    ],
)
async def test_a_token_arrives_as_it_is_whatever_is_in_it(
    port: int, upstream: Upstream, tokens: tuple[str, ...]
) -> None:
    upstream.scripts = [Answer(tokens)]
    async with await open_stream(port, "/sse/chat") as stream:
        data = [event.data for event in await stream.rest()]
    assert data[-1] == "[DONE]"
    assert "[DONE]" not in data[:-1]
    assert "".join(data[:-1]) == "".join(tokens)


async def test_the_first_event_names_the_work_before_the_model_has_said_anything(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer((), ending=stall)]
    async with await open_stream(port, "/sse/chat") as stream:
        first = (await stream.take(1))[0]
        assert (first.data, first.type) == ("", "message")
        assert (first.id or "").startswith(stream.headers["location"].removeprefix("/generations/") + ".")


@pytest.mark.parametrize("path", ["/sse/chat", "/sse/countdown", "/sse/fake-llm"])
async def test_head_starts_no_work(port: int, upstream: Upstream, path: str) -> None:
    answer = await ask(port, path, method="HEAD")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-length" not in answer.headers
    assert (await ask(port, "/sse/chat-normal", method="HEAD")).status == 405
    assert upstream.requests == []
    assert (await metrics(port))["yeoul_generations_started_total"] == 0


async def test_the_same_answer_comes_at_once(port: int, upstream: Upstream) -> None:
    answer = await ask(port, "/sse/chat-normal?message=hi")
    assert answer.status == 200
    assert answer.json() == {"message": "".join(TOKENS)}
    assert upstream.requests[0].json["messages"][-1]["content"] == "hi"


async def test_an_answer_at_once_that_is_not_whole_is_an_error(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(ending=eof)]
    answer = await ask(port, "/sse/chat-normal")
    assert answer.status == 502
    assert "before it was finished" in answer.json()["detail"]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_an_answer_at_once_that_was_cut_says_so(port: int, upstream: Upstream, reason: str) -> None:
    upstream.scripts = [Answer(ending=complete(reason=reason))]
    answer = await ask(port, "/sse/chat-normal")
    assert (answer.status, answer.json()) == (200, {"message": "".join(TOKENS), "finish_reason": reason})


@pytest.mark.settings(lost_reader_s=0)
async def test_an_answer_at_once_is_not_taken_for_one_without_a_reader(
    port: int, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yeoul.hub.job._COME_BACK", 0.05)
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(3, go_on))]
    asked = asyncio.create_task(ask(port, "/sse/chat-normal"))
    request = await upstream.request()
    asyncio.get_running_loop().call_later(0.2, go_on.set)
    answer = await asked
    assert (answer.status, answer.json()) == (200, {"message": "".join(TOKENS)})
    assert not request.closed.is_set()


async def test_an_answer_at_once_is_stopped_when_its_client_leaves(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(ending=stall)]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /sse/chat-normal HTTP/1.1\r\nHost: localhost\r\n\r\n")
    request = await upstream.request()
    writer.transport.abort()
    async with asyncio.timeout(20):
        await request.closed.wait()

    async def cancelled() -> bool:
        return (await metrics(port)).get('yeoul_generations_ended_total{provider="up",state="cancelled"}') == 1

    await eventually(cancelled)


async def test_a_chat_of_the_demo_needs_no_key_and_says_what_to_set(port: int) -> None:
    async with await open_stream(port, "/sse/chat?message=안녕&provider=demo") as stream:
        text = "".join(event.data for event in await stream.rest())
        assert "OPENAI_API_KEY" in text
        assert text.endswith("[DONE]")
        shown = await generation(port, stream.headers["location"])
    assert (shown["provider"], shown["model"], shown["state"]) == ("demo", "demo-1", "done")


@one_outlet
async def test_a_provider_without_a_key_is_refused_with_what_to_set(port: int, upstream: Upstream) -> None:
    for path in ("/sse/chat?provider=openai", "/sse/chat-normal?provider=openai"):
        answer = await ask(port, path)
        assert answer.status == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert "set OPENAI_API_KEY" in answer.json()["detail"]
    assert upstream.requests == []


@one_outlet
@pytest.mark.parametrize("query", ["message=", "message=" + "x" * 8_001, "model=" + "m" * 101])
async def test_a_question_out_of_bounds_is_refused_by_name(port: int, query: str) -> None:
    answer = await ask(port, f"/sse/chat?{query}")
    assert answer.status == 422
    assert answer.json()["errors"][0]["field"] == query.partition("=")[0]


async def test_the_wire_of_a_chat_is_these_bytes(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(("안", " a\nb"))]
    async with await open_stream(port, "/sse/chat") as stream:
        await stream.rest()
        raw, first = stream.raw.decode(), stream.events[0].id or ""
    work, epoch_offset = first.split(".")
    epoch, offset = epoch_offset.split("-")
    ids = [f"{work}.{epoch}-{int(offset) + n}" for n in range(9)]
    # Between them stand the step and the part, which this dialect does not show.
    assert raw == (
        ": yeoul\nretry: 2000\n"
        f"data: \nid: {ids[0]}\n\n"
        f"data: 안\nid: {ids[3]}\n\n"
        f"data:  a\ndata: b\nid: {ids[4]}\n\n"
        f"data: [DONE]\nid: {ids[8]}.end\n\n"
    )


async def test_numbers_of_a_chat_are_in_its_resource(port: int) -> None:
    async with await open_stream(port, "/sse/chat") as stream:
        await stream.rest()
        shown = (await ask(port, stream.headers["location"])).json()
    assert shown["text"] == "".join(TOKENS)
    assert shown["usage"] == {"input_tokens": 12, "output_tokens": len(TOKENS)}
    assert shown["created"] <= shown["first_token_at"] <= shown["ended_at"]
