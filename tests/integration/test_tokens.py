"""A server that asks who you are: tokens over HTTP, over both outlets."""

from __future__ import annotations

import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.reader import Answer, ask, open_stream
from support.serving import one_outlet
from support.tokens import SECRET, bearer, demo_token, make_jwt

ED = ed25519.Ed25519PrivateKey.generate()
PUBLIC = ED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

pytestmark = pytest.mark.settings(jwt_secret=SECRET, jwt_public_key=PUBLIC)


async def send(port: int, topic: str, token: str | None, data: str = "x") -> Answer:
    headers = bearer(token) if token is not None else {}
    return await ask(port, f"/topics/{topic}", method="POST", headers=headers, json_body={"data": data})


async def test_who_has_a_token_follows_and_publishes(port: int) -> None:
    mine = make_jwt("u1", yeoul={"subscribe": ["news/*"]})
    async with await open_stream(port, "/topics/news/a", headers=bearer(mine)) as stream:
        assert stream.status == 200
        await stream.take(1)
        claims = {"sub": "u2", "exp": time.time() + 60, "yeoul": {"publish": ["news/*"]}}
        other = jwt.encode(claims, ED, algorithm="EdDSA")
        assert (await send(port, "news/a", other, "안녕")).status == 202
        assert (await stream.take(2))[1].data == "안녕"


async def test_several_topics_are_followed_where_all_are_granted(port: int) -> None:
    token = make_jwt("u1", yeoul={"subscribe": ["news/*", "chat/a"]})
    async with await open_stream(port, "/stream?topic=news/a&topic=chat/a", headers=bearer(token)) as stream:
        assert stream.status == 200
    answer = await ask(port, "/stream?topic=news/a&topic=chat/b", headers=bearer(token))
    assert answer.status == 403
    assert "'chat/b'" in answer.json()["detail"]
    assert "yeoul.subscribe" in answer.json()["detail"]
    assert answer.headers["www-authenticate"] == 'Bearer realm="yeoul", error="insufficient_scope"'


@one_outlet
async def test_who_has_no_token_is_asked_for_one(port: int) -> None:
    for answer in (
        await send(port, "chat/a", None),
        await ask(port, "/topics/chat/a"),
        await ask(port, "/stream?topic=chat/a"),
    ):
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="yeoul"'
        assert answer.headers["content-type"] == "application/problem+json"


@one_outlet
@pytest.mark.parametrize(
    ("token", "said"),
    [  # made long before they are sent, where many tests are run
        (make_jwt(secret=SECRET[::-1]), "matches no key of this server"),
        (make_jwt(seconds=-600), "min ago: get a new one"),
        (make_jwt(nbf=9_999_999_999, seconds=86_400), "`nbf`"),
        (make_jwt(exp=9_999_999_999), "the limit is 30 days"),
        (jwt.encode({"sub": "u1"}, SECRET, algorithm="HS256"), "no `exp`"),
        (jwt.encode({"sub": "u1", "exp": 9e9}, None, algorithm="none"), "`alg` is 'none'"),
        (demo_token(), "only demo mode accepts"),
        ("nonsense", "not a JWT"),
        ("", "not a JWT"),
        ("x" * 9_000, "longer than 8 KiB"),
    ],
)
async def test_a_token_that_is_not_taken_is_told_why(port: int, token: str, said: str) -> None:
    answer = await send(port, "chat/a", token)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="yeoul", error="invalid_token"'
    assert said in answer.json()["detail"]
    assert not token or token not in answer.text


@one_outlet
async def test_what_is_not_granted_is_refused_by_name(port: int) -> None:
    token = make_jwt("u1", yeoul={"publish": ["news/a"]})
    assert (await send(port, "news/a", token)).status == 202
    answer = await send(port, "news/b", token)
    assert answer.status == 403
    assert answer.headers["www-authenticate"] == 'Bearer realm="yeoul", error="insufficient_scope"'
    assert "'news/b'" in answer.json()["detail"]
    assert "yeoul.publish" in answer.json()["detail"]
    assert (await send(port, "news/b", make_jwt("u1"))).status == 403
    assert (await send(port, "news/b", make_jwt("u1", yeoul={"subscribe": ["*"]}))).status == 403
    assert (await send(port, "news/b", make_jwt("u1", roles=["admin"]))).status == 202


@one_outlet
@pytest.mark.settings(jwt_jwks_url="http://127.0.0.1:1/keys")
async def test_keys_that_cannot_be_had_are_this_servers_fault(port: int) -> None:
    token = jwt.encode({"sub": "u1", "exp": time.time() + 60}, ED, algorithm="EdDSA")
    answer = await send(port, "chat/a", token)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "10"
    assert "127.0.0.1:1" not in answer.text
