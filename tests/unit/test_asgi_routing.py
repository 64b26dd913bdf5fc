"""Routes that stream: GET in the description, HEAD beside it."""

from __future__ import annotations

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import Response

from support.reader import ask
from support.serving import serving
from yeoul.asgi.routing import stream_route


@pytest.fixture
def app() -> FastAPI:
    router = APIRouter()

    @stream_route(router, "/s", summary="A stream", responses={404: {"description": "None here."}})
    async def stream() -> Response:
        return Response(headers={"x-seen": "1"})

    app = FastAPI()
    app.include_router(router)
    return app


async def test_get_and_head_reach_the_same_endpoint_and_nothing_else_does(app: FastAPI) -> None:
    async with serving(app) as port:
        for method, status in [("GET", 200), ("HEAD", 200), ("POST", 405)]:
            answer = await ask(port, "/s", method=method)
            assert answer.status == status
            assert ("x-seen" in answer.headers) == (status == 200)


def test_the_description_has_the_stream_its_end_and_what_the_route_adds(app: FastAPI) -> None:
    (path,) = app.openapi()["paths"].values()
    assert list(path) == ["get"]
    assert path["get"]["summary"] == "A stream"
    assert set(path["get"]["responses"]) == {"200", "204", "404"}
    assert list(path["get"]["responses"]["200"]["content"]) == ["text/event-stream"]


async def test_the_rest_of_a_path_may_have_any_characters() -> None:
    app = FastAPI()

    @app.get("/users/{id:rest}")
    async def user(id: str) -> str:
        return id

    async with serving(app) as port:
        for encoded, id in [("a/b", "a/b"), ("a%0Ab%0A", "a\nb\n"), ("%E2%80%A8", "\u2028"), ("", "")]:
            assert (await ask(port, f"/users/{encoded}")).json() == id
