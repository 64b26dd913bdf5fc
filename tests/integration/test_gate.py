"""What a request is refused for before a route sees it, and how it is found again in the log."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from support.reader import Answer, ask, open_stream
from support.serving import one_outlet, serving
from support.settings import make_settings
from support.tokens import SECRET, bearer, demo_token, make_jwt
from support.upstream import Upstream
from yeoul.app import create_app

USER = bearer(demo_token("u1"))
TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}
NDJSON = {"Content-Type": "application/x-ndjson"}

signed = pytest.mark.settings(jwt_secret=SECRET, publish=["mine"], auth_failure_rate="3/minute")


async def publish(port: int, headers: dict[str, str], body: bytes = b"x") -> Answer:
    return await ask(port, "/topics/mine", method="POST", headers=headers, body=body)


# --- bodies


@one_outlet
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Type": "text/plain; charset=utf-16le"}, "hi".encode("utf-16le")),
        ({"Content-Type": "text/plain;charset=iso-8859-1"}, "é".encode("latin-1")),
        ({"Content-Type": 'text/plain; charset="EUC-KR"'}, "안녕".encode("euc-kr")),
        ({"Content-Type": "application/json; charset=utf-16"}, json.dumps({"data": "hi"}).encode("utf-16")),
        ({"Content-Type": "application/x-ndjson; charset=latin1"}, b'{"data": 1}'),
    ],
)
async def test_a_body_in_another_charset_is_refused_not_taken_for_other_text(
    port: int, headers: dict[str, str], body: bytes
) -> None:
    answer = await publish(port, headers, body)
    assert answer.status == 415
    assert "UTF-8" in answer.json()["detail"]


@one_outlet
@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "us-ascii", "utf8"])
async def test_utf_8_by_any_name_is_accepted(port: int, charset: str) -> None:
    assert (await publish(port, {"Content-Type": f"Text/Plain; Charset={charset}"})).status == 202


@one_outlet
@pytest.mark.parametrize("path", ["/topics/mine", "/chat/send"])
@pytest.mark.parametrize("coding", ["gzip", "identity, gzip", "br"])
async def test_a_compressed_body_is_refused_with_the_reason(port: int, path: str, coding: str) -> None:
    headers = {**USER, **JSON, "Content-Encoding": coding}
    if path == "/topics/mine":
        headers.pop("Authorization")
    answer = await ask(port, path, method="POST", headers=headers, body=gzip.compress(b'{"data": 1}'))
    assert answer.status == 415
    assert answer.headers["accept-encoding"] == "identity"
    assert coding in answer.json()["detail"]


@one_outlet
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"data": 1, "data": 2}', "'data' occurs twice"),
        (b'{"data": {"a": 1, "a": 2}}', "'a' occurs twice"),
        ('{"data": 1}'.encode("utf-16"), "UTF-16"),
        ('{"data": 1}'.encode("utf-16le"), "UTF-16"),
        ('{"data": 1}'.encode("utf-16be"), "UTF-16"),
        ('{"data": 1}'.encode("utf-32"), "UTF-32"),
        (b'{"data": NaN}', "is not JSON"),
    ],
)
async def test_json_that_two_parsers_read_differently_is_refused(port: int, body: bytes, said: str) -> None:
    answer = await publish(port, JSON, body)
    assert answer.status == 400
    assert said in answer.json()["detail"]
    lines = await publish(port, NDJSON, b'{"data": 0}\n' + body)
    assert lines.status in (400, 422), "of several events none is published"
    message = body.replace(b"data", b"message")
    other = await ask(port, "/chat/send", method="POST", headers={**USER, **JSON}, body=message)
    assert other.status == 400
    assert "is not" in other.json()["detail"] or "occurs twice" in other.json()["detail"]


@one_outlet
@pytest.mark.parametrize("path", ["/generations", "/ask", "/auth/tickets", "/recipes"])
@pytest.mark.parametrize("body", [b'{"a": 1, "a": 1}', '{"a": 1}'.encode("utf-16"), b"{"])
async def test_all_routes_read_json_strictly(port: int, path: str, body: bytes) -> None:
    answer = await ask(port, path, method="POST", headers={**USER, **JSON}, body=body)
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "is not" in answer.json()["detail"]


# --- wrong credentials


@signed
@one_outlet
async def test_wrong_tokens_are_limited_by_address_before_they_are_verified(port: int) -> None:
    near, far = {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.2"}
    seen, new = make_jwt("ann"), make_jwt("bob")
    assert (await publish(port, {**TEXT, **near, **bearer(seen)})).status == 202
    wrong = [make_jwt("eve", secret="x" * 40, jti=str(number)) for number in range(5)]
    statuses = [(await publish(port, {**TEXT, **near, **bearer(token)})).status for token in wrong]
    assert statuses == [401, 401, 401, 429, 429]
    refused = await publish(port, {**TEXT, **near, **bearer(new)})
    assert refused.status == 429, "it is not even looked at"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (await publish(port, {**TEXT, **near, **bearer(seen)})).status == 202, "it was verified before"
    assert (await publish(port, {**TEXT, **far, **bearer(new)})).status == 202, "others are not affected"
    assert (await publish(port, {**TEXT, **near, **bearer(new)})).status == 202, "it was verified meanwhile"


@signed
@one_outlet
async def test_a_wrong_cookie_counts_too_and_hides_nothing_that_is_open(port: int) -> None:
    for number in range(5):
        token = make_jwt("eve", secret="x" * 40, jti=str(number))
        me = await ask(port, "/auth/me", headers={"Cookie": f"yeoul_token={token}"})
        assert me.status == 200
        assert me.json()["user"] is None
    assert "too many wrong credentials" in me.json()["refused"]
    assert (await publish(port, {**TEXT, **bearer(make_jwt("eve", secret="x" * 40))})).status == 429


# --- requests that no user has made


LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
PAGE = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@one_outlet
@pytest.mark.parametrize("path", ["/sse/chat?message=hi", "/ask?question=what"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Sec-Purpose": "prefetch;anonymous-client-ip"},
        {"Purpose": "prefetch"},
        {"X-Moz": "prefetch"},
        {"X-Purpose": "preview"},
        LINK,
        PAGE,
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", **PAGE},
        {"Accept": "TEXT/HTML"},
        {"User-Agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "Accept": "*/*"},
        {"User-Agent": "facebookexternalhit/1.1", "Accept": "*/*"},
        {"User-Agent": "facebookexternalhit/1.1; kakaotalk-scrap/1.0", "Accept": "*/*"},
    ],
)
async def test_what_no_user_asked_for_starts_nothing(
    port: int, upstream: Upstream, path: str, headers: dict[str, str]
) -> None:
    answer = await ask(port, path, headers=headers)
    assert answer.status == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert upstream.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Accept": "*/*", "User-Agent": "curl/8.5.0"},
        {"Accept": "text/html;q=0, text/event-stream"},
        {"Accept": "text/event-stream, text/html;q=0.1"},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
    ],
)
async def test_what_a_program_asks_for_is_started(port: int, upstream: Upstream, headers: dict[str, str]) -> None:
    async with await open_stream(port, "/sse/chat?message=hi", headers=headers) as stream:
        assert stream.status == 200
        await stream.rest()
    assert len(upstream.requests) == 1


PRERENDER = {"Sec-Purpose": "prefetch;prerender", "Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}


@one_outlet
@pytest.mark.parametrize("sent", [LINK, PRERENDER, {"Purpose": "prefetch"}])
async def test_a_link_from_another_site_and_a_prefetch_open_no_stream_and_announce_no_member(
    port: int, sent: dict[str, str]
) -> None:
    cookie = {"Cookie": f"yeoul_token={demo_token('u1')}"}
    for path in ("/chat/stream?room=general", "/notifications/stream", "/topics/a", "/stream?topic=chat/general"):
        answer = await ask(port, path, headers={**cookie, **sent})
        assert answer.status == 403, path
    room = await ask(port, "/chat/rooms/general", headers=USER)
    assert room.json()["count"] == 0


# --- below a path of another application


@asynccontextmanager
async def mounted(*, started: bool, path: str = "/yeoul") -> AsyncIterator[int]:
    inner = create_app(make_settings())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with inner.router.lifespan_context(inner):
            yield

    outer = FastAPI(lifespan=lifespan if started else None)
    outer.mount(path, inner)
    async with serving(outer) as port:
        yield port


async def test_a_mounted_application_works_where_its_lifespan_runs() -> None:
    async with mounted(started=True) as port:
        assert (await ask(port, "/yeoul/topics/a", method="POST", headers=TEXT, body=b"x")).status == 202
        assert (await ask(port, "/topics/a", method="POST", headers=TEXT, body=b"x")).status == 404
        async with await open_stream(port, "/yeoul/topics/a?newest=1") as stream:
            assert stream.data[1:] == ["x"] or (await stream.take(2))[1].data == "x"
        assert "/yeoul/docs" in (await ask(port, "/yeoul/nothing")).json()["detail"]


async def test_what_a_mounted_application_leads_to_is_there() -> None:
    async with mounted(started=True) as port:
        asked = await ask(port, "/yeoul/generations", method="POST", json_body={"prompt": "hi", "provider": "demo"})
        recipe = {"title": "Soup", "ingredients": ["onion"], "body": "Boil it."}
        saved = await ask(port, "/yeoul/recipes", method="POST", json_body=recipe)
        async with await open_stream(port, "/yeoul/sse/chat?message=hi") as stream:
            started = stream.headers["location"]
            await stream.rest()
        for answer_status, place in (
            (asked.status, asked.headers["location"]),
            (saved.status, saved.headers["location"]),
            (201, started),
        ):
            assert answer_status == 201
            assert place.startswith("/yeoul/")
            assert (await ask(port, place)).status == 200


@pytest.mark.parametrize("place", ["/%EC%97%AC%EC%9A%B8", "/a%3B%20Domain=example.com"])
async def test_what_a_mount_with_parameters_leads_to_is_there(place: str) -> None:
    async with mounted(started=True, path="/{tenant}") as port:
        asked = await ask(port, f"{place}/generations", method="POST", json_body={"prompt": "hi", "provider": "demo"})
        assert asked.headers["location"].startswith(f"{place}/generations/")
        session = await ask(port, f"{place}/auth/session", method="POST", headers=bearer(demo_token("ann")))
        assert f"; Path={place}; " in session.headers["set-cookie"]
        async with await open_stream(port, f"{place}/sse/chat?message=hi") as stream:
            assert stream.headers["location"].startswith(f"{place}/generations/")
        assert f"{place}/docs" in (await ask(port, f"{place}/nothing")).json()["detail"]


async def test_a_mounted_application_that_was_not_started_says_so() -> None:
    async with mounted(started=False) as port:
        for path in ("/yeoul/readyz", "/yeoul/livez", "/yeoul/topics/a", "/yeoul/recipes"):
            answer = await ask(port, path)
            assert answer.status == 503
            assert "lifespan" in answer.json()["detail"]


# --- request ids


@one_outlet
async def test_a_problem_has_an_id_and_keeps_the_one_that_came_with_the_request(port: int) -> None:
    one, other = await ask(port, "/nothing"), await ask(port, "/nothing")
    assert one.json()["request_id"] == one.headers["x-request-id"] != other.headers["x-request-id"]
    kept = await ask(port, "/nothing", headers={"X-Request-ID": "abc-1.2_3"})
    assert kept.json()["request_id"] == kept.headers["x-request-id"] == "abc-1.2_3"
    for odd in ("a b", "x" * 65, "<b>", ""):
        answer = await ask(port, "/nothing", headers={"X-Request-ID": odd})
        assert answer.headers["x-request-id"] != odd


async def test_the_log_names_the_request_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    app: Any = create_app(make_settings())

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("broken")

    async with serving(app) as port:
        with caplog.at_level(logging.ERROR):
            answer = await ask(port, "/bug")
    assert answer.status == 500
    assert f"request {answer.headers['x-request-id']}" in caplog.text
