"""Whom `yeoul serve` believes where a request comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support.reader import ask, open_stream
from support.serving import yeoul_serve
from support.tokens import SECRET, bearer, make_jwt

OPEN = {"YEOUL_CONNECT_RATE": "1/hour", "YEOUL_OPEN_TOPICS": '["news"]'}


async def let_in(port: int, forwarded: str) -> bool:
    """Whether a stream may be opened: a second one of an address may not."""
    async with await open_stream(port, "/topics/news", headers={"X-Forwarded-For": forwarded}) as stream:
        assert stream.status in (200, 429)
        return stream.status == 200


@pytest.fixture(params=[["127.0.0.1", "192.0.2.0/24"], ["10.0.0.1"]], ids=["trusted", "not trusted"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[int, bool]]:
    proxies = request.param
    with yeoul_serve(env={**OPEN, "YEOUL_TRUSTED_PROXIES": json.dumps(proxies)}) as server:
        yield server.port, "127.0.0.1" in proxies


async def test_an_address_that_a_client_writes_itself_does_not_count(served: tuple[int, bool]) -> None:
    port, trusted = served
    assert await let_in(port, "198.51.100.1")
    assert await let_in(port, "198.51.100.2") is trusted, "from a proxy it is another address"
    assert not await let_in(port, "203.0.113.5, 198.51.100.2"), "the proxy writes at the end"
    assert not await let_in(port, "203.0.113.5, 198.51.100.2, 192.0.2.9"), "through two proxies"
    assert (await ask(port, "/livez")).status == 200


@pytest.fixture
def dual() -> Iterator[int]:
    """A server on `::`, to which clients of IPv4 look like `::ffff:127.0.0.1`."""
    limits = {"YEOUL_CONNECT_RATE": "1/hour", "YEOUL_MAX_CONNECTIONS_PER_ADDRESS": "1"}
    key = {"YEOUL_JWT_SECRET": SECRET, "YEOUL_OPEN_TOPICS": '["news"]'}
    with yeoul_serve("--host", "::", env={**key, **limits}) as server:
        yield server.port


async def test_ipv4_on_a_socket_for_both_families_is_compared_as_ipv4(dual: int) -> None:
    https = {"X-Forwarded-Proto": "https", **bearer(make_jwt("ann"))}
    session = await ask(dual, "/auth/session", method="POST", headers=https)
    assert session.status == 200
    assert session.headers["set-cookie"].endswith("; Secure"), "the proxy is this machine, which is trusted"
    assert await let_in(dual, "198.51.100.1")
    assert await let_in(dual, "198.51.100.2"), "clients behind the proxy are not one address"
    assert not await let_in(dual, "::ffff:198.51.100.2"), "the same address, written in another way"
    assert (await ask(dual, "/livez", headers={"Host": "evil.example"})).status == 421, "it came to loopback"


@pytest.mark.parametrize("proxy", ["localhost", "*", "10.0.0.1/8", "10.0.0", ""])
def test_a_proxy_that_is_no_address_is_refused_at_the_start(proxy: str) -> None:
    with (
        pytest.raises(AssertionError, match=r"setting trusted_proxies\.0: .* is not an address or a network"),
        yeoul_serve(env={"YEOUL_TRUSTED_PROXIES": json.dumps([proxy])}),
    ):
        pass
