"""What OpenAPI says of every route, and once."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI, Query
from fastapi.responses import Response

from support.settings import make_settings
from support.tokens import SECRET
from yeoul.app import create_app
from yeoul.asgi.openapi import FOR_ALL, POSITION, describe, problems
from yeoul.asgi.routing import stream_route
from yeoul.errors import InvalidCursor
from yeoul.stream import LastEventId

BY_ANY = {"400", "401", "403", "421", "429", "431", "503"}


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    describe(app, cookie="token", anonymous=False, query_tokens=False)
    return app


def operation(app: FastAPI, path: str, method: str = "get") -> Any:
    return app.openapi()["paths"][path][method]


def names(operation: Any) -> list[tuple[str, str]]:
    return [(parameter["in"], parameter["name"]) for parameter in operation.get("parameters", [])]


def test_each_route_says_what_stands_in_front_of_it_may_answer(app: FastAPI) -> None:
    app.get("/a")(lambda: None)
    app.delete("/a")(lambda: None)

    @app.post("/a")
    async def write(body: dict[str, int]) -> None: ...

    assert set(operation(app, "/a")["responses"]) == {"200", *BY_ANY}
    assert set(operation(app, "/a", "delete")["responses"]) == {"200", "413", *BY_ANY}
    assert set(operation(app, "/a", "post")["responses"]) == {"200", "408", "413", "415", "422", *BY_ANY}


def test_a_problem_is_described_once_and_referred_to(app: FastAPI) -> None:
    @app.get("/a", responses=problems(404))
    async def a(n: int = Query()) -> None: ...

    document = app.openapi()
    for status in ("404", "422", "503"):
        reference = document["paths"]["/a"]["get"]["responses"][status]["$ref"]
        shared = document["components"]["responses"][reference.rpartition("/")[2]]
        assert shared["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert "HTTPValidationError" not in document["components"]["schemas"]
    unauthorized = document["components"]["responses"]["Unauthorized"]
    assert unauthorized["headers"]["WWW-Authenticate"]["required"]


def test_a_problem_in_words_of_the_route_keeps_them(app: FastAPI) -> None:
    own = {404: {**problems(404)[404], "description": "No such price."}}
    app.get("/a", responses=own)(lambda: None)
    assert operation(app, "/a")["responses"]["404"]["description"] == "No such price."


def test_success_has_the_name_of_its_status(app: FastAPI) -> None:
    app.post("/a", status_code=201)(lambda: None)
    assert operation(app, "/a", "post")["responses"]["201"]["description"] == "Created"


def test_streams_say_from_where_they_go_on(app: FastAPI) -> None:
    @stream_route(app, "/s")
    async def stream() -> Response:
        return Response()

    app.get("/a")(lambda: None)
    assert names(operation(app, "/s")) == [("header", "Last-Event-ID"), ("query", "lastEventId")]
    assert "429" in operation(app, "/s")["responses"]
    assert names(operation(app, "/a")) == []


@pytest.mark.parametrize("text", ["a-0", "k3x9q0w2ab-1042", "_W-9.k3-7", "x" * 64 + ".0-1", "a-" + "9" * 18])
def test_the_pattern_of_positions_takes_those_that_are_read(text: str) -> None:
    assert re.search(POSITION, text)
    assert str(LastEventId.parse(text)) == text


@pytest.mark.parametrize("text", ["0", "a-", "A-1", "a-01", "a--1", ".a-1", "x" * 65 + ".0-1", "a-" + "9" * 19, "a-1 "])
def test_the_pattern_of_positions_takes_no_others(text: str) -> None:
    assert not re.search(POSITION, text)
    with pytest.raises(InvalidCursor):
        LastEventId.parse(text)


def test_who_may_ask_is_said_of_each_route(app: FastAPI) -> None:
    app.get("/a")(lambda: None)
    app.post("/a")(lambda: None)
    app.get("/open", openapi_extra=FOR_ALL)(lambda: None)
    assert operation(app, "/a")["security"] == [{"bearer": []}, {"cookie": []}, {"ticket": []}]
    assert operation(app, "/a", "post")["security"] == [{"bearer": []}, {"cookie": []}]
    assert operation(app, "/open")["security"] == [{}, {"bearer": []}, {"cookie": []}, {"ticket": []}]
    schemes = app.openapi()["components"]["securitySchemes"]
    assert schemes["cookie"]["name"] == "token"
    assert "token" not in schemes


def test_a_route_that_comes_later_is_described_too_and_none_twice(app: FastAPI) -> None:
    app.get("/a")(lambda: None)
    assert app.openapi() is app.openapi()
    app.get("/b")(lambda: None)
    for path in ("/a", "/b"):
        assert set(operation(app, path)["responses"]) == {"200", *BY_ANY}
        assert len(operation(app, path)["security"]) == 3


@pytest.mark.parametrize("key", [{}, {"jwt_secret": SECRET}], ids=["demo", "key"])
def test_the_server_asks_for_a_credential_where_it_has_a_key(key: dict[str, str]) -> None:
    app = create_app(make_settings(**key))
    assert ({} in operation(app, "/generations", "post")["security"]) == (not key)
    assert {} in operation(app, "/livez")["security"]
    assert ("token" in app.openapi()["components"]["securitySchemes"]) == (not key)


def test_every_operation_has_a_tag_that_is_described_and_a_summary_of_its_own() -> None:
    document = create_app(make_settings()).openapi()
    tags = {tag["name"] for tag in document["tags"]}
    used = set()
    for path, item in document["paths"].items():
        for found in item.values():
            used.update(found["tags"])
            # FastAPI makes one of the function's name, which says nothing.
            assert found["summary"] != found["operationId"].split("_")[0].title(), path
    assert used == tags


def test_no_schema_has_the_name_of_a_python_module() -> None:
    schemas = create_app(make_settings()).openapi()["components"]["schemas"]
    assert [name for name in schemas if "_" in name] == []
