"""The recipes' route, which is built in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.event_source import EventSource
from support.relayed import (
    WORDS,
    dead,
    reading,
    route,
    told,
)
from support.serving import serving
from support.settings import make_settings
from support.upstream import Refusal, Upstream
from yeoul.app import create_app

TEXT = [*(json.dumps({"content": word.replace("\\n", "\n")}, ensure_ascii=False) for word in WORDS), '{"done": true}']


# --- the recipes

RECIPES = "/recipes/generate-ai-stream"


async def test_a_recipe_is_asked_for_and_relayed(port: int, upstream: Upstream) -> None:
    stream = await reading(port, f'{RECIPES}?ingredients=["양파","감자"]&preferences=한식')
    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", "/api/recipes/generate-stream")
    assert request.json == {"ingredients": ["양파", "감자"], "preferences": "한식"}
    assert stream.data[0] == '{"content": "양파"}'
    assert stream.data[-1] == '{"done": true}'


async def test_empty_preferences_count_as_missing(port: int, upstream: Upstream) -> None:
    await reading(port, f'{RECIPES}?ingredients=["양파"]&preferences=&provider=openai')
    assert upstream.requests[0].json == {"ingredients": ["양파"], "provider": "openai"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "ingredients 파라미터가 필요합니다"),
        ("ingredients=", "ingredients 파라미터가 필요합니다"),
        ("ingredients=[양파", "JSON 배열"),
        ("ingredients=양파", "JSON 배열"),
        ('ingredients={"a": 1}', "JSON 배열"),
        ("ingredients=[1]", "JSON 배열"),
    ],
)
async def test_wrong_ingredients_are_told_by_an_event(port: int, upstream: Upstream, query: str, said: str) -> None:
    source = EventSource(port, f"{RECIPES}?{query}")
    (event,) = await source.read_all()
    assert said in json.loads(event.data)["error"]
    assert "\\u" not in event.data
    assert source.statuses == [200, 204]
    assert upstream.requests == []


@pytest.mark.parametrize("script", [Refusal(500, b"{}"), dead, Refusal(200, b"{}")])
async def test_a_recipe_that_cannot_be_is_told_by_an_event(port: int, upstream: Upstream, script: Any) -> None:
    upstream.scripts = [script]
    assert told(await reading(port, f'{RECIPES}?ingredients=["양파"]'))


@pytest.mark.settings(ai_service_url="http://127.0.0.1:9")
async def test_a_dead_ai_service_is_told_by_an_event(port: int) -> None:
    assert "AI 서비스에 연결할 수 없습니다" in told(await reading(port, f'{RECIPES}?ingredients=["양파"]'))


@pytest.mark.settings(ai_service_url=None)
async def test_by_default_recipes_come_from_this_same_server_whatever_the_host_says(
    port: int, upstream: Upstream
) -> None:
    path = f'{RECIPES}?ingredients=["양파"]'
    stream = await reading(port, path, headers={"Host": f"127.0.0.1:{upstream.port}"})
    assert stream.data[-1] == '{"done": true}'
    assert "양파" in "".join(json.loads(data).get("content", "") for data in stream.data)
    assert upstream.requests == []


async def test_the_table_may_replace_the_built_in_route(port: int, upstream: Upstream) -> None:
    app = create_app(make_settings(routes=[route(upstream, RECIPES)]))
    async with serving(app) as own:
        await reading(own, f"{RECIPES}?q=mine")
    assert upstream.requests[0].json == {"q": "mine"}
