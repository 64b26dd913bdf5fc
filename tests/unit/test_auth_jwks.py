"""Keys that an identity provider publishes, over a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from yeoul.auth.authenticator import Authenticator
from yeoul.auth.jwks import MAX_AGE_S, PAUSE_S, Jwks, read_jwks
from yeoul.auth.keys import secret_key
from yeoul.auth.tokens import Tokens
from yeoul.errors import InvalidToken, KeysUnavailable

RSA = rsa.generate_private_key(65_537, 2_048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(private: Any, id: str | None = None, **members: Any) -> dict[str, Any]:
    public = private.public_key() if hasattr(private, "public_key") else private
    make = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}
    kind = "RSA" if isinstance(private, rsa.RSAPrivateKey) else "OKP" if "25519" in type(private).__name__ else "EC"
    made: dict[str, Any] = dict(make[kind].to_jwk(public, as_dict=True))  # type: ignore[attr-defined]
    made.pop("key_ops", None)
    return {**made, **({"kid": id} if id else {}), **members}


def token(private: Any, id: str | None = None, algorithm: str = "ES256") -> str:
    claims = {"sub": "u1", "exp": 2_000_000_000}
    return jwt.encode(claims, private, algorithm=algorithm, headers={"kid": id} if id else {})


class Provider:
    """Answers with `keys`, or as `answer` does; counts the requests."""

    def __init__(self) -> None:
        self.keys = [jwk(EC, "one")]
        self.requests = 0
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.url = ""
        self.over = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        if self.answer is not None:
            return await self.answer(request)
        return web.json_response({"keys": self.keys})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    app = web.Application()
    app.router.add_get("/keys", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield made
    made.over.set()
    await runner.cleanup()


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def jwks(provider: Provider, time: Time) -> AsyncIterator[Jwks]:
    made = Jwks(provider.url, clock=time)
    yield made
    await made.close()


@pytest.fixture
async def impatient(provider: Provider, time: Time) -> AsyncIterator[Jwks]:
    made = Jwks(provider.url, clock=time, timeout=0.2)
    yield made
    await made.close()


def tokens_of(jwks: Jwks) -> Tokens:
    return Tokens([], jwks=jwks, clock=lambda: 1_999_999_000.0)


def answering(response: Callable[[], web.StreamResponse]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return response()

    return answer


@pytest.mark.parametrize(("private", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
async def test_tokens_signed_with_published_keys_are_accepted(
    provider: Provider, jwks: Jwks, private: Any, algorithm: str
) -> None:
    provider.keys = [jwk(RSA, "r"), jwk(EC, "e"), jwk(ED, "o")]
    id = {"RS256": "r", "ES256": "e", "EdDSA": "o"}[algorithm]
    for kid in (id, None):
        assert (await tokens_of(jwks).read(token(private, kid, algorithm))).user == "u1"
    assert provider.requests == 1


async def test_keys_are_fetched_once_for_all_waiting_requests(provider: Provider, jwks: Jwks) -> None:
    tokens = tokens_of(jwks)
    read = await asyncio.gather(*(tokens.read(token(EC, "one")) for _ in range(50)))
    assert {claims.user for claims in read} == {"u1"}
    assert provider.requests == 1


async def test_a_cancelled_request_does_not_end_the_fetch_of_the_others(provider: Provider, jwks: Jwks) -> None:
    go = asyncio.Event()
    asked = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.set()
        await go.wait()
        return web.json_response({"keys": provider.keys})

    provider.answer = answer
    first, second = (asyncio.create_task(tokens_of(jwks).read(token(EC, "one"))) for _ in range(2))
    await asked.wait()
    first.cancel()
    go.set()
    assert (await second).user == "u1"
    assert first.cancelled() or first.cancelling()


async def test_a_new_key_is_fetched_when_a_token_names_it(provider: Provider, jwks: Jwks, time: Time) -> None:
    tokens = tokens_of(jwks)
    await tokens.read(token(EC, "one"))
    other = ec.generate_private_key(ec.SECP256R1())
    provider.keys = [jwk(other, "two")]
    time.now += PAUSE_S
    assert (await tokens.read(token(other, "two"))).user == "u1"
    with pytest.raises(InvalidToken, match="matches no key"):
        await tokens.read(token(EC, "one"))
    assert provider.requests == 2


async def test_a_withdrawn_key_is_refused_after_max_age(provider: Provider, jwks: Jwks, time: Time) -> None:
    tokens = tokens_of(jwks)
    await tokens.read(token(EC, "one"))
    provider.keys = [jwk(ED, "two")]
    time.now += MAX_AGE_S - 1
    assert (await tokens.read(token(EC, "one"))).user == "u1"
    assert provider.requests == 1
    time.now += 1
    with pytest.raises(InvalidToken, match="matches no key"):
        await tokens.read(token(EC, "one"))
    assert provider.requests == 2


async def test_a_remembered_token_is_verified_again_after_max_age(provider: Provider, jwks: Jwks, time: Time) -> None:
    authenticator = Authenticator(demo=False, tokens=tokens_of(jwks))
    text = token(EC, "one")
    await authenticator.token(text, "bearer")
    provider.keys = [jwk(ED, "two")]
    time.now += MAX_AGE_S - 1
    assert authenticator.remembered(text, "bearer") is not None
    time.now += 1
    assert authenticator.remembered(text, "bearer") is None
    with pytest.raises(InvalidToken, match="matches no key"):
        await authenticator.token(text, "bearer")
    assert provider.requests == 2


async def test_a_token_that_is_accepted_while_keys_are_fetched_is_not_remembered(
    provider: Provider, jwks: Jwks, time: Time
) -> None:
    authenticator = Authenticator(demo=False, tokens=tokens_of(jwks))
    text = token(EC, "one")
    await authenticator.token(text, "bearer")
    asked, go = asyncio.Event(), asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.set()
        await go.wait()
        return web.json_response({"keys": [jwk(ED, "two")]})

    provider.answer = answer
    time.now += PAUSE_S
    fetching = asyncio.create_task(authenticator.token(token(ED, "two", "EdDSA"), "bearer"))
    await asked.wait()
    assert (await authenticator.token(text, "bearer")).user == "u1", "with the keys from before"
    assert authenticator.remembered(text, "bearer") is None
    go.set()
    assert (await fetching).user == "u1"
    assert authenticator.remembered(token(ED, "two", "EdDSA"), "bearer") is not None
    with pytest.raises(InvalidToken, match="matches no key"):
        await authenticator.token(text, "bearer")


async def test_unknown_kids_do_not_cause_a_request_each(provider: Provider, jwks: Jwks, time: Time) -> None:
    tokens = tokens_of(jwks)
    rounds = 5
    for _ in range(rounds):
        for number in range(40):
            with pytest.raises(InvalidToken, match="matches no key"):
                await tokens.read(token(EC, f"random{number}"))
        time.now += PAUSE_S
    assert provider.requests == rounds


async def test_tokens_of_other_algorithms_cause_no_request(provider: Provider, jwks: Jwks) -> None:
    own = "own-secret-of-more-than-32-bytes-0123456789"
    tokens = Tokens([secret_key(own)], jwks=jwks, clock=lambda: 1_999_999_000.0)
    assert (await tokens.read(token(own, "x", "HS256"))).user == "u1"
    with pytest.raises(InvalidToken, match="matches no key"):
        await tokens.read(token(own[::-1], "x", "HS256"))
    with pytest.raises(InvalidToken, match="HS256 or RS256 or ES256 or EdDSA"):
        await tokens.read(token(own * 2, "x", "HS512"))
    assert provider.requests == 0


def _huge() -> web.StreamResponse:
    return web.Response(body=b'{"keys": [' + b" " * 300_000 + b"]}")


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (lambda: web.Response(status=500), "has status 500"),
        (lambda: web.Response(status=302, headers={"Location": "/keys"}), "redirects are not followed"),
        (lambda: web.Response(body=b"<html>"), "not JSON"),
        (lambda: web.Response(body=b"\xff"), "not JSON"),
        (lambda: web.Response(body=b"[" * 100_000), "not JSON"),
        (lambda: web.json_response([]), "not a JWKS"),
        (lambda: web.json_response({"keys": {}}), "not a JWKS"),
        (lambda: web.json_response({"keys": []}), "no key that verifies"),
        (lambda: web.json_response({"keys": [1, None, {}]}), "no key that verifies"),
        (_huge, "longer than 256 KiB"),
    ],
)
async def test_without_keys_a_token_is_neither_accepted_nor_refused(
    provider: Provider, jwks: Jwks, time: Time, response: Callable[[], web.StreamResponse], said: str
) -> None:
    tokens = tokens_of(jwks)
    provider.answer = answering(response)
    for _ in range(3):
        with pytest.raises(KeysUnavailable, match=said):
            await tokens.read(token(EC, "one"))
    assert provider.requests == 1
    provider.answer = None
    time.now += PAUSE_S
    assert (await tokens.read(token(EC, "one"))).user == "u1"


@pytest.mark.parametrize("response", [lambda: web.Response(status=503), lambda: web.json_response({"keys": []}), _huge])
async def test_keys_stay_in_use_while_the_provider_is_down(
    provider: Provider, jwks: Jwks, time: Time, response: Callable[[], web.StreamResponse]
) -> None:
    tokens = tokens_of(jwks)
    await tokens.read(token(EC, "one"))
    provider.answer = answering(response)
    for _ in range(3):
        time.now += MAX_AGE_S
        assert (await tokens.read(token(EC, "one"))).user == "u1"
    assert provider.requests == 4
    with pytest.raises(KeysUnavailable):
        await tokens.read(token(EC, "new"))


async def test_a_provider_that_does_not_respond_times_out(provider: Provider, impatient: Jwks) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await provider.over.wait()
        raise ConnectionError

    provider.answer = never
    with pytest.raises(KeysUnavailable, match=r"no response within 0\.2 s"):
        await tokens_of(impatient).read(token(EC, "one"))


async def test_a_provider_that_responds_slowly_times_out(provider: Provider, impatient: Jwks) -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1_000):
            await response.write(b" ")
            await asyncio.sleep(0.01)
        return response

    provider.answer = drip
    with pytest.raises(KeysUnavailable, match=r"no response within 0\.2 s"):
        await tokens_of(impatient).read(token(EC, "one"))


async def test_a_refused_connection_is_reported(time: Time) -> None:
    jwks = Jwks("http://127.0.0.1:1/keys", clock=time)
    with pytest.raises(KeysUnavailable, match="the connection failed") as caught:
        await jwks.keys("one")
    assert "127.0.0.1" not in str(caught.value)
    await jwks.close()


async def test_keys_are_fetched_through_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    requests: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        for name in ("https_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:hunter2@127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        for url in ("https://id.invalid/keys", "https://127.0.0.1:1/keys"):
            jwks = Jwks(url, clock=time)
            with pytest.raises(KeysUnavailable, match="the connection failed"):
                await jwks.keys("one")
            await jwks.close()
    assert requests == [b"CONNECT id.invalid:443 HTTP/1.1"], "this machine itself is reached directly"
    assert "https://id.invalid: the connection failed: the proxy responded with status 502" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_proxy_that_cannot_be_used_is_reported_without_its_password(
    monkeypatch: pytest.MonkeyPatch, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:hunter2@127.0.0.1:1")
    jwks = Jwks("https://id.invalid/keys", clock=time)
    with pytest.raises(KeysUnavailable) as caught:
        await jwks.keys("one")
    await jwks.close()
    assert "HTTPS_PROXY or ALL_PROXY is not the URL of an HTTP proxy" in caplog.text
    assert "HTTPS_PROXY" not in str(caught.value)
    assert "hunter2" not in caplog.text + str(caught.value)


async def test_close_ends_a_fetch_and_prevents_others(provider: Provider, jwks: Jwks) -> None:
    asked = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        asked.set()
        await provider.over.wait()
        raise ConnectionError

    provider.answer = never
    waiting = asyncio.create_task(jwks.keys("one"))
    await asked.wait()
    await jwks.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(KeysUnavailable, match="this server is shutting down"):
        await jwks.keys("one")


# --- which keys of a document are used


def private_jwk(private: Any) -> dict[str, Any]:
    return dict(ECAlgorithm.to_jwk(private, as_dict=True))


@pytest.mark.parametrize(
    "entry",
    [
        jwk(EC, use="enc"),
        jwk(EC, alg="ES384"),
        jwk(EC, alg="HS256"),
        jwk(EC, kid=5),
        jwk(EC, key_ops=["encrypt"]),
        jwk(EC, key_ops="verify"),
        jwk(EC, x="AAAA"),
        jwk(EC, crv="P-384"),
        jwk(EC, kty="XX"),
        jwk(RSA, alg="RS512"),
        jwk(RSA, alg="PS256"),
        jwk(RSA, n="!!"),
        jwk(RSA, e=5),
        jwk(rsa.generate_private_key(65_537, 1_024)),
        jwk(ec.generate_private_key(ec.SECP521R1())),
        private_jwk(EC),
        {"kty": "oct", "k": "A" * 60, "alg": "HS256"},
        {"kty": ["RSA"]},
    ],
)
def test_unusable_keys_are_ignored(entry: dict[str, Any]) -> None:
    keys = read_jwks(json.dumps({"keys": [entry, jwk(ED, "good")]}).encode())
    assert [(key.algorithm, key.id) for key in keys] == [("EdDSA", "good")]


def test_unknown_members_of_a_key_are_ignored() -> None:
    entry = jwk(RSA, "r", use="sig", alg="RS256", key_ops=["verify"], x5t="x", unknown={"a": 1})
    keys = read_jwks(json.dumps({"keys": [entry], "more": True}).encode())
    assert [(key.algorithm, key.id) for key in keys] == [("RS256", "r")]


def test_the_number_of_keys_is_bounded() -> None:
    assert len(read_jwks(json.dumps({"keys": [jwk(ED, f"k{n}") for n in range(200)]}).encode())) == 50


# --- where they may be published


@pytest.mark.parametrize(
    "url", ["https://id.example/keys", "http://localhost:9/keys", "http://127.0.0.1/keys", "http://[::1]:9/keys"]
)
def test_urls_with_tls_or_of_this_machine_are_accepted(url: str) -> None:
    assert Jwks(url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://id.example/keys", "must begin with https://"),
        ("http://127.0.0.1.example/keys", "must begin with https://"),
        ("ftp://127.0.0.1/keys", "must begin with https://"),
        ("/keys", "must begin with https://"),
        ("https://", "no URL|must begin with https://"),
        ("https://user:pass@id.example/keys", "must not contain a user name or a password"),
        ("https://[::1/keys", "not a URL"),
    ],
)
def test_other_urls_are_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        Jwks(url)
    assert "pass@" not in str(caught.value)


async def test_open_fetches_the_keys_and_logs_a_failure(
    provider: Provider, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Jwks("http://127.0.0.1:1/keys", clock=time)
    gone.open()
    with pytest.raises(KeysUnavailable):
        await gone.keys("one")
    await gone.close()
    assert "no keys from http://127.0.0.1:1" in caplog.text
    early = Jwks(provider.url, clock=time)
    early.open()
    await early.keys("one")
    await early.close()
    assert provider.requests == 1, "requests that come meanwhile wait for the same fetch"
