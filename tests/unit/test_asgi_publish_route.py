"""What a router has whose routes publish."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from yeoul.asgi.errors import Problem, problem_of
from yeoul.asgi.idempotency import IdempotencyKeys
from yeoul.asgi.rates import Rates
from yeoul.asgi.routing import PublishRoute


@pytest.fixture
def app() -> FastAPI:
    router = APIRouter(route_class=PublishRoute)
    sent: list[bytes] = []

    @router.post("/send", openapi_extra={"parameters": [{"name": "x-other", "in": "header", "schema": {}}]})
    async def send(request: Request) -> Response:
        await asyncio.sleep(0)
        sent.append(await request.body())
        return Response(b"%d" % len(sent))

    @router.get("/send")
    async def look(request: Request) -> Response:
        return Response(b"%d" % len(sent))

    outer = APIRouter()
    outer.include_router(router, prefix="/a")
    made = FastAPI()
    made.include_router(outer, prefix="/b")

    @made.exception_handler(Problem)
    async def ours(request: Request, error: Problem) -> Response:
        return problem_of(error)

    return made


async def ask(app: FastAPI, method: str = "POST", *, key: str | None = None, body: bytes = b"x") -> tuple[int, Any]:
    messages: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        messages.append(message)

    headers = [(b"host", b"localhost"), *([(b"idempotency-key", key.encode())] if key else [])]
    scope = {"type": "http", "method": method, "path": "/b/a/send", "raw_path": b"/b/a/send", "query_string": b""}
    rest = {"headers": headers, "client": ("192.0.2.1", 1), "server": ("127.0.0.1", 80), "scheme": "http"}
    await app({**scope, **rest, "root_path": "", "http_version": "1.1", "asgi": {"version": "3.0"}}, receive, send)
    return messages[0]["status"], messages[1]["body"]


async def test_with_nothing_configured_routes_are_as_others(app: FastAPI) -> None:
    assert [await ask(app, key="k") for _ in range(2)] == [(200, b"1"), (200, b"2")]


async def test_each_post_counts_and_other_methods_do_not(app: FastAPI) -> None:
    app.state.rates = Rates(publish="2/hour")
    assert [(await ask(app))[0] for _ in range(3)] == [200, 200, 429]
    assert [(await ask(app, "GET", key=""))[0] for _ in range(3)] == [200] * 3
    assert app.state.rates.refused["publish"] == 1


async def test_a_key_is_respected(app: FastAPI) -> None:
    app.state.idempotency_keys = IdempotencyKeys(60)
    assert [await ask(app, key="k") for _ in range(2)] == [(200, b"1")] * 2
    assert (await ask(app, key="k", body=b"y"))[0] == 422
    assert {status for status, _ in await asyncio.gather(*(ask(app, key="new") for _ in range(3)))} == {200, 409}
    assert await ask(app, "GET", key="k") == (200, b"2")


def test_the_key_is_documented_once_however_often_the_router_is_included(app: FastAPI) -> None:
    operations = app.openapi()["paths"]["/b/a/send"]
    assert [parameter["name"] for parameter in operations["post"]["parameters"]] == ["x-other", "Idempotency-Key"]
    assert "parameters" not in operations["get"]
