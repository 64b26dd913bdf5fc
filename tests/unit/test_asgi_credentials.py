"""Secrets are taken out of addresses, and nothing else is; one credential says who it is."""

from __future__ import annotations

from typing import Any

import pytest

from yeoul.asgi.authentication import Credential, credential_of, hide_secrets
from yeoul.asgi.errors import Problem
from yeoul.asgi.headers import headers_of


def hidden(query: bytes, *authorization: str, raw_path: bytes = b"/topics/a") -> dict[str, Any]:
    """The scope afterwards."""
    headers = [(b"authorization", value.encode("latin-1")) for value in authorization]
    scope = {"type": "http", "path": "/topics/a", "raw_path": raw_path, "query_string": query, "headers": headers}
    hide_secrets(scope)  # in place: the server's own log reads the scope that it made
    return scope


def credential(scope: dict[str, Any]) -> Credential | None:
    return credential_of(scope, headers_of(scope))


@pytest.mark.parametrize(
    "query",
    [
        b"token=S3CRET",
        b"ticket=S3CRET",
        b"access_token=S3CRET",
        b"TOKEN=S3CRET",
        b"ToKeN=S3CRET",
        b"%74oken=S3CRET",
        b"%54%4f%4B%45%4e=S3CRET",
        b"tic%6Bet=S3CRET",
        b"+token=S3CRET",
        b"token%20=S3CRET",
        b"token=%53%33CRET",
    ],
)
def test_a_secret_is_found_however_its_name_is_written(query: bytes) -> None:
    scope = hidden(b"a=1&" + query + b"&b=2")
    assert scope["query_string"] == b"a=1&b=2"
    found = credential(scope)
    assert found is not None
    assert found.text == "S3CRET"
    assert "S3CRET" not in repr(scope), "nobody else has it afterwards"


@pytest.mark.parametrize(
    "rest",
    [
        b"lastEventId=k3x9-12",
        b"message=%EC%95%88%EB%85%95+a%20b",
        "message=안녕".encode(),
        b"a&&b=&=c&a=1&a=2",
        b"q=a%2Bb+c&x=%zz&y=%",
        b"tokens=1&my_token=2&tickets=3&token[]=4",
        b"a=token=x;ticket",
        b"x=\xff\xfe",
    ],
)
def test_all_else_stays_byte_for_byte(rest: bytes) -> None:
    assert (hidden(rest))["query_string"] == rest
    assert (hidden(b"token=x&" + rest))["query_string"] == rest
    assert (hidden(rest + b"&ticket=x&token"))["query_string"] == rest


def test_a_plus_in_a_demo_token_is_a_plus() -> None:
    found = credential(hidden(b"token=ab+c/d=="))
    assert found == ("token", "ab+c/d==")


def test_a_raw_path_with_a_query_is_cleaned_too() -> None:
    scope = hidden(b"x=1&ticket=s", raw_path=b"/topics/a?x=1&ticket=s")
    assert scope["raw_path"] == b"/topics/a?x=1"
    assert (hidden(b"ticket=s", raw_path=b"/topics/a"))["raw_path"] == b"/topics/a"


@pytest.mark.parametrize(
    ("authorization", "kind"),
    [("Bearer abc", "bearer"), ("bearer  abc ", "bearer"), ("Ticket abc", "own ticket"), ("TICKET abc", "own ticket")],
)
def test_the_header_has_a_token_or_a_ticket(authorization: str, kind: str) -> None:
    assert credential(hidden(b"", authorization)) == (kind, "abc")


def test_other_schemes_are_ignored() -> None:
    """Such as a proxy in front that asks for a password."""
    assert credential(hidden(b"", "Basic dTpw")) is None
    assert credential(hidden(b"ticket=abc", "Basic dTpw")) == ("ticket", "abc")
    assert credential(hidden(b"")) is None


@pytest.mark.parametrize(
    ("query", "authorization"),
    [
        (b"token=S3CRET&token=S3CRET", ()),
        (b"token=S3CRET&TICKET=S3CRET", ()),
        (b"ticket=S3CRET", ("Bearer S3CRET",)),
        (b"", ("Bearer S3CRET", "Bearer S3CRET")),
        (b"", ("Bearer S3CRET", "Ticket S3CRET")),
    ],
)
def test_more_than_one_is_refused(query: bytes, authorization: tuple[str, ...]) -> None:
    scope = hidden(query, *authorization)
    with pytest.raises(Problem) as caught:
        credential(scope)
    assert caught.value.status == 400
    assert "S3CRET" not in caught.value.detail
    assert caught.value.headers == {"WWW-Authenticate": 'Bearer realm="yeoul", error="invalid_request"'}
