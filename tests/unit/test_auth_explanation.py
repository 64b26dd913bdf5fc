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


async def test_a_valid_token_passes_each_check() -> None:
    told = await explain(make_jwt(aud="yeoul", iss="me"), TOKENS, time.time())
    assert wrong(told) == {}
    names = [finding.what for finding in told.findings]
    assert names == ["form", "header", "signature", *(check.claim for check in CHECKS)]
    assert told.header == {"alg": "HS256", "typ": "JWT"}
    assert told.payload["sub"] == "u1"


async def test_all_errors_are_listed() -> None:
    text = make_jwt(secret=SECRET[::-1], seconds=-60, aud="other", roles="admin")
    found = wrong(await explain(text, TOKENS, time.time()))
    assert set(found) == {"signature", "exp", "iss", "aud", "roles"}
    assert "expired 60 s ago" in found["exp"]


async def test_without_a_key_the_claims_are_still_shown() -> None:
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
async def test_unreadable_parts_are_listed(text: str, what: set[str]) -> None:
    assert set(wrong(await explain(text, TOKENS, time.time()))) == what


async def test_unavailable_keys_are_listed() -> None:
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
async def test_an_explanation_agrees_with_verification(claims: dict[str, Any]) -> None:
    text = make_jwt(**claims)
    refused = None
    try:
        await TOKENS.read(text)
    except InvalidToken as error:
        refused = str(error)
    found = wrong(await explain(text, TOKENS, time.time()))
    assert next(iter(found.values()), None) == refused
