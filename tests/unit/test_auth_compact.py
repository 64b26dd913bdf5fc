"""A JWT as text: what is refused before anything is checked."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from yeoul.auth.tokens import (
    MAX_TOKEN_BYTES,
    CompactToken,
    check_header,
    looks_like_jwt,
    read_compact,
    read_object,
    shown,
)
from yeoul.errors import InvalidToken


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: Any, payload: Any = None, signature: str = "c2ln") -> str:
    return f"{part(header)}.{part(payload or {'sub': 'u1'})}.{signature}"


def taken(text: str) -> CompactToken:
    token = read_compact(text)
    check_header(token.header)
    return token


def refusal(text: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        taken(text)
    return str(caught.value)


def test_a_token_is_taken_apart() -> None:
    token = taken(compact({"alg": "HS256", "typ": "JWT", "kid": "k1"}))
    assert (token.algorithm, token.key_id, token.payload) == ("HS256", "k1", b'{"sub": "u1"}')
    assert "u1" not in repr(token)
    assert taken(compact({"alg": "HS256"})).key_id is None


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT"])
def test_types_of_access_tokens_are_taken(kind: str) -> None:
    assert taken(compact({"alg": "HS256", "typ": kind}))


@pytest.mark.parametrize("kind", ["", "JWE", "logout+jwt", "dpop+jwt", "JWT ", 5, ["JWT"]])
def test_other_kinds_of_tokens_are_refused(kind: Any) -> None:
    assert "`typ` is" in refusal(compact({"alg": "HS256", "typ": kind}))


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"alg": "HS256", "crit": ["exp"]}, "`crit`"),
        ({"alg": "HS256", "crit": []}, "`crit`"),
        ({"alg": "HS256", "b64": False}, "`b64`"),
        ({}, "no `alg`"),
        ({"alg": None}, "no `alg`"),
        ({"alg": ["HS256"]}, "no `alg`"),
        ({"alg": "HS256", "kid": 5}, "`kid` must be a string"),
        ([], "header is not a JSON object"),
        (b'"x"', "header is not a JSON object"),
        (b'{"alg":"HS256","alg":"none"}', "header has a duplicate member"),
        (b"\xff", "header is not JSON"),
        (b"{", "header is not JSON"),
        (b'\xef\xbb\xbf{"alg":"HS256"}', "header is not JSON"),
    ],
)
def test_headers_that_are_not_taken(header: Any, said: str) -> None:
    assert said in refusal(compact(header))


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "x5c"])
def test_keys_that_a_token_brings_along_are_not_looked_at(header: str) -> None:
    assert taken(compact({"alg": "HS256", header: "https://evil.example/keys"})).algorithm == "HS256"


GOOD = compact({"alg": "HS256"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "a.b",
        "..",
        ".a.b",
        GOOD + "=",
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace(".", ". "),
        "é" + GOOD,
        GOOD + ".d",
    ],
)
def test_what_has_not_the_form_of_a_token_is_refused(text: str) -> None:
    assert "not a JWT" in refusal(text)


def test_a_part_of_an_impossible_length_is_refused() -> None:
    assert "not Base64url" in refusal("a" + GOOD.partition(".")[1] + GOOD.partition(".")[2])


def test_encrypted_tokens_are_refused() -> None:
    assert "encrypted (JWE)" in refusal("a.b.c.d.e")


def test_a_token_is_measured_before_it_is_read() -> None:
    header, payload, _ = GOOD.split(".")
    rest = MAX_TOKEN_BYTES - len(header) - len(payload) - 2
    assert taken(f"{header}.{payload}.{'A' * rest}")
    assert "longer than 8 KiB" in refusal(f"{header}.{payload}.{'A' * (rest + 1)}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 2}', "duplicate member"),
        ('{"b": {"a": 1, "a": 2}}', "duplicate member"),
        ('{"exp": 1e999}', "not finite"),
        ('{"exp": -1e999}', "not finite"),
        ('{"exp": NaN}', "not finite"),
        ('{"exp": Infinity}', "not finite"),
        ('{"exp": -Infinity}', "not finite"),
        ('{"exp": 12345678901234567}', "not finite, or too long"),
        ('{"exp": ' + "9" * 5_000 + "}", "not finite, or too long"),
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("", "not JSON"),
        ("[" * 4_000, "not JSON"),
        ('{"a": 1} x', "not JSON"),
    ],
)
def test_payloads_that_two_readers_could_understand_differently_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidToken, match=said):
        read_object(text.encode(), "payload")


def test_numbers_of_every_day_are_read() -> None:
    assert read_object(b'{"a": 1764000000, "b": -1.5e3, "c": 1234567890123456}', "payload") == {
        "a": 1_764_000_000,
        "b": -1_500.0,
        "c": 1_234_567_890_123_456,
    }


def test_values_are_shown_in_short_and_printable() -> None:
    assert shown("a") == "'a'"
    assert shown("\x1b\u202e") == r"'\x1b\u202e'"
    assert len(shown(["x" * 1_000])) < 70


def test_a_jwt_is_known_by_its_dots() -> None:
    assert looks_like_jwt(GOOD)
    assert not looks_like_jwt("dTE6QW5u")
