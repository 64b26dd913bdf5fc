"""Work that costs money is started once, and only where someone has asked for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import yeoul.hub.job
from support.polling import eventually, generation, nobody_reads
from support.reader import Answer as HttpAnswer
from support.reader import RawStream, ask, open_stream
from support.relayed import MARKED, Says, route
from support.serving import one_outlet, serving
from support.settings import make_settings
from support.tokens import bearer, demo_token
from support.upstream import TOKENS, Answer, Refusal, Upstream, stall
from yeoul.app import create_app
from yeoul.asgi.resume import Completions

TEXT = "".join(TOKENS)
RECIPE = {"ingredients": ["양파"]}
POSTS: list[tuple[str, dict[str, Any]]] = [
    ("/generations", {"prompt": "hi"}),
    ("/api/recipes/generate-stream", RECIPE),
    ("/ai/chatbot/recommendation/free-text", {"message": "hi"}),
    ("/ai/chatbot/recommendation/base-info", {"location": "a", "workType": "b", "category": "c"}),
]


async def post(port: int, path: str, body: Any, key: str | None, *, stream: bool = True, **more: str) -> RawStream:
    accept = "text/event-stream" if stream else "application/json"
    headers = {"Content-Type": "application/json", "Accept": accept, **more}
    if key is not None:
        headers["Idempotency-Key"] = key
    return await open_stream(port, path, method="POST", headers=headers, body=json.dumps(body).encode())


async def whole(stream: RawStream) -> HttpAnswer:
    async with stream:
        await stream.rest()
    return HttpAnswer(stream.status, stream.headers, bytes(stream.raw))


# --- Idempotency-Key


@pytest.mark.parametrize(("path", "body"), POSTS)
async def test_the_same_key_is_the_same_answer(port: int, upstream: Upstream, path: str, body: dict[str, Any]) -> None:
    first = await whole(await post(port, path, body, "k-1"))
    again = await whole(await post(port, path, body, "k-1"))
    assert (first.status, again.status) == (200, 200)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert again.body == first.body
    assert len(upstream.requests) == 1


async def test_the_same_key_finds_an_answer_that_is_still_running(port: int, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(2, go_on))]
    first = await post(port, "/generations", {"prompt": "hi"}, "k-1")
    await first.take(3)
    first.cut()
    again = await post(port, "/generations", {"prompt": "hi"}, "k-1")
    await again.take(3)
    go_on.set()
    assert "".join(json.loads(data).get("content", "") for data in (await whole(again), again.data)[1]) == TEXT
    assert len(upstream.requests) == 1


@one_outlet
async def test_of_many_at_once_with_one_key_one_is_started(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(ending=stall)]
    made = await asyncio.gather(*(post(port, "/generations", {"prompt": "hi"}, "k-1", stream=False) for _ in range(8)))
    answers = [await whole(stream) for stream in made]
    assert {answer.status for answer in answers} == {201}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert [answer.headers.get("idempotency-replayed") for answer in answers].count(None) == 1
    await upstream.request()
    streams = await asyncio.gather(*(post(port, "/generations", {"prompt": "hi"}, "k-1") for _ in range(4)))
    assert {stream.headers["location"] for stream in streams} == {answers[0].headers["location"]}
    for stream in streams:
        stream.cut()
    assert len(upstream.requests) == 1


@one_outlet
@pytest.mark.parametrize("stream", [True, False])
async def test_another_body_with_the_same_key_is_refused(port: int, upstream: Upstream, stream: bool) -> None:
    await whole(await post(port, "/generations", {"prompt": "hi"}, "k-1", stream=stream))
    answer = await whole(await post(port, "/generations", {"prompt": "ho"}, "k-1", stream=stream))
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert "use a new key" in answer.json()["detail"]
    assert len(upstream.requests) == 1


@one_outlet
async def test_another_key_route_or_user_is_another_request(port: int, upstream: Upstream) -> None:
    locations = []
    for path, key, headers in [
        ("/generations", "k-1", {}),
        ("/generations", "k-2", {}),
        ("/generations", None, {}),
        ("/generations?dialect=plain", "k-1", {}),
        ("/generations", "k-1", bearer(demo_token("ann"))),
    ]:
        answer = await whole(await post(port, path, {"prompt": "hi"}, key, **headers))
        locations.append(answer.headers["location"])
    assert len(set(locations)) == len(locations) == len(upstream.requests)


@one_outlet
@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "양파".encode().decode("latin-1")])
async def test_an_invalid_key_is_refused(port: int, upstream: Upstream, key: str) -> None:
    answer = await whole(await post(port, "/generations", {"prompt": "hi"}, key))
    assert (answer.status, "invalid Idempotency-Key" in answer.json()["detail"]) == (400, True)
    assert upstream.requests == []


@one_outlet
@pytest.mark.settings(generations_max_running=1)
async def test_a_request_that_started_nothing_may_come_again_with_its_key(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(ending=stall)]
    running = await whole(await post(port, "/generations", {"prompt": "a"}, None, stream=False))
    assert (await whole(await post(port, "/generations", {"prompt": "hi"}, "k-1"))).status == 429
    await ask(port, running.headers["location"], method="DELETE")
    upstream.scripts = [Answer()]
    answer = await whole(await post(port, "/generations", {"prompt": "hi"}, "k-1"))
    assert (answer.status, "idempotency-replayed" in answer.headers) == (200, False)


@one_outlet
@pytest.mark.settings(generations_keep_s=0.05)
async def test_a_key_is_forgotten_with_its_answer(port: int, upstream: Upstream) -> None:
    first = await whole(await post(port, "/generations", {"prompt": "hi"}, "k-1"))

    async def forgotten() -> bool:
        return (await ask(port, first.headers["location"])).status == 404

    await eventually(forgotten)
    again = await whole(await post(port, "/generations", {"prompt": "hi"}, "k-1"))
    assert "idempotency-replayed" not in again.headers
    assert len(upstream.requests) == 2


@one_outlet
async def test_a_question_to_documents_is_asked_once_with_one_key(port: int, upstream: Upstream) -> None:
    answers = [await whole(await post(port, "/ask", {"question": "what is Yeoul?"}, "k-1")) for _ in range(2)]
    assert answers[0].headers["location"] == answers[1].headers["location"]


async def test_the_gateway_asks_its_upstream_once_with_one_key() -> None:
    async with Upstream(Says()) as upstream:
        routes = [
            route(upstream, "/status", methods=["POST"], target=MARKED),
            route(upstream, "/event", methods=["POST"], errors="event", target=MARKED),
        ]
        async with serving(create_app(make_settings(routes=routes))) as port:
            for count, path in enumerate(("/status", "/event"), 1):
                first, second = await asyncio.gather(*(post(port, path, {"q": "a"}, "k-1") for _ in range(2)))
                again = await whole(await post(port, path, {"q": "a"}, "k-1"))
                assert (await whole(first)).body == (await whole(second)).body == again.body
                assert again.headers["location"] == first.headers["location"]
                other = await whole(await post(port, path, {"q": "b"}, "k-1"))
                assert len(upstream.requests) == count
                if path == "/status":
                    assert other.status == 422
                else:
                    assert "use a new key" in other.text


async def test_a_relay_that_failed_at_once_fails_again_with_its_key() -> None:
    async with Upstream(Refusal(400, b"{}")) as upstream:
        app = create_app(make_settings(routes=[route(upstream, "/r", methods=["POST"])]))
        async with serving(app) as port:
            assert [(await whole(await post(port, "/r", {"q": "a"}, "k-1"))).status for _ in range(2)] == [400, 400]
    assert len(upstream.requests) == 1


# --- not asked for


GETS = [
    "/sse/chat?message=hi",
    "/sse/chat-normal?message=hi",
    "/sse/countdown",
    "/sse/fake-llm",
    "/ask?question=hi",
    "/ai/chatbot/recommendation/free-text?message=hi",
    "/ai/chatbot/recommendation/base-info?location=a&workType=b&category=c",
    '/recipes/generate-ai-stream?ingredients=["a"]',
]
UNASKED: list[tuple[dict[str, str], str]] = [
    ({"Sec-Purpose": "prefetch"}, "prefetch"),
    ({"Sec-Purpose": "prefetch;prerender"}, "prefetch"),
    ({"Sec-Purpose": "prefetch;anonymous-client-ip"}, "prefetch"),
    ({"Purpose": "prefetch"}, "prefetch"),
    ({"X-Moz": "prefetch"}, "prefetch"),
    ({"X-Purpose": "preview"}, "prefetch"),
    ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}, "as a page"),
    ({"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, "as a page"),
    ({"User-Agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}, "preview links"),
    ({"User-Agent": "facebookexternalhit/1.1; kakaotalk-scrap/1.0"}, "preview links"),
    ({"User-Agent": "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)"}, "preview links"),
    ({"User-Agent": "WhatsApp/2.23.20.0"}, "preview links"),
    ({"User-Agent": "Mozilla/5.0 (compatible; Yeti/1.1; +https://naver.me/spd)"}, "preview links"),
    ({"User-Agent": "Mastodon/4.3.0 (http.rb/5.2.0; +https://example.social/)"}, "preview links"),
]


@one_outlet
@pytest.mark.parametrize(("headers", "hint"), UNASKED)
async def test_what_a_browser_or_a_messenger_fetches_on_its_own_starts_nothing(
    port: int, upstream: Upstream, headers: dict[str, str], hint: str
) -> None:
    for path in GETS:
        async with await open_stream(port, path, headers=headers) as stream:
            await stream.rest()
        assert (stream.status, stream.headers["content-type"]) == (403, "application/problem+json"), path
        assert hint in json.loads(stream.raw)["detail"]
    assert upstream.requests == []
    assert (await ask(port, "/generations")).json()["generations"] == []


@one_outlet
@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "text/html, text/event-stream"},  # htmx 4
        {"Accept": "*/*"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"},
        {"User-Agent": "okhttp-eventsource/4.1"},
    ],
)
async def test_what_a_program_asks_for_is_started(port: int, upstream: Upstream, headers: dict[str, str]) -> None:
    async with await open_stream(port, "/sse/chat?message=hi", headers=headers) as stream:
        assert (await stream.rest())[-1].data == "[DONE]"
    assert len(upstream.requests) == 1


# --- asked again


async def test_a_person_who_asks_again_gets_a_new_answer(
    port: int, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yeoul.hub.job, "_IN_FLIGHT", 0.0)
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(3, go_on))]
    first = await open_stream(port, "/sse/chat?message=hi")
    await first.take(3)
    first.cut()
    await nobody_reads(port, first.headers["location"])
    async with await open_stream(port, "/sse/chat?message=hi") as second:
        assert second.headers["location"] != first.headers["location"]
        go_on.set()
        await second.rest()
    await generation(port, first.headers["location"], "done")
    async with await open_stream(port, "/sse/chat?message=hi") as third:
        assert third.headers["location"] not in (first.headers["location"], second.headers["location"])
        await third.rest()
    assert len(upstream.requests) == 3


@one_outlet
async def test_a_library_that_opens_a_new_stream_after_the_end_starts_no_new_answer(
    port: int, upstream: Upstream
) -> None:
    async def opened(last_event_id: str = "", path: str = "/sse/chat?message=hi") -> RawStream:
        stream = await open_stream(port, path, last_event_id=last_event_id)
        await whole(stream)
        return stream

    first = await opened()
    assert (await opened(first.last_event_id)).status == 204
    # As htmx does, with a new EventSource each time.
    assert [(await opened()).status for _ in range(3)] == [204] * 3
    other = await opened(path="/sse/chat?message=hi&again=1")
    assert (other.status, len(upstream.requests)) == (200, 2)


@one_outlet
async def test_a_moment_after_the_end_the_same_question_is_a_new_one_again(
    port: int, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Completions, "WINDOW", 0.2)
    stream = await open_stream(port, "/sse/chat?message=hi")
    await whole(stream)
    assert (
        await whole(await open_stream(port, "/sse/chat?message=hi", last_event_id=stream.last_event_id))
    ).status == 204

    # As a person does who reloads the page, and tries again while nothing comes.
    async def answered() -> bool:
        return (await whole(await open_stream(port, "/sse/chat?message=hi"))).status == 200

    await eventually(answered)
    assert len(upstream.requests) == 2


@one_outlet
async def test_a_reader_that_closes_at_the_end_may_ask_again_at_once(port: int, upstream: Upstream) -> None:
    for count in (1, 2):
        async with await open_stream(port, "/sse/chat?message=hi") as stream:
            assert (await stream.rest())[-1].data == "[DONE]"
        assert len(upstream.requests) == count
