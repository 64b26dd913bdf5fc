"""Why a token is taken or not, check by check."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support.tokens import SECRET, make_jwt
from yeoul.auth.explanation import Explanation, explain
from yeoul.auth.jwks import Jwks
from yeoul.auth.keys import secret_key
from yeoul.auth.tokens import CHECKS, Rules, Tokens
from yeoul.errors import InvalidToken

TOKENS = Tokens([secret_key(SECRET)], Rules(audience="yeoul", issuer="me"))


def wrong(told: Explanation) -> dict[str, str]:
    return {finding.what: finding.wrong for finding in told.findings if finding.wrong is not None}


async def test_each_check_of_a_good_token_is_told() -> None:
    told = await explain(make_jwt(aud="yeoul", iss="me"), TOKENS, time.time())
    assert wrong(told) == {}
    names = [finding.what for finding in told.findings]
    assert names == ["form", "header", "signature", *(check.claim for check in CHECKS)]
    assert told.header == {"alg": "HS256", "typ": "JWT"}
    assert told.payload["sub"] == "u1"


async def test_everything_that_is_wrong_is_told_at_once() -> None:
    text = make_jwt(secret=SECRET[::-1], seconds=-60, aud="other", roles="admin")
    found = wrong(await explain(text, TOKENS, time.time()))
    assert set(found) == {"signature", "exp", "iss", "aud", "roles"}
    assert "expired 60 s ago" in found["exp"]


async def test_a_server_without_a_key_can_still_say_what_a_token_says() -> None:
    told = await explain(make_jwt(), None, time.time())
    assert wrong(told) == {"signature": "this server has no key to check it with"}
    assert told.payload["sub"] == "u1"


def part(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("nonsense", {"form"}),
        ("a.b.c.d.e", {"form"}),
        (f"{part(b'{}')}.{part(b'[]')}.", {"header", "payload"}),
        (f"{part(b'{}')}.{part(json.dumps({'sub': 'u', 'exp': 1}).encode())}.", {"header", "exp", "iss", "aud"}),
    ],
)
async def test_what_cannot_be_read_is_told(text: str, what: set[str]) -> None:
    assert set(wrong(await explain(text, TOKENS, time.time()))) == what


async def test_keys_that_cannot_be_had_are_told() -> None:
    tokens = Tokens([], jwks=Jwks("http://127.0.0.1:1/"))
    key = Ed25519PrivateKey.generate()
    text = jwt.encode({"sub": "u", "exp": time.time() + 9}, key, algorithm="EdDSA")
    assert "cannot be fetched" in wrong(await explain(text, tokens, time.time()))["signature"]
    await tokens.close()


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"aud": "yeoul"},
        {"aud": "yeoul", "iss": "me"},
        {"aud": "yeoul", "iss": "me", "exp": None},
        {"aud": "yeoul", "iss": "me", "sub": ""},
        {"aud": "yeoul", "iss": "me", "yeoul": {"x": []}},
        {"aud": "yeoul", "iss": "me", "nbf": 9e9},
    ],
)
async def test_an_explanation_agrees_with_what_happens(claims: dict[str, Any]) -> None:
    text = make_jwt(**claims)
    refused = None
    try:
        await TOKENS.read(text)
    except InvalidToken as error:
        refused = str(error)
    found = wrong(await explain(text, TOKENS, time.time()))
    assert next(iter(found.values()), None) == refused
