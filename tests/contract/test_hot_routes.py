"""Hot routes give the answers that FastAPI gives for them: what is right, and each thing that is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from support.reader import Answer, ask, open_stream
from support.serving import serving
from support.settings import make_settings
from support.tokens import bearer, demo_token
from yeoul.app import create_app
from yeoul.asgi.authentication import require_user
from yeoul.asgi.routing import HotRoutes, hot, stream_route

USER = bearer(demo_token("u1"))
TEXT = {"Content-Type": "text/plain"}
JSON = {"Content-Type": "application/json"}
MANY = "&".join(f"topic=t{number}" for number in range(51))


class PassThrough:
    """A middleware: with one, FastAPI's router finds all routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


@pytest.fixture
async def ports() -> AsyncIterator[tuple[int, int]]:
    """Two servers: with hot routes, and without."""
    hot, plain = create_app(make_settings(max_newest=100)), create_app(make_settings(max_newest=100))
    plain.add_middleware(PassThrough)
    async with serving(hot) as one, serving(plain) as other:
        yield one, other


def shown(answer: Answer) -> tuple[int, Mapping[str, str], Any]:
    """Without what differs from one request to the next, and between two servers."""
    headers = {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
    headers.pop("content-length", None)
    body = answer.json() if "json" in headers.get("content-type", "") else answer.text
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if name not in ("request_id", "id")}
    return answer.status, headers, body


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    [
        ("POST", "/topics/a", TEXT, b"x"),
        ("POST", "/topics/a/b%20c", TEXT, b"x"),
        ("POST", "/topics/a/%ED%95%9C%EA%B8%80", TEXT, b"x"),
        ("POST", "/topics/", TEXT, b"x"),
        ("POST", "/topics/a", JSON, b'{"data": 1, "type": "t"}'),
        ("POST", "/topics/a", JSON, b'{"data": 1, "typ": "t"}'),
        ("POST", "/topics/a", JSON, b"{"),
        ("POST", "/topics/a", {}, b"x"),
        ("POST", "/topics/a", {"Content-Type": "image/png"}, b"x"),
        ("POST", "/topics/a", {**TEXT, "Idempotency-Key": "k"}, b"x"),
        ("POST", "/topics/a", {**TEXT, "Idempotency-Key": "k e y"}, b"x"),
        ("POST", "/topics/chat/a", {**TEXT, **USER}, b"x"),
        ("POST", "/topics/generations/a", TEXT, b"x"),
        ("POST", "/topics/a", {**TEXT, **bearer("nonsense")}, b"x"),
        ("PUT", "/topics/a", TEXT, b"x"),
        ("HEAD", "/topics/a", {}, b""),
        ("GET", "/topics/a?newest=x", {}, b""),
        ("GET", "/topics/a?newest=-1", {}, b""),
        ("GET", "/topics/a?newest=%2B1", {}, b""),
        ("GET", "/topics/a?newest=1.0", {}, b""),
        ("GET", "/topics/a?newest=", {}, b""),
        ("GET", "/topics/a?newest=101", {}, b""),
        ("GET", "/topics/a?newest=99999999999999999999", {}, b""),
        ("GET", "/topics/relays/a", {}, b""),
        ("GET", "/stream", {}, b""),
        ("GET", "/stream?topic=", {}, b""),
        ("GET", "/stream?topic=a%20b", {}, b""),
        ("GET", f"/stream?{MANY}", {}, b""),
        ("GET", "/stream?topic=a&newest=1&newest=x", {}, b""),
        ("GET", "/generations/none/stream", {}, b""),
        ("GET", f"/generations/{'x' * 65}/stream", {}, b""),
        ("GET", "/generations/none/stream?dialect=other", {}, b""),
        ("GET", "/generations/none/stream?from=other&dialect=other", {}, b""),
        ("GET", "/chat/stream", {}, b""),
        ("GET", "/chat/stream?room=a%20b", USER, b""),
        ("GET", "/notifications/stream", {}, b""),
        ("GET", "/realtime/stream?entityId=1", USER, b""),
        ("GET", "/realtime/stream?entityType=" + "x" * 65, USER, b""),
        ("GET", "/realtime/stream?entityType=a&entityId=", USER, b""),
        ("HEAD", "/system/status/stream", {}, b""),
    ],
)
async def test_both_ways_answer_alike(
    ports: tuple[int, int], method: str, path: str, headers: Mapping[str, str], body: bytes
) -> None:
    one, other = [shown(await ask(port, path, method=method, headers=dict(headers), body=body)) for port in ports]
    assert one == other


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/topics/a?newest=1", {}),
        ("/stream?topic=a&topic=b", {}),
        ("/stream?topic=a&topic=a&newest=2&other=1", {}),
        ("/chat/stream", USER),
        ("/notifications/stream", USER),
        ("/realtime/stream", USER),
        ("/realtime/stream?entityType=a&entityId=1&entityId=2", USER),
        ("/system/status/stream", {}),
    ],
)
async def test_both_ways_open_the_same_stream(ports: tuple[int, int], path: str, headers: Mapping[str, str]) -> None:
    found = []
    for port in ports:
        async with await open_stream(port, path, headers=dict(headers)) as stream:
            (hello, *_) = await stream.take(1)
            kept = {name: value for name, value in stream.headers.items() if name != "date"}
            found.append((stream.status, kept, hello.type, bytes(stream.raw).split(b"\n")[:2]))
    assert found[0] == found[1]


async def test_all_streams_that_many_open_are_hot() -> None:
    gate = create_app(make_settings()).gate
    assert gate is not None
    for method, path in [
        ("POST", "/topics/a/b"),
        ("GET", "/topics/a/b"),
        ("GET", "/stream"),
        ("GET", "/generations/x/stream"),
        ("GET", "/notifications/stream"),
        ("GET", "/realtime/stream"),
        ("GET", "/chat/stream"),
        ("GET", "/system/status/stream"),
    ]:
        assert gate.hot.find(method, path) is not None, path
    for method, path in [
        ("PUT", "/topics/a"),
        ("GET", "/topics"),
        ("GET", "/generations/x/y/stream"),
        ("GET", "/docs"),
    ]:
        assert gate.hot.find(method, path) is None, path


@pytest.mark.parametrize(
    ("other", "path", "is_hot"),
    [
        ("/{name}", "/a", False),
        ("/{name}", "/a/b", True),
        ("/{path:path}", "/a/b", False),
        ("/a/{id}", "/a/b", False),
        ("/a/{id}", "/a/{name}/c", True),
        ("/a/b/c", "/a/{name}/c", False),
        ("/a/b", "/a/{rest:rest}", False),
        ("/b", "/a/{rest:rest}", True),
        ("/{x}/b", "/a/b", False),
        ("/a/b", "/a/b", False),
    ],
)
def test_a_route_that_comes_first_stays_first(other: str, path: str, is_hot: bool) -> None:
    async def plain(request: Request) -> Response:
        return Response()

    async def often(request: Request) -> Response:
        return Response()

    first, second, routes = APIRouter(), APIRouter(), HotRoutes()
    first.add_api_route(other, plain)
    stream_route(second, path)(hot(often))
    routes.add(first)
    routes.add(second)
    asked = path.replace("{name}", "x").replace("{rest:rest}", "x/y")
    assert (routes.find("GET", asked) is not None) == is_hot


async def test_what_only_fastapi_can_call_is_no_hot_route() -> None:
    async def later(request: Request) -> None: ...

    async def takes_more(request: Request, value: str = Depends(require_user)) -> Response:
        return Response()

    async def plain(request: Request) -> Response:
        return Response()

    for endpoint, dependencies in ((takes_more, []), (plain, [Depends(later)])):
        router = APIRouter()
        stream_route(router, "/a")(hot(endpoint))
        with pytest.raises(TypeError, match="hot"):
            HotRoutes().add(router, dependencies)
