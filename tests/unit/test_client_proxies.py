"""Which proxy a URL is reached through, and that requests really go through it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from yarl import URL

from support.upstream import TOKENS, Answer, Exchange, Upstream
from yeoul.auth.jwks import Jwks
from yeoul.client import new_session, open_stream
from yeoul.client.proxies import proxy_for
from yeoul.errors import KeysUnavailable, UpstreamRefused
from yeoul.llm import Delta, Finish, Message, OpenAIChat, Prompt
from yeoul.stream import RetryPolicy

PROXIES = {"http": "http://proxy:3128", "https": "proxy:3129"}


@pytest.fixture(autouse=True)
def no_proxies_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "proxies", "proxy"),
    [
        ("http://model.example/v1", PROXIES, "http://proxy:3128"),
        ("https://model.example/v1", PROXIES, "http://proxy:3129"),
        ("https://model.example/v1", {"http": "http://proxy:3128"}, None),
        ("https://model.example/v1", {"all": "http://proxy:1"}, "http://proxy:1"),
        ("http://model.example/v1", {"http": "http://u:pw@proxy:1"}, "http://u:pw@proxy:1"),
        ("http://model.example/v1", {}, None),
        ("http://model.example/v1", {"http": ""}, None),
        # this machine
        ("http://localhost:11434/v1", PROXIES, None),
        ("http://127.0.0.1:11434/v1", PROXIES, None),
        ("http://[::1]:11434/v1", PROXIES, None),
        ("http://ollama.localhost/v1", PROXIES, None),
        ("http://127.0.0.1.example/v1", PROXIES, "http://proxy:3128"),
    ],
)
def test_a_proxy_is_chosen_by_scheme_and_never_for_this_machine(
    url: str, proxies: dict[str, str], proxy: str | None
) -> None:
    found = proxy_for(URL(url), proxies)
    assert (None if found is None else str(found)) == proxy


@pytest.mark.parametrize(
    ("listed", "url", "direct"),
    [
        ("*", "http://model.example", True),
        ("example", "http://model.example", True),
        (".example", "http://model.example", True),
        ("*.example", "http://model.example", True),
        ("model.example", "http://MODEL.example.", True),
        ("ample", "http://model.example", False),
        ("a, model.example ,b", "http://model.example", True),
        ("model.example:8000", "http://model.example:8000", True),
        ("model.example:8000", "http://model.example:8001", False),
        ("model.example:80", "http://model.example", True),
        ("10.0.0.0/8", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.1.2.3:8000", "http://10.1.2.3:8000", True),
        ("10.1.2.3", "http://10.1.2.3:8000", True),
        ("fd00::/8", "http://[fd00::1]", True),
        ("[fd00::1]", "http://[fd00::1]", True),
        ("", "http://model.example", False),
        (",,", "http://model.example", False),
    ],
)
def test_hosts_that_are_listed_are_reached_directly(listed: str, url: str, direct: bool) -> None:
    assert (proxy_for(URL(url), {**PROXIES, "no": listed}) is None) is direct


@pytest.mark.parametrize("address", ["socks5://proxy:1080", "http://", "ftp://proxy", "http://proxy:port-SECRET"])
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable_and_not_shown(address: str) -> None:
    with pytest.raises(UpstreamRefused, match="the proxy that this server is to use cannot be used") as caught:
        proxy_for(URL("https://model.example"), {"https": address})
    assert "HTTPS_PROXY" in caught.value.detail
    assert "NO_PROXY" in caught.value.detail
    assert "SECRET" not in caught.value.full
    assert not caught.value.retryable


async def keys(exchange: Exchange) -> None:
    await exchange.head(content_type="application/json")
    await exchange.chunk(json.dumps({"keys": []}).encode())
    await exchange.end()


async def test_models_streams_and_keys_are_asked_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = Prompt([Message("user", "hi")])
    async with Upstream(Answer()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pw-12345@127.0.0.1:{proxy.port}")
        # No such host exists: only a proxy can reach it.
        provider = OpenAIChat(model="m", base_url="http://model.invalid/v1")
        items = [item async for item in provider.stream(prompt)]
        await provider.close()
        assert [item.text for item in items if isinstance(item, Delta)] == list(TOKENS)
        assert isinstance(items[-1], Finish)
        assert proxy.requests[0].path == "http://model.invalid/v1/chat/completions"
        assert "proxy-authorization" in proxy.requests[0].headers

        async with (
            new_session() as session,
            open_stream(session, "POST", "http://up.invalid/stream", body=b'{"stream": true}') as events,
        ):
            assert [event async for batch in events for event in batch]
        proxy.scripts = [keys]
        jwks = Jwks("http://127.0.0.1/keys")
        jwks._url = URL("http://issuer.invalid/keys")  # a name of another machine would have to be https
        with pytest.raises(KeysUnavailable):
            await jwks.keys(None)
        await jwks.close()
        assert [request.path for request in proxy.requests[1:]] == [
            "http://up.invalid/stream",
            "http://issuer.invalid/keys",
        ]


async def test_a_proxy_that_is_not_there_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Upstream(Answer()) as gone:
        pass
    monkeypatch.setenv("ALL_PROXY", f"http://me:pw-12345@127.0.0.1:{gone.port}")
    provider: Any = OpenAIChat(model="m", base_url="https://model.invalid/v1", retry=RetryPolicy(attempts=1))
    with pytest.raises(UpstreamRefused) as caught:
        [item async for item in provider.stream(Prompt([Message("user", "hi")]))]
    await provider.close()
    assert caught.value.full == (
        "openai-chat cannot be reached: through the proxy for https://model.invalid: connection refused"
    )
    assert "pw-12345" not in f"{caught.value!r} {caught.value.__cause__!r}"
