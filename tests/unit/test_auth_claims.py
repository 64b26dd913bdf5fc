"""What a token must say to be taken, claim by claim."""

from __future__ import annotations

from typing import Any

import pytest

from yeoul.auth.tokens import Claims, Rules
from yeoul.errors import InvalidToken

NOW = 1_000_000.0
RULES = Rules(leeway=5, max_seconds=3_600)
GOOD: dict[str, Any] = {"sub": "u1", "exp": NOW + 60}


def read(rules: Rules = RULES, **changed: Any) -> Claims:
    payload = {name: value for name, value in {**GOOD, **changed}.items() if value is not ...}
    return rules.read(payload, NOW)


def refusal(rules: Rules = RULES, **changed: Any) -> str:
    with pytest.raises(InvalidToken) as caught:
        read(rules, **changed)
    return str(caught.value)


def test_what_a_token_says_is_kept() -> None:
    claims = read(
        iat=NOW - 3, name="Ann", email="ann@example.com", roles=["user", "admin"], yeoul={"subscribe": ["chat/*"]}
    )
    assert claims == Claims(
        user="u1",
        expires=NOW + 65,
        issued=NOW - 3,
        name="Ann",
        email="ann@example.com",
        roles=frozenset({"user", "admin"}),
        subscribe=("chat/*",),
        publish=(),
    )


def test_a_token_that_says_nothing_of_grants_leaves_them_to_the_settings() -> None:
    claims = read(name=None, email=None, roles=None)
    assert (claims.subscribe, claims.publish) == (None, None)
    assert (claims.issued, claims.name, claims.email, claims.roles) == (None, None, None, frozenset())
    assert (read(yeoul={}).subscribe, read(yeoul={}).publish) == ((), ())


@pytest.mark.parametrize(
    "claims", [{"exp": NOW - 4.9}, {"exp": NOW + 3_600}, {"nbf": NOW + 5}, {"iat": NOW + 5}, {"iat": NOW - 3_540}]
)
def test_times_are_taken_up_to_the_leeway_and_the_bound(claims: dict[str, float]) -> None:
    assert read(**claims).user == "u1"


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": NOW - 5}, "expired 5 s ago: get a new one"),
        ({"exp": NOW - 40}, "expired 40 s ago"),
        ({"exp": NOW + 3_601}, "the limit is 60 min"),
        ({"exp": NOW + 60, "iat": NOW - 3_541}, "`exp` gives it 60 min: the limit is 60 min"),
        ({"exp": NOW + 3_601, "iat": NOW + 4}, "the limit is 60 min"),
        ({"exp": ...}, "has no `exp`"),
        ({"exp": None}, "`exp` must be a number"),
        ({"exp": str(NOW + 60)}, "`exp` must be a number"),
        ({"exp": True}, "`exp` must be a number"),
        ({"nbf": NOW + 5.1}, "`nbf` is 5 s ahead"),
        ({"nbf": "soon"}, "`nbf` must be a number"),
        ({"iat": NOW + 6}, "`iat` is 6 s ahead"),
        ({"iat": [1]}, "`iat` must be a number"),
        ({"sub": ...}, "has no `sub`"),
        ({"sub": ""}, "`sub` must be a string"),
        ({"sub": 7}, "`sub` must be a string"),
        ({"sub": "x" * 201}, "of 1 to 200 visible characters"),
        ({"sub": "a\nb"}, "`sub` must be a string"),
        ({"sub": "a\x9bb"}, "`sub` must be a string"),
        ({"sub": "a\u202eb"}, "`sub` must be a string"),
        ({"sub": "\ud800"}, "`sub` must be a string"),
        ({"name": 5}, "`name` must be a string"),
        ({"name": "a\x1b[31m"}, "`name` must be a string"),
        ({"name": "x" * 201}, "`name` must be a string of at most 200"),
        ({"email": "x" * 321}, "`email` must be a string of at most 320"),
        ({"roles": "admin"}, "`roles` must be a list"),
        ({"roles": ["a", 1]}, "`roles` must be a list"),
        ({"roles": ["a"] * 51}, "at most 50"),
        ({"roles": ["a" * 101]}, "1 to 100"),
        ({"yeoul": None}, "`yeoul` must be an object"),
        ({"yeoul": ["chat/*"]}, "`yeoul` must be an object"),
        ({"yeoul": {"subscribe": "chat/*"}}, "`yeoul.subscribe` must be a list"),
        ({"yeoul": {"publish": [""]}}, "`yeoul.publish` must be a list"),
        ({"yeoul": {"publish": ["x" * 251]}}, "1 to 250"),
        ({"yeoul": {"publish": ["x"] * 101}}, "at most 100"),
        ({"yeoul": {"subscribe": None}}, "`yeoul.subscribe` must be a list"),
        ({"yeoul": {"subscibe": ["a"]}}, "`yeoul` has 'subscibe'"),
    ],
)
def test_a_claim_that_is_wrong_is_named(claims: dict[str, Any], said: str) -> None:
    assert said in refusal(**claims)


def test_ids_of_any_script_are_taken() -> None:
    for user in ("김철수", "auth0|42", "ann smith@example.com", "👩‍🍳"[0], "x" * 200):
        assert read(sub=user).user == user
    assert read(name="👩‍🍳 요리사").name == "👩‍🍳 요리사"


@pytest.mark.parametrize("audience", ["yeoul", ["other", "yeoul"]])
def test_the_audience_that_is_asked_may_be_one_of_several(audience: object) -> None:
    assert read(Rules(audience="yeoul"), aud=audience).user == "u1"


@pytest.mark.parametrize("audience", ["yeoul2", "", ["other"], [], {"yeoul": 1}, 5])
def test_another_audience_is_refused(audience: object) -> None:
    assert "but must contain 'yeoul'" in refusal(Rules(audience="yeoul"), aud=audience)


def test_audience_and_issuer_are_asked_only_where_they_are_set() -> None:
    assert read(aud="anybody", iss="anybody").user == "u1"
    assert "has no `aud`" in refusal(Rules(audience="yeoul"))
    assert "has no `iss`" in refusal(Rules(issuer="https://id.example"))
    assert "`iss` is 'https://evil.example', but" in refusal(
        Rules(issuer="https://id.example"), iss="https://evil.example"
    )
    assert "`iss` is" in refusal(Rules(issuer="https://id.example"), iss=["https://id.example"])
    assert read(Rules(issuer="https://id.example"), iss="https://id.example").user == "u1"


def test_what_a_token_says_is_quoted_in_short() -> None:
    said = refusal(Rules(audience="yeoul"), aud="\x1b]" + "x" * 5_000)
    assert len(said) < 150
    assert said.isprintable()
