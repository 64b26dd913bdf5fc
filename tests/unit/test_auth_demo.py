from __future__ import annotations

import base64

import pytest

from yeoul.auth.demo import DemoUser, make_demo_token, read_demo_token
from yeoul.errors import InvalidToken

SEED = "dGVzdDEyMzp0ZXN0dXNlcjp0ZXN0QGV4YW1wbGUuY29tOnVzZXIsYWRtaW4="


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_id_name_email_and_roles() -> None:
    expected = DemoUser("test123", "testuser", "test@example.com", frozenset({"user", "admin"}))
    assert read_demo_token(SEED) == expected
    assert read_demo_token(SEED.rstrip("=")) == expected, "padding may be left out"


def test_only_the_id_is_needed() -> None:
    assert read_demo_token(encoded("u1:::")) == DemoUser("u1", "", "", frozenset())
    assert read_demo_token(encoded("u1:::a, b ,")).roles == {"a", "b"}


@pytest.mark.parametrize("text", ["u1:김철수:c@example.com:user", "u>>:>>>:???:~~~"])
def test_both_alphabets_and_an_address_that_did_not_escape_them(text: str) -> None:
    token = encoded(text)
    as_urls_have_it = base64.urlsafe_b64encode(text.encode()).decode()
    assert read_demo_token(token) == read_demo_token(as_urls_have_it) == read_demo_token(token.replace("+", " "))


@pytest.mark.parametrize(
    "token",
    [
        "",
        "u1",
        encoded("u1"),
        encoded("u1:a:b"),
        encoded("u1:a:b:c:d"),
        encoded(":a:b:c"),
        encoded("u1:a\nb:c:d"),
        encoded("u1:a:b:c") + "!",
        base64.b64encode(b"\xff:a:b:c").decode(),
        encoded("u1:" + "x" * 2_000 + ":b:c"),
    ],
)
def test_other_text_is_refused_with_the_form_and_not_quoted(token: str) -> None:
    with pytest.raises(InvalidToken, match="id:name:email:role") as caught:
        read_demo_token(token)
    assert len(token) < 3 or token not in str(caught.value)


def test_a_made_token_is_read_back() -> None:
    user = DemoUser("u1", "Ann", "ann@example.com", frozenset({"user"}))
    assert read_demo_token(make_demo_token(user.user, user.name, user.email, sorted(user.roles))) == user
