"""Errors before the first byte: a real status, and a problem document that says what would be right."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from fastapi import FastAPI
from openai import AsyncOpenAI, AuthenticationError, NotFoundError

from support.reader import ask
from support.serving import one_outlet, serving
from support.settings import make_settings
from support.tokens import demo_token
from yeoul.app import create_app
from yeoul.llm.dialects import DIALECTS


@one_outlet
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/generations/none", 404),
        ("PUT", "/topics/t", 405),
        ("POST", "/sse/chat", 405),
        ("DELETE", "/livez", 405),
        ("GET", "/stream", 422),
        ("GET", "/generations/" + "x" * 65, 422),
    ],
)
async def test_every_error_is_a_problem_document(port: int, method: str, path: str, status: int) -> None:
    answer = await ask(port, path, method=method)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    wrong = {"param": problem["errors"][0]["field"]} if "errors" in problem else {}
    assert problem["error"] == {"message": problem["detail"], "type": problem["error"]["type"], **wrong, "code": None}
    assert ("allow" in answer.headers) == (status == 405)


@one_outlet
async def test_clients_built_on_openais_sdk_show_what_is_wrong(port: int) -> None:
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=demo_token("u1"), max_retries=0)
    async with client:
        with pytest.raises(NotFoundError, match="no resource has this address: /docs lists all"):
            await client.embeddings.create(model="m", input="hi")


@one_outlet
async def test_clients_built_on_openais_sdk_show_what_to_send_in_demo_mode(port: int) -> None:
    client = AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-123", max_retries=0)
    async with client:
        with pytest.raises(AuthenticationError, match=r"this is an API key, .* for example dTE6Ojo=") as caught:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert "sk-123" not in str(caught.value)


@one_outlet
@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/topics/t", "GET, HEAD, POST"),
        ("POST", "/recipes/1", "GET, PATCH, DELETE"),
        ("DELETE", "/generations", "GET, POST"),
        ("PUT", "/recipes/search/ingredient", "GET"),
        ("TRACE", "/livez", "GET"),
        ("POST", "/openapi.json", "GET, HEAD"),
    ],
)
async def test_405_names_all_that_the_address_can_be_asked_for(port: int, method: str, path: str, allowed: str) -> None:
    answer = await ask(port, path, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert allowed in answer.json()["detail"]


@pytest.mark.parametrize("error", [RuntimeError("hunter2"), ValueError("hunter2"), KeyError("hunter2")])
async def test_a_bug_is_a_problem_that_shows_nothing_and_is_logged(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(make_settings())

    @app.get("/bug")
    async def bug() -> None:
        raise error

    async with serving(app) as port:
        answer = await ask(port, "/bug")
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "title": "Internal Server Error",
        "status": 500,
        "detail": "internal error: the server's log has the details",
        "error": {
            "message": "internal error: the server's log has the details",
            "type": "internal_server_error",
            "code": None,
        },
        "request_id": answer.headers["x-request-id"],
    }
    assert "hunter2" in caplog.text


def test_the_api_describes_itself_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        api = create_app(make_settings()).openapi()
    operations: list[dict[str, Any]] = [
        operation for path in api["paths"].values() for operation in path.values() if isinstance(operation, dict)
    ]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert all("head" not in path for path in api["paths"].values())
    stream = api["paths"]["/generations/{id}/stream"]["get"]
    assert set(stream["responses"]) >= {"200", "204"}
    assert "text/event-stream" in stream["responses"]["200"]["content"]
    (dialect,) = [parameter for parameter in stream["parameters"] if parameter["name"] == "dialect"]
    assert dialect["schema"]["enum"] == list(DIALECTS)
    assert {"plain", "json", "envelope", "openai", "ai-sdk"} <= set(DIALECTS)
    published = api["paths"]["/topics/{topic}"]["post"]["requestBody"]["content"]
    assert set(published) == {"text/plain", "application/json", "application/x-ndjson"}


@one_outlet
async def test_the_description_is_served(port: int) -> None:
    answer = await ask(port, "/openapi.json")
    assert answer.status == 200
    assert answer.json()["info"]["title"] == "Yeoul"
    assert (await ask(port, "/docs")).status == 200


def test_an_application_is_made_of_settings_alone() -> None:
    assert isinstance(create_app(make_settings()), FastAPI)
