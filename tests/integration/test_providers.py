"""Which provider answers, and what is said where one is missing."""

from __future__ import annotations

from typing import Any

import pytest

from support.polling import generation
from support.reader import Answer as Response
from support.reader import ask
from support.serving import serving
from support.settings import make_settings
from support.upstream import TOKENS, Upstream
from yeoul.app import create_app


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
        ({"openai_api_key": "sk-x"}, "openai", "gpt-4o-mini", "/v1/responses"),
        ({"openai_api_key": "sk-x", "hf_token": "hf_x"}, "openai", "gpt-4o-mini", "/v1/responses"),
        ({"hf_token": "hf_x"}, "huggingface", "meta-llama/Llama-3.1-8B-Instruct", "/v1/chat/completions"),
        ({"openai_api_key": "sk-x", "provider": "openai-chat"}, "openai-chat", "gpt-4o-mini", "/v1/chat/completions"),
        ({"openai_api_key": "sk-x", "openai_model": "m-1"}, "openai", "m-1", "/v1/responses"),
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
    up = {"kind": kind, "url": upstream.base_url, "model": "m"}
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
