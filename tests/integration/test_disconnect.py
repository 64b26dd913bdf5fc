"""What becomes of an answer when its readers leave: each policy, seen from the model's side."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.polling import eventually, generation, metrics, nobody_reads
from support.reader import RawStream, open_stream
from support.upstream import TOKENS, Answer, SeenRequest, Upstream, stall

TEXT = "".join(TOKENS)


async def post_stream(port: int, on_disconnect: Any = None) -> RawStream:
    body = {"prompt": "hi"} | ({} if on_disconnect is None else {"on_disconnect": on_disconnect})
    return await open_stream(
        port,
        "/generations?dialect=plain",
        method="POST",
        headers={"Accept": "text/event-stream", "Content-Type": "application/json"},
        body=json.dumps(body).encode(),
    )


async def closed(request: SeenRequest) -> None:
    async with asyncio.timeout(20):
        await request.closed.wait()


@pytest.mark.parametrize("policy", [None, "continue"])
async def test_an_answer_goes_on_without_readers(port: int, upstream: Upstream, policy: Any) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(3, go_on))]
    stream = await post_stream(port, policy)
    await stream.take(4)
    stream.cut()
    await nobody_reads(port, stream.headers["location"])
    go_on.set()
    assert (await generation(port, stream.headers["location"], "done"))["text"] == TEXT


@pytest.mark.parametrize("leave", ["reset", "close"])
async def test_cancel_stops_the_model_as_soon_as_the_last_reader_leaves(
    port: int, upstream: Upstream, leave: str
) -> None:
    upstream.scripts = [Answer(TOKENS[:3], ending=stall)]
    stream = await post_stream(port, "cancel")
    await stream.take(4)
    if leave == "reset":
        stream.cut()
    else:
        await stream.close()
    await closed(upstream.requests[0])
    shown = await generation(port, stream.headers["location"], "cancelled")
    assert (shown["text"], shown["error"]) == ("".join(TOKENS[:3]), "this answer was stopped")


async def test_a_second_reader_keeps_it_alive(port: int, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(3, go_on))]
    first = await post_stream(port, "cancel")
    location = first.headers["location"]
    async with await open_stream(port, f"{location}/stream?dialect=plain") as second:
        await second.take(3)
        first.cut()

        async def one_reader() -> bool:
            return bool((await generation(port, location))["readers"] == 1)

        await eventually(one_reader)
        go_on.set()
        await second.rest()
    assert second.data == [*TOKENS, "[DONE]"]


@pytest.mark.parametrize("seconds", [0, 0.05])
async def test_cancel_after_a_while_without_readers(port: int, upstream: Upstream, seconds: float) -> None:
    upstream.scripts = [Answer((), ending=stall)]
    stream = await post_stream(port, {"cancel_after_s": seconds})
    stream.cut()
    await closed(await upstream.request())
    await generation(port, stream.headers["location"], "cancelled")


async def test_a_reader_in_time_keeps_it_from_being_cancelled(port: int, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(2, go_on))]
    stream = await post_stream(port, {"cancel_after_s": 0.3})
    location = stream.headers["location"]
    await stream.take(3)
    stream.cut()
    await nobody_reads(port, location)
    async with await open_stream(port, f"{location}/stream?dialect=plain") as again:
        asyncio.get_running_loop().call_later(0.6, go_on.set)
        await again.rest()
    assert again.data[-1] == "[DONE]"


@pytest.mark.settings(max_lifetime_s=0.1, retry_ms=0)
async def test_a_stream_that_the_server_ended_does_not_count_as_a_reader_who_left(
    port: int, upstream: Upstream
) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(3, go_on))]
    stream = await post_stream(port, "cancel")
    location = stream.headers["location"]
    events = await stream.rest()
    assert (events[-1].type, json.loads(events[-1].data)["reason"]) == ("stream.bye", "lifetime")
    await stream.close()
    await nobody_reads(port, location)
    assert (await generation(port, location))["state"] == "running"
    go_on.set()
    async with await open_stream(port, f"{location}/stream?dialect=plain", last_event_id=stream.last_event_id) as again:
        await again.rest()
    assert again.data == [*TOKENS[3:], "[DONE]"]


async def test_a_promised_reader_who_never_comes_is_waited_for_then_given_up(
    port: int, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yeoul.hub.job._COME_BACK", 0.1)
    upstream.scripts = [Answer((), ending=stall)]
    answer = await open_stream(
        port,
        "/generations",
        method="POST",
        headers={"Accept": "application/json", "Content-Type": "application/json"},
        body=b'{"prompt": "hi", "on_disconnect": "cancel"}',
    )
    await answer.rest()
    await answer.close()
    assert answer.status == 201
    await closed(await upstream.request())


@pytest.mark.settings(lost_reader_s=0.05)
async def test_a_lesson_whose_reader_does_not_come_back_is_stopped(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer((), ending=stall)]
    stream = await open_stream(port, "/sse/chat")
    stream.cut()
    await closed(await upstream.request())
    assert (await generation(port, stream.headers["location"], "cancelled"))["readers"] == 0
    assert (await metrics(port))['yeoul_generations_ended_total{provider="up",state="cancelled"}'] == 1
