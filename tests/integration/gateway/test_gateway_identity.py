"""The gateway to this same server acts for whoever asked it, where the server asks who that is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from support.reader import ask, open_stream
from support.serving import serving
from support.settings import make_settings
from support.tokens import SECRET, bearer, make_jwt
from yeoul.app import create_app

PATH = "/recipes/generate-ai-stream?ingredients=" + '["양파"]'


@pytest.fixture(params=["direct", "portable"])
async def port(request: pytest.FixtureRequest) -> AsyncIterator[int]:
    """Without the scripted model server of the tests beside: the recipe generator is this server's own."""
    async with serving(create_app(make_settings(jwt_secret=SECRET)), direct=request.param == "direct") as number:
        yield number


async def test_a_user_reaches_the_generator_through_it_and_the_recipe_is_theirs(port: int) -> None:
    mine, theirs = bearer(make_jwt("mine")), bearer(make_jwt("theirs"))
    async with await open_stream(port, PATH, headers=mine) as stream:
        assert stream.status == 200
        events = await stream.rest()
    assert json.loads(events[-1].data) == {"done": True}
    stolen = events[1].id or ""
    async with await open_stream(port, PATH, headers=theirs, last_event_id=stolen) as stream:
        assert len(await stream.rest()) == 1, "one terminal event, and nothing of the recipe"


async def test_an_anonymous_request_is_refused_before_the_upstream_is_asked(port: int) -> None:
    for path in (PATH, "/sse/chat?message=hi", "/sse/countdown"):
        answer = await ask(port, path)
        assert answer.status == 401, path
        assert answer.headers["www-authenticate"] == 'Bearer realm="yeoul"'


async def test_a_ticket_of_the_servers_own_cannot_be_made_outside(port: int) -> None:
    answer = await ask(port, PATH, headers={"Authorization": "Ticket AAAA"})
    assert answer.status == 401


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "portable"])
async def test_its_own_requests_are_counted_once(direct: bool) -> None:
    """The user's stream is counted; what the server asks itself for it is not."""
    app = create_app(make_settings(jwt_secret=SECRET, max_connections_per_user=1, connect_rate="1/hour"))
    async with (
        serving(app, direct=direct) as port,
        await open_stream(port, PATH, headers=bearer(make_jwt("mine"))) as stream,
    ):
        assert stream.status == 200
        assert json.loads((await stream.rest())[-1].data) == {"done": True}
