"""A stream that started work, cut and taken up again: the work is started once, and the text is exact."""

from __future__ import annotations

import asyncio
import json
from random import Random

import pytest

from support.event_source import EventSource
from support.polling import generation, metrics, nobody_reads
from support.reader import ask, open_stream
from support.serving import one_outlet, serving
from support.settings import make_settings
from support.tokens import bearer, demo_token
from support.upstream import TOKENS, Answer, Upstream, complete, eof, stall
from yeoul.app import create_app

TEXT = "".join(TOKENS)
JSON = {"Content-Type": "application/json", "Accept": "text/event-stream"}


# --- cut anywhere


@pytest.mark.parametrize("count", range(1, len(TOKENS) + 3))
async def test_cut_after_any_event_the_answer_goes_on_with_the_next(port: int, upstream: Upstream, count: int) -> None:
    source = EventSource(port, "/sse/chat?message=hi")
    assert await source.read_events(count)
    await source.read_all()
    assert [event.data for event in source.events] == ["", *TOKENS, "[DONE]"]
    assert source.statuses[-1] == 204
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("seed", range(12))
async def test_cut_after_any_byte_again_and_again_nothing_is_lost_or_doubled(
    port: int, upstream: Upstream, seed: int
) -> None:
    draw = Random(seed)
    source = EventSource(port, "/sse/chat?message=hi")
    # The first connection has had the event that names the work; later ones may bring nothing at all.
    cuts = [draw.randrange(120, 200), *(draw.randrange(0, 260) for _ in range(25))]
    await source.read_all(cuts)
    assert source.text == TEXT
    assert source.events[-1].data == "[DONE]"
    assert len(upstream.requests) == 1


async def test_cut_while_the_model_is_silent_it_is_not_asked_again(port: int, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(3, go_on))]
    source = EventSource(port, "/sse/chat?message=hi")
    await source.read_events(4)
    await source.read_events(0)
    go_on.set()
    await source.read_all()
    assert source.text == TEXT
    assert len(upstream.requests) == 1


async def test_cut_before_anything_was_received_it_finds_its_orphan(port: int, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(0, go_on))]
    source = EventSource(port, "/sse/chat?message=hi")
    stream = await source.connect()
    stream.cut()
    await nobody_reads(port, stream.headers["location"])
    again = await source.connect()
    assert again.headers["location"] == stream.headers["location"]
    go_on.set()
    await again.rest()
    await again.close()
    assert again.data == ["", *TOKENS, "[DONE]"]
    assert len(upstream.requests) == 1


async def test_cut_before_the_head_of_the_answer_it_finds_its_orphan(port: int, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(0, go_on))]
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    # The headers by which `open_stream` below is recognised as the same reader: it sends no others that count.
    writer.write(f"GET /sse/chat?message=hi HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    await upstream.request()
    writer.transport.abort()
    listed = (await ask(port, "/generations")).json()["generations"]
    await nobody_reads(port, f"/generations/{listed[0]['id']}")
    async with await open_stream(port, "/sse/chat?message=hi") as stream:
        go_on.set()
        await stream.rest()
    assert stream.data == ["", *TOKENS, "[DONE]"]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/sse/chat?message=another"},
        {"path": "/sse/chat?message=hi&model=m-2"},
        {"headers": {"User-Agent": "another"}},
        {"headers": {"Cookie": "session=another"}},
        {"headers": bearer(demo_token("another"))},
    ],
)
async def test_an_orphan_is_not_handed_to_another_client(
    port: int, upstream: Upstream, other: dict[str, object]
) -> None:
    upstream.scripts = [Answer((), ending=stall)]
    first = await open_stream(port, "/sse/chat?message=hi")
    first.cut()
    await nobody_reads(port, first.headers["location"])
    async with await open_stream(port, **{"path": "/sse/chat?message=hi", **other}) as second:  # type: ignore[arg-type]
        assert second.headers["location"] != first.headers["location"]
    await upstream.request(1)


async def test_two_tabs_at_the_same_time_start_their_own_and_each_finds_its_own_again(
    port: int, upstream: Upstream
) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(2, go_on))]
    tabs = [EventSource(port, "/sse/chat?message=hi") for _ in range(3)]
    streams = await asyncio.gather(*(tab.connect() for tab in tabs))
    for tab, stream in zip(tabs, streams, strict=True):
        tab.events += await stream.take(2)
        tab.last_event_id = tab.events[-1].id or ""
    assert len({tab.last_event_id.partition(".")[0] for tab in tabs}) == 3
    for stream in streams:
        stream.cut()
    go_on.set()
    await asyncio.gather(*(tab.read_all() for tab in tabs))
    assert [tab.text for tab in tabs] == [TEXT] * 3
    assert len(upstream.requests) == 3


async def test_of_two_tabs_either_may_be_orphaned(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer((), ending=stall)]
    first = await open_stream(port, "/sse/chat?message=hi")
    async with await open_stream(port, "/sse/chat?message=hi") as second:
        assert second.headers["location"] != first.headers["location"]
        first.cut()
        await nobody_reads(port, first.headers["location"])
        async with await open_stream(port, "/sse/chat?message=hi") as again:
            assert again.headers["location"] == first.headers["location"]
    assert len(upstream.requests) == 2


async def test_a_finished_answer_is_no_orphan_the_question_is_asked_anew(port: int, upstream: Upstream) -> None:
    for _ in range(2):
        async with await open_stream(port, "/sse/chat?message=hi") as stream:
            await stream.rest()
    assert len(upstream.requests) == 2


async def test_cut_before_anything_was_received_it_finds_an_answer_that_has_ended_meanwhile(
    port: int, upstream: Upstream
) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(1, go_on))]
    first = await open_stream(port, "/sse/chat?message=hi")
    first.cut()
    await nobody_reads(port, first.headers["location"])
    go_on.set()
    await generation(port, first.headers["location"], "done")
    async with await open_stream(port, "/sse/chat?message=hi") as again:
        assert again.headers["location"] == first.headers["location"]
        assert "".join(event.data for event in await again.rest()) == f"{TEXT}[DONE]"
    async with await open_stream(port, "/sse/chat?message=hi") as anew:
        await anew.rest()
    assert len(upstream.requests) == 2, "what has been read to its end is asked anew"


@one_outlet
async def test_an_end_that_a_reset_connection_may_not_have_taken_is_kept_for_its_reader(
    port: int, upstream: Upstream
) -> None:
    first = await open_stream(port, "/sse/chat?message=hi")
    await generation(port, first.headers["location"], "done")
    await nobody_reads(port, first.headers["location"])
    first.cut()
    async with asyncio.timeout(20):
        while True:
            async with await open_stream(port, "/sse/chat?message=hi") as again:
                if again.headers["location"] == first.headers["location"]:
                    break
                await again.rest()
    assert len(upstream.requests) <= 2, "the server may hear of the reset after the first attempt"


# --- positions that lead nowhere


@pytest.mark.parametrize("dialect", ["plain", "json", "envelope", "openai"])
async def test_work_that_is_gone_is_told_once_in_the_dialect_then_204(
    port: int, upstream: Upstream, dialect: str
) -> None:
    source = EventSource(
        port, f"/generations?dialect={dialect}", "POST", b'{"prompt": "hi"}', JSON, last_event_id="gone.abc-7"
    )
    events = await source.read_all()
    ends = {
        "plain": ("failure", "message"),
        "json": ("message", "error"),
        "envelope": ("error", "message"),
        "openai": ("message", "error"),
    }
    kind, field = ends[dialect]
    assert events[0].type == kind
    assert "no longer kept" in str(json.loads(events[0].data)[field])
    assert [event.data for event in events[1:]] == (["[DONE]"] if dialect == "openai" else [])
    assert source.statuses == [200, 204]
    assert upstream.requests == []


@pytest.mark.parametrize("path", ["/sse/chat", "/sse/countdown", "/sse/fake-llm"])
async def test_a_lesson_whose_work_is_gone_says_so_and_is_over(port: int, path: str) -> None:
    source = EventSource(port, path, last_event_id="gone.abc-7")
    (event,) = await source.read_all()
    assert event.type == "failure"
    assert json.loads(event.data)["state"] == "interrupted"
    assert source.statuses == [200, 204]


@one_outlet
@pytest.mark.parametrize(
    ("position", "hint"),
    [
        ("rubbish", "is not a position of this server"),
        ("a.b.c-1", "is not a position of this server"),
        ("abc-7", "does not name an answer"),
    ],
)
async def test_a_position_that_names_no_work_is_refused_and_starts_nothing(
    port: int, upstream: Upstream, position: str, hint: str
) -> None:
    for path, method, body in [("/sse/chat", "GET", b""), ("/generations", "POST", b'{"prompt": "hi"}')]:
        answer = await ask(port, path, method=method, headers={**JSON, "Last-Event-ID": position}, body=body)
        assert answer.status == 400, answer
        assert answer.headers["content-type"] == "application/problem+json"
        assert hint in answer.json()["detail"]
        assert answer.json()["errors"][0]["field"] == "Last-Event-ID"
    assert upstream.requests == []


async def test_the_position_may_come_in_the_query(port: int, upstream: Upstream) -> None:
    source = EventSource(port, "/sse/chat?message=hi")
    await source.read_events(4)
    path = f"/sse/chat?message=hi&lastEventId={source.last_event_id}"
    async with await open_stream(port, path) as stream:
        await stream.rest()
    assert stream.data == [*TOKENS[3:], "[DONE]"]
    assert len(upstream.requests) == 1


# --- POST


@pytest.mark.parametrize("count", [1, 2, 5, len(TOKENS) + 1])
async def test_a_post_sent_again_with_its_position_attaches(port: int, upstream: Upstream, count: int) -> None:
    source = EventSource(port, "/generations?dialect=plain", "POST", b'{"prompt": "hi"}', JSON)
    await source.read_events(count)
    await source.read_all()
    assert [event.data for event in source.events] == ["", *TOKENS, "[DONE]"]
    assert source.statuses[-1] == 204
    assert len(upstream.requests) == 1


async def test_a_post_without_a_position_always_starts_anew(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer((), ending=stall)]
    locations = []
    for _ in range(2):
        stream = await open_stream(port, "/generations", method="POST", headers=JSON, body=b'{"prompt": "hi"}')
        locations.append(stream.headers["location"])
        stream.cut()
        await nobody_reads(port, locations[-1])
    assert len(set(locations)) == 2
    await upstream.request(1)


async def test_an_attached_reader_is_told_the_location_too(port: int) -> None:
    source = EventSource(port, "/sse/chat?message=hi")
    await source.read_events(2)
    async with await source.connect() as stream:
        assert stream.headers["location"].removeprefix("/generations/") == source.last_event_id.partition(".")[0]
        shown = await generation(port, stream.headers["location"])
    assert shown["provider"] == "up"


async def test_all_these_reconnects_count_as_one_generation(port: int) -> None:
    source = EventSource(port, "/sse/chat?message=hi")
    await source.read_all([200] * 8)
    counted = await metrics(port)
    assert counted["yeoul_generations_started_total"] == 1
    assert counted['yeoul_generations_ended_total{provider="up",state="done"}'] == 1
    assert counted["yeoul_generation_tokens_total"] == len(TOKENS)


# --- the last event


STREAMS = [
    ("/sse/chat?message=hi", "GET", b""),
    ("/sse/fake-llm", "GET", b""),
    ("/generations?dialect=json", "POST", b'{"prompt": "hi"}'),
    ("/generations?dialect=openai", "POST", b'{"prompt": "hi"}'),
]


@one_outlet
@pytest.mark.parametrize(("path", "method", "body"), STREAMS)
async def test_after_the_last_event_it_is_204_even_where_the_server_has_forgotten_the_answer(
    port: int, path: str, method: str, body: bytes
) -> None:
    source = EventSource(port, path, method, body, JSON)
    await source.read_all()
    assert source.statuses == [200, 204]
    async with serving(create_app(make_settings())) as other:
        source.port = other
        await source.read_all()
    assert source.statuses == [200, 204, 204]


@one_outlet
async def test_after_a_failure_it_is_204_too(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(TOKENS[:2], ending=eof)]
    source = EventSource(port, "/sse/chat?message=hi")
    await source.read_all()
    assert source.events[-1].type == "failure"
    async with serving(create_app(make_settings())) as other:
        source.port = other
        await source.read_all()
    assert source.statuses == [200, 204, 204]


FETCH = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 204),
        ({**FETCH, "Cache-Control": "no-cache"}, 204),  # EventSource in a browser
        (FETCH, 200),  # fetch
    ],
)
async def test_a_library_on_top_of_fetch_is_given_a_stream_that_ends_cleanly_instead_of_204(
    port: int, upstream: Upstream, headers: dict[str, str], status: int
) -> None:
    async with await open_stream(port, "/sse/chat?message=hi", headers=headers) as stream:
        last = (await stream.rest())[-1]
    async with await open_stream(port, "/sse/chat?message=hi", headers=headers, last_event_id=last.id or "") as again:
        assert again.status == status
        assert await again.rest() == []
        assert again.ended
    async with (
        serving(create_app(make_settings())) as other,
        await open_stream(other, "/sse/chat?message=hi", headers=headers, last_event_id=last.id or "") as again,
    ):
        assert again.status == status
        assert await again.rest() == []
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("dialect", ["plain", "json", "envelope"])
@pytest.mark.parametrize("ending", [complete(), eof])
async def test_a_client_may_ask_for_a_named_last_event(
    port: int, upstream: Upstream, dialect: str, ending: object
) -> None:
    upstream.scripts = [Answer(ending=ending)]  # type: ignore[arg-type]
    path = f"/generations?dialect={dialect}&end_event=true"
    async with await open_stream(port, path, method="POST", headers=JSON, body=b'{"prompt": "hi"}') as stream:
        *before, last = await stream.rest()
    assert (last.type, json.loads(last.data)) == ("stream.end", {"state": "incomplete" if ending is eof else "done"})
    assert last.id is not None
    assert last.id.endswith(".end")
    assert not any((event.id or "").endswith(".end") for event in before)
    location = stream.headers["location"]
    async with await open_stream(port, f"{location}/stream?dialect={dialect}") as without:
        assert "stream.end" not in {event.type for event in await without.rest()}
    # Cut right before it, it still comes.
    async with await open_stream(
        port, path, method="POST", headers=JSON, body=b'{"prompt": "hi"}', last_event_id=before[-1].id or ""
    ) as again:
        assert await again.rest() == [last]


async def test_the_openai_dialect_never_has_it(port: int) -> None:
    path = "/generations?dialect=openai&end_event=true"
    async with await open_stream(port, path, method="POST", headers=JSON, body=b'{"prompt": "hi"}') as stream:
        assert (await stream.rest())[-1].data == "[DONE]"
