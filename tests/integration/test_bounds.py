"""The bounds on answers: how many, how long, how large, and how long they are kept."""

from __future__ import annotations

import asyncio

import pytest

from support.polling import eventually, generation, metrics
from support.reader import ask, open_stream
from support.serving import one_outlet
from support.upstream import TOKENS, Answer, Upstream, stall


async def make(port: int) -> str:
    answer = await ask(port, "/generations", method="POST", json_body={"prompt": "hi"})
    assert answer.status == 201, answer
    return answer.headers["location"]


@one_outlet
@pytest.mark.settings(generations_max_running=1)
async def test_more_answers_than_may_run_are_refused_until_one_is_over(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer((), ending=stall)]
    location = await make(port)
    await upstream.request()
    for path, method in [("/generations", "POST"), ("/sse/chat?message=x", "GET"), ("/sse/chat-normal", "GET")]:
        answer = await ask(port, path, method=method, json_body={"prompt": "hi"} if method == "POST" else None)
        assert answer.status == 429
        assert answer.headers["retry-after"] == "5"
        assert answer.headers["content-type"] == "application/problem+json"
        assert "try again" in answer.json()["detail"]
    assert len(upstream.requests) == 1
    await ask(port, location, method="DELETE")
    await make(port)


@one_outlet
@pytest.mark.settings(generations_max_running=2)
async def test_one_slow_provider_leaves_room_for_the_others(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer((), ending=stall)]
    await make(port)
    await upstream.request()
    answer = await ask(port, "/generations", method="POST", json_body={"prompt": "hi"})
    assert answer.status == 429
    assert "1 answers of the same upstream are running" in answer.json()["detail"]
    async with await open_stream(port, "/sse/chat?message=hi&provider=demo") as stream:
        assert stream.status == 200
        assert (await stream.rest())[-1].data == "[DONE]"


@one_outlet
@pytest.mark.settings(generations_max_s=0.15)
async def test_an_answer_that_takes_too_long_fails_and_says_so(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(TOKENS[:2], ending=stall)]
    location = await make(port)
    shown = await generation(port, location, "failed")
    assert shown["error"] == "the answer took longer than 0.15 s and was stopped"
    assert shown["text"] == "".join(TOKENS[:2])
    async with asyncio.timeout(20):
        await upstream.requests[0].closed.wait()


@one_outlet
@pytest.mark.settings(generations_max_chars=10)
async def test_an_answer_that_is_too_long_fails_and_keeps_what_fits(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(("가나다", "라마바", "사아자", "차카타"), ending=stall)]
    shown = await generation(port, await make(port), "failed")
    assert shown["error"] == "the answer is longer than 10 characters and was stopped"
    assert shown["text"] == "가나다라마바사아자"
    async with asyncio.timeout(20):
        await upstream.requests[0].closed.wait()


@pytest.mark.settings(generations_max_chars=900)
async def test_the_longest_answer_can_be_read_from_its_start_by_late_readers(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(["가"] * 900)]
    location = await make(port)
    await generation(port, location, "done")
    async with await open_stream(port, f"{location}/stream?dialect=plain") as stream:
        await stream.rest()
    assert "stream.gap" not in {event.type for event in stream.events}
    assert "".join(stream.data) == "가" * 900 + "[DONE]"


@pytest.mark.settings(generations_keep_s=0.05)
async def test_a_finished_answer_is_kept_for_a_while_then_gone_with_its_text(port: int) -> None:
    async with await open_stream(port, "/sse/chat?message=x") as stream:
        await stream.rest()
    location, before_the_last = stream.headers["location"], stream.events[-2].id or ""

    async def gone() -> bool:
        return (await ask(port, location)).status == 404

    await eventually(gone)
    answer = await ask(port, f"{location}/stream")
    assert answer.status == 404
    assert "no longer kept" in answer.json()["detail"]
    async with await open_stream(port, "/sse/chat?message=x", last_event_id=before_the_last) as again:
        await again.rest()
    assert [event.type for event in again.events] == ["failure"]


@one_outlet
@pytest.mark.settings(generations_max_kept=2)
async def test_over_the_number_kept_the_oldest_go_first(port: int) -> None:
    locations = []
    for _ in range(3):
        locations.append(await make(port))
        await generation(port, locations[-1], "done")
    assert [(await ask(port, location)).status for location in locations] == [404, 200, 200]
    assert (await metrics(port))["yeoul_generation_tokens_undelivered_total"] == len(TOKENS)


@pytest.mark.settings(max_event_bytes=1_024)
async def test_a_long_piece_of_text_fits_into_small_events(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(("가" * 3_000,))]
    async with await open_stream(port, "/sse/chat") as stream:
        await stream.rest()
    assert "".join(stream.data) == "가" * 3_000 + "[DONE]"
    assert max(len(data.encode()) for data in stream.data) <= 1_024


@pytest.mark.settings(memory_max_bytes=2_000)
async def test_an_answer_whose_text_had_to_go_is_told_as_a_gap_and_ends(port: int) -> None:
    location = await make(port)
    await generation(port, location, "done")
    for number in range(3):
        body = {"data": "x" * 1_000}
        assert (await ask(port, f"/topics/t{number}", method="POST", json_body=body)).status == 202
    async with await open_stream(port, f"{location}/stream") as stream:
        await stream.rest()
    assert stream.events[0].type == "stream.gap"
    assert '"done"' not in stream.events[0].data
    async with await open_stream(port, f"{location}/stream", last_event_id=stream.last_event_id) as again:
        assert again.status == 204
    assert (await generation(port, location))["text"] == "".join(TOKENS)
