"""Which provider answers, and what is said where one is missing."""

from __future__ import annotations

from typing import Any, cast

import pytest

from support.polling import generation
from support.reader import Answer as Response
from support.reader import ask
from support.serving import serving
from support.settings import make_settings
from support.upstream import TOKENS, Upstream
from yeoul.app import create_app
from yeoul.client import Timeouts
from yeoul.factories import make_providers
from yeoul.llm import OpenAIChat


async def answered_by(values: dict[str, Any], asked: dict[str, Any] | None = None) -> dict[str, Any]:
    async with serving(create_app(make_settings(**values))) as port:
        answer = await ask(port, "/generations", method="POST", json_body={"prompt": "hi", **(asked or {})})
        assert answer.status == 201, answer
        return await generation(port, answer.headers["location"], "done")


async def test_without_any_key_the_demo_answers() -> None:
    shown = await answered_by({})
    assert (shown["provider"], shown["model"]) == ("demo", "demo-1")
    assert "OPENAI_API_KEY or HF_TOKEN" in shown["text"]


@pytest.mark.parametrize(
    ("values", "provider", "model", "path"),
    [
        ({"openai_api_key": "sk-x"}, "openai-chat", "gpt-4o-mini", "/v1/chat/completions"),
        ({"openai_api_key": "sk-x", "provider": "openai"}, "openai", "gpt-4o-mini", "/v1/responses"),
        ({"openai_api_key": "sk-x", "hf_token": "hf_x"}, "openai-chat", "gpt-4o-mini", "/v1/chat/completions"),
        ({"hf_token": "hf_x"}, "huggingface", "meta-llama/Llama-3.1-8B-Instruct", "/v1/chat/completions"),
        ({"openai_api_key": "sk-x", "provider": "openai-chat"}, "openai-chat", "gpt-4o-mini", "/v1/chat/completions"),
        ({"openai_api_key": "sk-x", "openai_model": "m-1", "provider": "openai"}, "openai", "m-1", "/v1/responses"),
        ({"openai_api_key": "sk-x", "provider": "demo"}, "demo", "demo-1", None),
    ],
)
async def test_a_key_that_is_set_chooses_the_provider(
    upstream: Upstream, values: dict[str, Any], provider: str, model: str, path: str | None
) -> None:
    urls = {"openai_base_url": upstream.base_url, "huggingface_base_url": upstream.base_url}
    shown = await answered_by({**urls, **values})
    assert (shown["provider"], shown["model"]) == (provider, model)
    assert [request.path for request in upstream.requests] == ([path] if path else [])
    if path:
        assert shown["text"] == "".join(TOKENS)
        assert upstream.requests[0].json["model"] == model


@pytest.mark.parametrize("kind", ["openai-chat", "openai"])
async def test_a_server_of_ones_own_is_asked_by_its_name(upstream: Upstream, kind: str) -> None:
    up = {"kind": kind, "url": upstream.base_url, "model": "m", "models": ["m-2"]}
    shown = await answered_by({"upstreams": {"ours": up}}, {"provider": "ours", "model": "m-2"})
    assert (shown["provider"], shown["model"], shown["text"]) == ("ours", "m-2", "".join(TOKENS))
    assert "authorization" not in upstream.requests[0].headers


@pytest.mark.parametrize(
    ("provider", "hint"),
    [
        ("openai", "set OPENAI_API_KEY (in the environment or in .env)"),
        ("huggingface", "set HF_TOKEN (in the environment or in .env)"),
        ("nobody", "use one of demo"),
    ],
)
async def test_a_provider_that_is_not_set_up_is_refused_with_what_to_set(provider: str, hint: str) -> None:
    async with serving(create_app(make_settings())) as port:
        answers: list[Response] = [
            await ask(port, "/generations", method="POST", json_body={"prompt": "hi", "provider": provider}),
            await ask(port, f"/sse/chat?provider={provider}"),
            await ask(port, f"/sse/chat-normal?provider={provider}"),
        ]
    for answer in answers:
        assert answer.status == 422
        assert hint in answer.json()["detail"]
        assert answer.json()["errors"][0]["field"] == "provider"
    with pytest.raises(ValueError, match=hint.replace("(", r"\(").replace(")", r"\)")):
        create_app(make_settings(provider=provider))


def test_the_responses_api_is_the_default_at_openai_itself_alone() -> None:
    assert make_providers(make_settings(openai_api_key="sk-x")).default == "openai"
    other = make_settings(openai_api_key="sk-x", openai_base_url="http://127.0.0.1:9/v1")
    assert make_providers(other).default == "openai-chat"


def test_openais_own_variable_says_where_its_key_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert make_settings().openai_base_url == "http://127.0.0.1:9/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    assert make_settings().openai_base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("YEOUL_OPENAI_BASE_URL", "http://127.0.0.1:8/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert make_settings().openai_base_url == "http://127.0.0.1:8/v1"


MODEL_ROUTES = [
    ("/generations", {"prompt": "hi"}),
    ("/sse/chat", None),
    ("/sse/chat-normal", None),
    ("/ask?question=hi", None),
    ("/ai/chatbot/recommendation/free-text?message=hi", None),
    ("/api/recipes/generate-stream", {"ingredients": ["양파"]}),
]


@pytest.mark.parametrize(("path", "body"), MODEL_ROUTES)
async def test_no_route_asks_a_model_that_is_not_listed(
    upstream: Upstream, path: str, body: dict[str, Any] | None
) -> None:
    up = {"url": upstream.base_url, "model": "m", "models": ["m-2"]}
    async with serving(create_app(make_settings(upstreams={"up": up}, provider="up"))) as port:

        async def asked(model: str) -> Response:
            if body is not None:
                return await ask(port, path, method="POST", json_body={**body, "model": model})
            return await ask(port, f"{path}{'&' if '?' in path else '?'}model={model}")

        refused = await asked("gpt-6-most-expensive")
        assert "use one of m, m-2" in refused.text
        if refused.status != 200:  # where the contract is an event on a 200
            assert (refused.status, refused.json()["errors"][0]["field"]) == (422, "model")
        assert upstream.requests == []
        await asked("m-2")
        assert "ask" in path or (await upstream.request()).json["model"] == "m-2"


async def test_any_model_can_be_allowed(upstream: Upstream) -> None:
    up = {"url": upstream.base_url, "model": "m", "models": ["*"]}
    shown = await answered_by({"upstreams": {"up": up}}, {"provider": "up", "model": "whatever"})
    assert shown["model"] == "whatever"


async def test_a_server_that_is_not_like_openai_is_set_up_by_its_options(upstream: Upstream) -> None:
    azure = {
        "url": f"{upstream.base_url}/deployments/gpt?api-version=2024-10-21",
        "model": "gpt",
        "headers": {"api-key": "0123456789abcdef"},
        "usage": False,
        "max_tokens_field": "max_completion_tokens",
    }
    await answered_by({"upstreams": {"azure": azure}}, {"provider": "azure"})
    seen = upstream.requests[0]
    assert seen.path == "/v1/deployments/gpt/chat/completions?api-version=2024-10-21"
    assert (seen.headers["api-key"], "authorization" in seen.headers) == ("0123456789abcdef", False)
    assert "stream_options" not in seen.json
    assert seen.json["max_completion_tokens"] == 16_000


def test_a_server_of_ones_own_has_times_of_its_own() -> None:
    times = {"connect_s": 1, "first_byte_s": 2, "first_token_s": 3, "idle_s": 4, "comments_count": True}
    upstreams = {"slow": {"url": "http://127.0.0.1:9/v1", "model": "m", **times}}
    upstreams["usual"] = {"url": "http://127.0.0.1:9/v1", "model": "m"}
    providers = make_providers(make_settings(upstreams=upstreams))
    slow, usual = (cast("OpenAIChat", providers.get(name)) for name in upstreams)
    assert slow._timeouts == Timeouts(1, 2, 4, first_event=3, comments_count=True)
    assert usual._timeouts == Timeouts(5, 60, 60, first_event=180, comments_count=False)


@pytest.mark.parametrize(
    ("path", "body", "bound"),
    [
        ("/generations", {"prompt": "hi"}, 16_000),
        ("/generations", {"prompt": "hi", "max_tokens": 20_000}, 20_000),
        ("/sse/chat", None, 2_000),
        ("/sse/chat-normal", None, 2_000),
        ("/ai/chatbot/recommendation/free-text?message=hi", None, 4_000),
        ("/api/recipes/generate-stream", {"ingredients": ["양파"]}, 4_000),
    ],
)
async def test_every_app_bounds_the_tokens_of_an_answer(  # /ask: see test_ask.py
    upstream: Upstream, path: str, body: dict[str, Any] | None, bound: int
) -> None:
    up = {"url": upstream.base_url, "model": "m"}
    async with serving(create_app(make_settings(upstreams={"up": up}, provider="up"))) as port:
        await ask(port, path, method="GET" if body is None else "POST", json_body=body)
        assert (await upstream.request()).json["max_tokens"] == bound


async def test_a_server_of_ones_own_may_not_take_a_name_that_is_taken(upstream: Upstream) -> None:
    up = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
    with pytest.raises(ValueError, match=r"demo.*another name"):
        create_app(make_settings(upstreams={"demo": up}))
    with pytest.raises(ValueError, match=r"openai.*another name"):
        create_app(make_settings(upstreams={"openai": up}, openai_api_key="sk-x"))
    shown = await answered_by({"upstreams": {"openai": up}, "provider": "openai"})
    assert (shown["provider"], shown["model"]) == ("openai", "m")


@pytest.mark.parametrize(
    "values",
    [
        {"broker": "nats://x"},
        {"openai_api_key": "sk-\u2026cut"},
        {"upstreams": {"up": {"kind": "openai-chat", "url": "http://me:hunter2@x/v1", "model": "m"}}},
    ],
)
async def test_settings_that_cannot_work_are_refused_at_the_start_without_secrets(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"broker|API key|base URL") as caught:
        create_app(make_settings(**values))
    assert "hunter2" not in str(caught.value)
    assert "cut" not in str(caught.value)
