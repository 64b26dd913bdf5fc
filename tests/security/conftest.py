"""What the attacks have: the whole application with a key, in front of a model server that costs money."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.serving import serving
from support.settings import make_settings
from support.tokens import SECRET
from support.upstream import Answer, Upstream
from yeoul.app import create_app


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream(Answer()) as server:
        yield server


@pytest.fixture
async def port(request: pytest.FixtureRequest, upstream: Upstream) -> AsyncIterator[int]:
    """As the one for all tests, but that it asks who you are, and answers with the model server."""
    marker = request.node.get_closest_marker("settings")
    up = {
        "kind": "openai-chat",
        "url": upstream.base_url,
        "model": "m",
        "models": ["m-2"],
        "key": "sk-test-SECRETSECRET",
    }
    values = {
        "jwt_secret": SECRET,
        "upstreams": {"up": up},
        "provider": "up",
        "drain_generations_s": 0,
        **(marker.kwargs if marker else {}),
    }
    async with serving(create_app(make_settings(**values))) as number:
        yield number
