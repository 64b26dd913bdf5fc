"""Answers as resources: made, shown, read from anywhere, stopped, listed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.polling import eventually, generation
from support.reader import RawStream, ask, open_stream
from support.serving import one_outlet, serving
from support.settings import make_settings
from support.tokens import bearer, demo_token
from support.upstream import TOKENS, Answer, Upstream, complete, stall
from yeoul.app import create_app

TEXT = "".join(TOKENS)
STREAM = {"Accept": "text/event-stream", "Content-Type": "application/json"}


async def make(port: int, **body: Any) -> tuple[str, dict[str, Any]]:
    """A new one: its location and what the server said of it."""
    answer = await ask(port, "/generations", method="POST", json_body={"prompt": "hi", **body})
    assert answer.status == 201, answer
    return answer.headers["location"], answer.json()


async def post_stream(port: int, query: str = "", *, last_event_id: str = "", **body: Any) -> RawStream:
    return await open_stream(
        port,
        f"/generations{query}",
        method="POST",
        headers=STREAM,
        body=json.dumps({"prompt": "hi", **body}).encode(),
        last_event_id=last_event_id,
    )


def contents(stream: RawStream) -> list[str]:
    """The texts of the `json` dialect."""
    return [json.loads(data)["content"] for data in stream.data if "content" in json.loads(data)]


# --- making one


async def test_a_new_one_is_created_at_a_location_and_ends_without_a_reader(port: int, upstream: Upstream) -> None:
    location, made = await make(port)
    assert (made["state"], made["provider"], made["model"]) == ("running", "up", "m")
    assert location == f"/generations/{made['id']}"
    shown = await generation(port, location, "done")
    assert shown["text"] == TEXT
    assert shown["finish_reason"] == "stop"
    assert shown["usage"] == {"input_tokens": 12, "output_tokens": len(TOKENS)}
    assert shown["tokens"] == len(TOKENS)
    assert shown["error"] is None
    assert shown["created"] <= shown["first_token_at"] <= shown["ended_at"]
    assert len(upstream.requests) == 1


async def test_a_request_for_a_stream_is_answered_at_once(port: int) -> None:
    async with await post_stream(port) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        location = stream.headers["location"]
        await stream.rest()
        assert contents(stream) == ["", *TOKENS]
        assert json.loads(stream.data[-1]) == {"done": True}
        assert (stream.events[0].id or "").startswith(location.removeprefix("/generations/") + ".")
    assert (await generation(port, location))["state"] == "done"


@pytest.mark.parametrize(
    ("path", "body", "dialect"),
    [
        ("/generations?dialect=plain", {"prompt": "hi"}, "plain"),
        ("/generations?dialect=openai", {"prompt": "hi"}, "openai"),
        ("/api/recipes/generate-stream?end_event=true", {"ingredients": ["양파"]}, "json&end_event=true"),
        ("/ai/chatbot/recommendation/free-text", {"message": "hi"}, "envelope"),
    ],
)
async def test_a_stream_that_was_started_by_a_post_is_read_on_by_a_get_of_its_content_location(
    port: int, upstream: Upstream, path: str, body: dict[str, Any], dialect: str
) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(2, go_on))]
    async with await open_stream(port, path, method="POST", headers=STREAM, body=json.dumps(body).encode()) as first:
        assert first.headers["content-location"] == f"{first.headers['location']}/stream?dialect={dialect}"
        await first.take(1)
        first.cut()
    go_on.set()
    address = first.headers["content-location"]
    async with (
        await open_stream(port, address, last_event_id=first.events[0].id or "") as rest,
        await open_stream(port, address) as whole,
    ):
        await rest.rest()
        await whole.rest()
    assert rest.data == whole.data
    assert rest.headers["location"] == first.headers["location"]
    assert (rest.events[-1].id or "").endswith(".end")
    assert len(upstream.requests) == 1


@one_outlet
@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (
            {"prompt": "hi"},
            {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16_000},
        ),
        (
            {
                "messages": [{"role": "system", "content": "brief"}, {"role": "user", "content": "양파"}],
                "model": "m-2",
                "max_tokens": 7,
                "temperature": 0,
            },
            {
                "model": "m-2",
                "messages": [{"role": "system", "content": "brief"}, {"role": "user", "content": "양파"}],
                "max_tokens": 7,
                "temperature": 0,
            },
        ),
    ],
)
async def test_what_is_asked_reaches_the_model(
    port: int, upstream: Upstream, body: dict[str, Any], sent: dict[str, Any]
) -> None:
    answer = await ask(port, "/generations", method="POST", json_body=body)
    assert answer.status == 201
    await generation(port, answer.headers["location"], "done")
    asked = upstream.requests[0].json
    assert {name: asked[name] for name in sent} == sent
    assert set(asked) - set(sent) - {"max_tokens"} == {"stream", "stream_options"}


@one_outlet
@pytest.mark.parametrize(
    ("body", "field", "hint"),
    [
        ({}, "body", "either `messages` or `prompt`"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "body", "either"),
        ({"prompt": " "}, "body", "blank: write a question"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "robot", "content": "b"}]}, "messages.0.role", "'user'"),
        ({"messages": [{"role": "user", "content": "b", "name": "x"}]}, "messages.0.name", "unknown field"),
        ({"prompt": "a", "provider": "nobody"}, "provider", "use one of up, demo"),
        ({"prompt": "a", "provider": "openai"}, "provider", "set OPENAI_API_KEY"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"prompt": "a", "temperature": 3}, "temperature", "less than or equal to 2"),
        ({"prompt": "a", "stream": True}, "stream", "unknown field"),
        ({"prompt": "a", "on_disconnect": "stop"}, "on_disconnect", "'continue' or 'cancel'"),
        ({"prompt": "a", "on_disconnect": {"cancel_after_s": -1}}, "on_disconnect", "greater than or equal to 0"),
        ({"prompt": "x" * 1_000_001}, "body", "more than 1000000 characters"),
    ],
)
@pytest.mark.settings(max_body_bytes=2_000_000)
async def test_a_wrong_request_is_refused_by_field_and_nothing_is_asked(
    port: int, upstream: Upstream, body: dict[str, Any], field: str, hint: str
) -> None:
    answer = await ask(port, "/generations", method="POST", json_body=body)
    assert answer.status == 422, answer
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["title"].startswith("Unprocessable")
    assert hint in problem["detail"]
    assert any(error["field"].startswith(field) for error in problem["errors"])
    assert upstream.requests == []


@one_outlet
@pytest.mark.parametrize(
    ("content_type", "body", "status", "hint"),
    [
        ("application/x-www-form-urlencoded", b'{"prompt": "a"}', 415, "send application/json"),
        ("text/plain", b"hi", 415, "send application/json"),
        ("application/json", b'{"prompt": ', 400, "not JSON"),
        ("application/json", b"", 422, "body: Field required"),
        ("application/json", b"\xff\xfe", 400, "not JSON"),
        ("application/json", b'"hi"', 422, "dictionary"),
    ],
)
async def test_a_body_of_another_form_is_refused_with_what_to_send(
    port: int, content_type: str, body: bytes, status: int, hint: str
) -> None:
    answer = await ask(port, "/generations", method="POST", headers={"Content-Type": content_type}, body=body)
    assert answer.status == status, answer
    assert hint in answer.json()["detail"]


@one_outlet
@pytest.mark.parametrize("body", [b'{"prompt": "a", "\\ud800": 1}', b'{"prompt": "\\ud800"}'])
async def test_half_of_a_surrogate_pair_is_refused_like_any_wrong_field(port: int, body: bytes) -> None:
    answer = await ask(port, "/generations", method="POST", headers={"Content-Type": "application/json"}, body=body)
    assert answer.status == 422
    assert answer.json()["errors"]


@one_outlet
async def test_an_unknown_dialect_is_refused_with_those_that_there_are(port: int, upstream: Upstream) -> None:
    location, _ = await make(port)
    for method, path in [("POST", "/generations?dialect=xml"), ("GET", f"{location}/stream?dialect=xml")]:
        json_body = {"prompt": "hi"} if method == "POST" else None
        answer = await ask(port, path, method=method, json_body=json_body)
        assert answer.status == 422
        assert answer.json()["errors"][0]["field"] == "dialect"
        assert all(name in answer.json()["detail"] for name in ("plain", "json", "envelope", "openai"))
    assert len(upstream.requests) == 1


@one_outlet
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_an_unknown_one_is_not_found(port: int, method: str) -> None:
    for path in ("/generations/nothing", "/generations/nothing/stream"):
        if (method, path[-6:]) != ("DELETE", "stream"):
            answer = await ask(port, path, method=method)
            assert answer.status == 404
            assert "no longer kept" in answer.json()["detail"]


# --- reading one


async def test_a_stream_from_the_start_has_all_of_a_finished_answer(port: int) -> None:
    location, _ = await make(port)
    await generation(port, location, "done")
    async with await open_stream(port, f"{location}/stream") as stream:
        await stream.rest()
    assert contents(stream) == list(TOKENS)
    assert json.loads(stream.data[-1]) == {"done": True}


@pytest.mark.parametrize("way", ["header", "query"])
async def test_a_stream_goes_on_after_the_last_event_and_is_over_when_read_to_its_end(port: int, way: str) -> None:
    location, _ = await make(port)
    await generation(port, location, "done")
    async with await open_stream(port, f"{location}/stream") as stream:
        ids = [event.id or "" for event in await stream.rest()]
    for index, id in enumerate(ids):
        query, header = (f"?lastEventId={id}", "") if way == "query" else ("", id)
        async with await open_stream(port, f"{location}/stream{query}", last_event_id=header) as again:
            await again.rest()
        if index < len(ids) - 1:
            assert contents(again) == list(TOKENS[index + 1 :])
            assert again.events[-1].id == ids[-1]
        else:
            assert again.status == 204
            assert again.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("dialect", ["json", "plain", "envelope", "openai"])
async def test_a_stream_that_was_read_to_its_end_is_over_after_a_restart_too(port: int, dialect: str) -> None:
    location, _ = await make(port)
    path = f"{location}/stream?dialect={dialect}"
    async with await open_stream(port, path) as stream:
        *_, before, last = [event.id or "" for event in await stream.rest()]
    async with serving(create_app(make_settings())) as other:
        for id, status in ((last, 204), (before, 404), ("", 404), ("5", 404), (f"other.{last}", 404)):
            async with await open_stream(other, path, last_event_id=id) as again:
                assert again.status == status, id


async def test_several_readers_of_a_running_answer_all_get_all_of_it(port: int, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(4, go_on))]
    location, _ = await make(port)
    async with (
        await open_stream(port, f"{location}/stream") as first,
        await open_stream(port, f"{location}/stream?dialect=plain") as second,
    ):
        await first.take(4)
        assert (await generation(port, location))["readers"] == 2
        go_on.set()
        await first.rest()
        await second.rest()
    assert contents(first) == list(TOKENS)
    assert second.data == [*TOKENS, "[DONE]"]


async def test_a_snapshot_is_the_text_so_far_in_one_event_then_what_follows(port: int, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(4, go_on))]
    location, _ = await make(port)

    async def four() -> bool:
        return bool((await generation(port, location))["tokens"] == 4)

    await eventually(four)
    path = f"{location}/stream?from=snapshot"
    async with await open_stream(port, path) as stream:
        snapshot = (await stream.take(1))[0]
        assert contents(stream) == ["".join(TOKENS[:4])]
        go_on.set()
        await stream.rest()
    assert contents(stream)[1:] == list(TOKENS[4:])
    async with await open_stream(port, path, last_event_id=snapshot.id or "") as again:
        await again.rest()
    assert contents(again) == list(TOKENS[4:])


async def test_a_snapshot_of_a_finished_answer_is_its_text_and_its_end(port: int) -> None:
    location, _ = await make(port)
    await generation(port, location, "done")
    async with await open_stream(port, f"{location}/stream?from=snapshot") as stream:
        await stream.rest()
    assert contents(stream) == [TEXT]
    assert json.loads(stream.data[-1]) == {"done": True}


async def test_a_snapshot_before_the_first_token_is_just_the_stream(port: int, upstream: Upstream) -> None:
    go_on = asyncio.Event()
    upstream.scripts = [Answer(hold=(0, go_on))]
    location, _ = await make(port)
    async with await open_stream(port, f"{location}/stream?from=snapshot") as stream:
        go_on.set()
        await stream.rest()
    assert contents(stream) == list(TOKENS)


@one_outlet
@pytest.mark.parametrize("position", ["rubbish", "-1", "abc-01", "a b", "x" * 300])
async def test_an_invalid_position_is_refused(port: int, position: str) -> None:
    location, _ = await make(port)
    answer = await ask(port, f"{location}/stream", headers={"Last-Event-ID": position})
    assert answer.status == 400
    assert "send back the last `id:`" in answer.json()["detail"]


async def test_head_tells_what_a_stream_would_be(port: int) -> None:
    location, _ = await make(port)
    answer = await ask(port, f"{location}/stream", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"


# --- stopping one


async def test_a_stop_reaches_a_silent_model_at_once_and_keeps_the_text(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(TOKENS[:3], ending=stall)]
    async with await post_stream(port, "?dialect=plain") as stream:
        location = stream.headers["location"]
        await stream.take(4)
        answer = await ask(port, location, method="DELETE")
        assert answer.status == 200
        stopped = answer.json()
        assert (stopped["state"], stopped["text"]) == ("cancelled", "".join(TOKENS[:3]))
        async with asyncio.timeout(20):
            await upstream.requests[0].closed.wait()
        last = (await stream.rest())[-1]
    assert last.type == "failure"
    said = {"message": "this answer was stopped", "kind": "cancelled", "retryable": False}
    assert json.loads(last.data) == {"state": "cancelled", **said}
    again = await ask(port, location, method="DELETE")
    assert (again.status, again.json()["state"]) == (200, "cancelled")


async def test_a_stop_before_the_model_has_answered_ends_the_request(port: int, upstream: Upstream) -> None:
    async def silent(exchange: Any) -> None:
        await exchange.request.closed.wait()

    upstream.scripts = [silent]
    location, _ = await make(port)
    request = await upstream.request()
    answer = await ask(port, location, method="DELETE")
    assert (answer.json()["state"], answer.json()["text"]) == ("cancelled", "")
    async with asyncio.timeout(20):
        await request.closed.wait()


async def test_a_stop_of_a_finished_answer_changes_nothing(port: int) -> None:
    location, _ = await make(port)
    await generation(port, location, "done")
    assert (await ask(port, location, method="DELETE")).json()["state"] == "done"


# --- listing them


async def test_the_list_has_the_callers_running_ones_and_all_for_an_admin(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Answer(ending=complete()), Answer(ending=stall)]
    done, _ = await make(port)
    await generation(port, done, "done")
    running, _ = await make(port)
    async with await open_stream(port, "/sse/chat") as chat:
        listed = (await ask(port, "/generations")).json()["generations"]
        assert {f"/generations/{one['id']}" for one in listed} == {running, chat.headers["location"]}
        theirs = bearer(demo_token("u2"))
        other = await ask(port, "/generations", method="POST", headers=theirs, json_body={"prompt": "another's"})
        assert other.status == 201
        listed = (await ask(port, "/generations", headers=theirs)).json()["generations"]
        assert [one["id"] for one in listed] == [other.json()["id"]]
        assert len((await ask(port, "/generations")).json()["generations"]) == 3


@one_outlet
@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
async def test_a_caller_behind_a_proxy_has_no_list(port: int, header: str) -> None:
    answer = await ask(port, "/generations", headers={header: "10.0.0.1"})
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="yeoul"'
