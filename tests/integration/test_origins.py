"""What pages of other origins may do: link here, and no more, unless they are named."""

from __future__ import annotations

import asyncio

import pytest

from support.reader import ask, open_stream, publish
from support.serving import one_outlet
from support.tokens import bearer
from support.upstream import Upstream

APP = "https://app.example.com"
named = pytest.mark.settings(cors_origins=[APP])

FOREIGN = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Content-Type": "text/plain"}
WORK = [
    ("POST", "/topics/a"),
    ("GET", "/sse/chat?message=hi"),
    ("GET", "/topics/a"),
    ("POST", "/generations"),
    ("DELETE", "/generations/x"),
]


@one_outlet
@pytest.mark.parametrize(("method", "path"), WORK)
@pytest.mark.parametrize(
    "headers",
    [
        FOREIGN,
        {**FOREIGN, "Sec-Fetch-Site": "same-site"},
        {**FOREIGN, "Origin": "https://evil.example", "Sec-Fetch-Mode": "cors"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:5173.evil.example"},
    ],
)
async def test_a_page_of_another_origin_can_neither_publish_nor_start_work(
    port: int, upstream: Upstream, method: str, path: str, headers: dict[str, str]
) -> None:
    answer = await ask(port, path, method=method, headers=headers, body=b"x" if method == "POST" else b"")
    assert answer.status == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in answer.headers
    assert "YEOUL_CORS_ORIGINS" in answer.json()["detail"]
    assert headers.get("Origin", "") in answer.json()["detail"]
    assert upstream.requests == []


@one_outlet
async def test_a_link_leads_here_and_own_pages_and_programs_do_as_they_like(port: int) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await ask(port, "/", headers=link)).status == 200
    text = {"Content-Type": "text/plain"}
    own = {"Origin": f"http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    for headers in (text, {**text, **own}, {**FOREIGN, "Sec-Fetch-Site": "none"}):
        assert (await ask(port, "/topics/a", method="POST", headers=headers, body=b"x")).status == 202
    form = {**link, **text, "Origin": "null"}
    assert (await ask(port, "/topics/a", method="POST", headers=form, body=b"x")).status == 403, "a form is no link"


@one_outlet
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("dest", ["iframe", "document"])
async def test_neither_a_frame_nor_a_link_starts_an_answer(port: int, upstream: Upstream, site: str, dest: str) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": dest}
    assert (await ask(port, "/sse/chat?message=hi", headers=headers)).status == 403
    assert upstream.requests == []


@named
async def test_a_page_that_is_named_reads_streams_and_starts_answers(port: int, upstream: Upstream) -> None:
    page = {"Origin": APP, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"}
    async with await open_stream(port, "/topics/a", headers=page) as stream:
        assert stream.status == 200
        assert stream.headers["access-control-allow-origin"] == APP
        assert stream.headers["access-control-allow-credentials"] == "true"
        assert "location" in stream.headers["access-control-expose-headers"]
        assert stream.headers["vary"] == "Origin"
        await publish(port, "a", "hello")
        await stream.until(lambda events: "hello" in [event.data for event in events])
    async with await open_stream(port, "/sse/chat?message=hi", headers=page) as answer:
        assert answer.status == 200
        await answer.rest()
    assert len(upstream.requests) == 1


async def test_a_stream_without_an_origin_is_not_cached_for_other_origins(port: int) -> None:
    async with await open_stream(port, "/topics/a") as stream:
        assert stream.headers["vary"] == "Origin"
        assert "access-control-allow-origin" not in stream.headers


@one_outlet
@pytest.mark.settings(cors_origins=[APP], max_body_bytes=100)
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/topics/a", bearer("nonsense"), 401),
        ("GET", "/nothing-here", {}, 404),
        ("POST", "/livez", {}, 405),
        ("POST", "/sse/chat", {}, 413),
        ("POST", "/topics/a", {"Content-Type": "image/png"}, 415),
        ("GET", "/stream", {}, 422),
        ("GET", "/sse/chat?message=x&lastEventId=nonsense", {}, 400),
    ],
)
async def test_a_page_that_is_named_can_read_why_it_is_refused(
    port: int, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    body = b"x" * 101 if status == 413 else b""
    answer = await ask(port, path, method=method, headers={"Origin": APP, **headers}, body=body)
    assert answer.status == status
    assert answer.headers["access-control-allow-origin"] == APP
    assert "Origin" in answer.headers["vary"]
    assert answer.json()["detail"]


@one_outlet
async def test_in_demo_mode_the_development_servers_of_this_machine_are_named(port: int) -> None:
    for origin in ("http://localhost:3000", "http://127.0.0.1:5173"):
        asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = await ask(port, "/topics/a", method="OPTIONS", headers=asked)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)
    for origin in ("http://localhost:3001", "https://localhost:3000", "http://localhost:30000"):
        assert (await ask(port, "/livez", headers={"Origin": origin})).status == 403


@one_outlet
@pytest.mark.settings(cors_origins=[])
async def test_none_can_be_named(port: int) -> None:
    assert (await ask(port, "/livez", headers={"Origin": "http://localhost:3000"})).status == 403


@one_outlet
async def test_two_origins_are_one_too_many(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    own = f"Origin: http://127.0.0.1:{port}\r\n"
    writer.write(f"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{own}{own}Connection: close\r\n\r\n".encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
    writer.close()
