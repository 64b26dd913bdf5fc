"""JSON Web Tokens: their form, their claims, their signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from support.tokens import SECRET, make_jwt
from yeoul.auth.keys import Key, algorithm_of, secret_key
from yeoul.auth.tokens import (
    MAX_TOKEN_BYTES,
    Claims,
    CompactToken,
    Rules,
    Tokens,
    check_header,
    looks_like_jwt,
    read_compact,
    read_object,
    shown,
)
from yeoul.errors import InvalidToken

# --- the form


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: Any, payload: Any = None, signature: str = "c2ln") -> str:
    return f"{part(header)}.{part(payload or {'sub': 'u1'})}.{signature}"


def unverified(text: str) -> CompactToken:
    token = read_compact(text)
    check_header(token.header)
    return token


def refused_form(text: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        unverified(text)
    return str(caught.value)


def test_the_form_is_read() -> None:
    token = unverified(compact({"alg": "HS256", "typ": "JWT", "kid": "k1"}))
    assert (token.algorithm, token.key_id, token.payload) == ("HS256", "k1", b'{"sub": "u1"}')
    assert "u1" not in repr(token)
    assert unverified(compact({"alg": "HS256"})).key_id is None


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT"])
def test_types_of_access_tokens_are_accepted(kind: str) -> None:
    assert unverified(compact({"alg": "HS256", "typ": kind}))


@pytest.mark.parametrize("kind", ["", "JWE", "logout+jwt", "dpop+jwt", "JWT ", 5, ["JWT"]])
def test_other_kinds_of_tokens_are_refused(kind: Any) -> None:
    assert "`typ` is" in refused_form(compact({"alg": "HS256", "typ": kind}))


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
def test_invalid_headers_are_refused(header: Any, said: str) -> None:
    assert said in refused_form(compact(header))


def test_a_header_that_many_tokens_share_cannot_be_changed() -> None:
    first, second = (unverified(compact({"alg": "HS256"}, {"sub": user})) for user in ("u1", "u2"))
    assert first.header is second.header
    with pytest.raises(TypeError):
        first.header["alg"] = "none"  # type: ignore[index]
    assert (first.payload, second.payload) == (b'{"sub": "u1"}', b'{"sub": "u2"}')


def test_long_headers_are_not_remembered() -> None:
    text = compact({"alg": "HS256", "x": "x" * 1_000})
    assert unverified(text).header is not unverified(text).header


@pytest.mark.parametrize("header", ["jku", "x5u", "jwk", "x5c"])
def test_keys_in_a_header_are_ignored(header: str) -> None:
    assert unverified(compact({"alg": "HS256", header: "https://evil.example/keys"})).algorithm == "HS256"


COMPACT = compact({"alg": "HS256"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "a.b",
        "..",
        ".a.b",
        COMPACT + "=",
        COMPACT + "\n",
        " " + COMPACT,
        COMPACT.replace(".", ". "),
        "é" + COMPACT,
        COMPACT + ".d",
    ],
)
def test_text_of_another_form_is_refused(text: str) -> None:
    assert "not a JWT" in refused_form(text)


def test_a_part_of_an_impossible_length_is_refused() -> None:
    assert "not Base64url" in refused_form("a" + COMPACT.partition(".")[1] + COMPACT.partition(".")[2])


def test_encrypted_tokens_are_refused() -> None:
    assert "encrypted (JWE)" in refused_form("a.b.c.d.e")


def test_the_length_is_bounded() -> None:
    header, payload, _ = COMPACT.split(".")
    rest = MAX_TOKEN_BYTES - len(header) - len(payload) - 2
    assert unverified(f"{header}.{payload}.{'A' * rest}")
    assert "longer than 8 KiB" in refused_form(f"{header}.{payload}.{'A' * (rest + 1)}")


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
def test_ambiguous_json_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidToken, match=said):
        read_object(text.encode(), "payload")


def test_usual_numbers_are_read() -> None:
    assert read_object(b'{"a": 1764000000, "b": -1.5e3, "c": 1234567890123456}', "payload") == {
        "a": 1_764_000_000,
        "b": -1_500.0,
        "c": 1_234_567_890_123_456,
    }


def test_quoted_values_are_short_and_printable() -> None:
    assert shown("a") == "'a'"
    assert shown("\x1b\u202e") == r"'\x1b\u202e'"
    assert len(shown(["x" * 1_000])) < 70


def test_a_jwt_is_recognised_by_its_dots() -> None:
    assert looks_like_jwt(COMPACT)
    assert not looks_like_jwt("dTE6QW5u")


# --- the claims

THEN = 1_000_000.0
RULES = Rules(leeway=5, max_seconds=3_600)
PAYLOAD: dict[str, Any] = {"sub": "u1", "exp": THEN + 60}


def read_claims(rules: Rules = RULES, **changed: Any) -> Claims:
    payload = {name: value for name, value in {**PAYLOAD, **changed}.items() if value is not ...}
    return rules.read(payload, THEN)


def refused_claims(rules: Rules = RULES, **changed: Any) -> str:
    with pytest.raises(InvalidToken) as caught:
        read_claims(rules, **changed)
    return str(caught.value)


def test_claims_are_read() -> None:
    claims = read_claims(
        iat=THEN - 3, name="Ann", email="ann@example.com", roles=["user", "admin"], yeoul={"subscribe": ["chat/*"]}
    )
    assert claims == Claims(
        user="u1",
        expires=THEN + 65,
        issued=THEN - 3,
        name="Ann",
        email="ann@example.com",
        roles=frozenset({"user", "admin"}),
        subscribe=("chat/*",),
        publish=(),
    )


def test_without_a_yeoul_claim_the_grants_are_unset() -> None:
    claims = read_claims(name=None, email=None, roles=None)
    assert (claims.subscribe, claims.publish) == (None, None)
    assert (claims.issued, claims.name, claims.email, claims.roles) == (None, None, None, frozenset())
    assert (read_claims(yeoul={}).subscribe, read_claims(yeoul={}).publish) == ((), ())


@pytest.mark.parametrize(
    "claims", [{"exp": THEN - 4.9}, {"exp": THEN + 3_600}, {"nbf": THEN + 5}, {"iat": THEN + 5}, {"iat": THEN - 3_540}]
)
def test_times_are_accepted_up_to_the_leeway_and_the_limit(claims: dict[str, float]) -> None:
    assert read_claims(**claims).user == "u1"


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": THEN - 5}, "expired 5 s ago: get a new one"),
        ({"exp": THEN - 40}, "expired 40 s ago"),
        ({"exp": THEN + 3_601}, "the limit is 60 min"),
        ({"exp": THEN + 60, "iat": THEN - 3_541}, "`exp` gives it 60 min: the limit is 60 min"),
        ({"exp": THEN + 3_601, "iat": THEN + 4}, "the limit is 60 min"),
        ({"exp": ...}, "has no `exp`"),
        ({"exp": None}, "`exp` must be a number"),
        ({"exp": str(THEN + 60)}, "`exp` must be a number"),
        ({"exp": True}, "`exp` must be a number"),
        ({"nbf": THEN + 5.1}, "`nbf` is 5 s ahead"),
        ({"nbf": "soon"}, "`nbf` must be a number"),
        ({"iat": THEN + 6}, "`iat` is 6 s ahead"),
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
def test_an_invalid_claim_is_named(claims: dict[str, Any], said: str) -> None:
    assert said in refused_claims(**claims)


def test_ids_of_any_script_are_accepted() -> None:
    for user in ("김철수", "auth0|42", "ann smith@example.com", "👩‍🍳"[0], "x" * 200):
        assert read_claims(sub=user).user == user
    assert read_claims(name="👩‍🍳 요리사").name == "👩‍🍳 요리사"


@pytest.mark.parametrize("audience", ["yeoul", ["other", "yeoul"]])
def test_the_required_audience_may_be_one_of_several(audience: object) -> None:
    assert read_claims(Rules(audience="yeoul"), aud=audience).user == "u1"


@pytest.mark.parametrize("audience", ["yeoul2", "", ["other"], [], {"yeoul": 1}, 5])
def test_another_audience_is_refused(audience: object) -> None:
    assert "but must contain 'yeoul'" in refused_claims(Rules(audience="yeoul"), aud=audience)


def test_audience_and_issuer_are_checked_only_where_they_are_set() -> None:
    assert read_claims(aud="anybody", iss="anybody").user == "u1"
    assert "has no `aud`" in refused_claims(Rules(audience="yeoul"))
    assert "has no `iss`" in refused_claims(Rules(issuer="https://id.example"))
    assert "`iss` is 'https://evil.example', but" in refused_claims(
        Rules(issuer="https://id.example"), iss="https://evil.example"
    )
    assert "`iss` is" in refused_claims(Rules(issuer="https://id.example"), iss=["https://id.example"])
    assert read_claims(Rules(issuer="https://id.example"), iss="https://id.example").user == "u1"


def test_claims_are_quoted_shortened() -> None:
    said = refused_claims(Rules(audience="yeoul"), aud="\x1b]" + "x" * 5_000)
    assert len(said) < 150
    assert said.isprintable()


# --- the signature

RSA = rsa.generate_private_key(65_537, 2_048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PRIVATE: dict[str, Any] = {"HS256": SECRET, "RS256": RSA, "ES256": EC, "EdDSA": ED}


def key_of(private: Any, id: str | None = None) -> Key:
    if isinstance(private, str):
        return secret_key(private)
    return Key(algorithm_of(private.public_key()), private.public_key(), id)


HMAC_ONLY = Tokens([secret_key(SECRET)])
ALL = Tokens([key_of(private) for private in PRIVATE.values()])
CLAIMS = {"sub": "u1", "exp": 2_000_000_000, "iat": 1_999_999_000}
NOW = 1_999_999_500.0


def forged(header: Any, secret: bytes, claims: Any = None) -> str:
    """Signed with HMAC by hand: libraries refuse to make some of these."""
    signed = f"{part(header)}.{part(claims or {'sub': 'u1', 'exp': time.time() + 60})}"
    return f"{signed}.{part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


async def refusal(tokens: Tokens, text: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        await tokens.read(text)
    assert text[:200] not in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_a_token_is_accepted_with_the_key_that_signed_it(algorithm: str) -> None:
    issued = time.time() - 7
    claims = {"sub": "u1", "exp": time.time() + 60, "iat": issued, "roles": ["admin"]}
    text = jwt.encode(claims, PRIVATE[algorithm], algorithm=algorithm)
    for tokens in (ALL, Tokens([key_of(PRIVATE[algorithm])])):
        read = await tokens.read(text)
        assert (read.user, read.issued, read.roles) == ("u1", issued, frozenset({"admin"}))


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_a_token_signed_with_another_key_is_refused(algorithm: str) -> None:
    others: dict[str, Any] = {
        "HS256": SECRET[::-1],
        "RS256": rsa.generate_private_key(65_537, 2_048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    text = jwt.encode({"sub": "u1", "exp": time.time() + 60}, others[algorithm], algorithm=algorithm)
    assert "matches no key of this server" in await refusal(ALL, text)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 "])
@pytest.mark.parametrize("signature", ["", "AAAA"])
async def test_a_token_without_an_algorithm_is_refused(name: str, signature: str) -> None:
    text = f"{part({'alg': name})}.{part({'sub': 'u1', 'exp': time.time() + 60})}.{signature}"
    assert "this server accepts tokens signed with HS256" in await refusal(HMAC_ONLY, text)
    assert "`alg` is" in await refusal(ALL, text)


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
async def test_an_hmac_with_the_public_key_is_refused(form: Encoding) -> None:
    """Whoever takes the algorithm from the header checks an HMAC with the public key, which everybody has."""
    for private in (RSA, EC, ED):
        public = private.public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
        text = forged({"alg": "HS256", "typ": "JWT"}, public)
        assert "this server accepts tokens signed with" in await refusal(Tokens([key_of(private)]), text)
        assert "matches no key" in await refusal(ALL, text)


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
async def test_a_key_has_one_algorithm(algorithm: str) -> None:
    secret = SECRET * 2
    text = jwt.encode({"sub": "u1", "exp": time.time() + 60}, secret, algorithm=algorithm)
    assert f"`alg` is '{algorithm}'" in await refusal(Tokens([secret_key(secret)]), text)
    text = jwt.encode({"sub": "u1", "exp": time.time() + 60}, RSA, algorithm="PS256")
    assert "`alg` is 'PS256'" in await refusal(ALL, text)


async def test_an_algorithm_that_another_key_has_does_not_help() -> None:
    curve = ec.generate_private_key(ec.SECP384R1())
    text = jwt.encode({"sub": "u1", "exp": time.time() + 60}, curve, algorithm="ES384")
    assert "`alg` is 'ES384'" in await refusal(ALL, text)
    _, payload, signature = text.split(".")
    assert "matches no key" in await refusal(ALL, f"{part({'alg': 'ES256'})}.{payload}.{signature}")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"alg": "HS256", "crit": ["exp"]}, "`crit`"),
        ({"alg": "HS256", "b64": False, "crit": ["b64"]}, "`crit`"),
        ({"alg": "HS256", "typ": "logout+jwt"}, "`typ`"),
        (b'{"alg":"none","alg":"HS256"}', "duplicate member"),
    ],
)
async def test_headers_are_checked_although_the_signature_is_good(header: Any, said: str) -> None:
    assert said in await refusal(HMAC_ONLY, forged(header, SECRET.encode()))


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b'{"sub":"a","sub":"b","exp":1}', "payload has a duplicate member"),
        (b"[]  ", "payload is not a JSON object"),
        (b"\xff\xff", "payload is not JSON"),
        (b'{"sub":"a","exp":1e999}', "not finite"),
    ],
)
async def test_payloads_are_checked_although_the_signature_is_good(payload: bytes, said: str) -> None:
    assert said in await refusal(HMAC_ONLY, forged({"alg": "HS256"}, SECRET.encode(), payload))


async def test_keys_in_the_token_are_not_used() -> None:
    mine = rsa.generate_private_key(65_537, 2_048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(mine.public_key(), as_dict=True)
    headers = {"jwk": jwk, "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/cert", "kid": "../../dev/null"}
    text = jwt.encode({"sub": "u1", "exp": time.time() + 60}, mine, algorithm="RS256", headers=headers)
    assert "matches no key" in await refusal(ALL, text)


async def test_kid_selects_among_the_keys_of_the_server() -> None:
    first, second = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    tokens = Tokens([key_of(first, "first"), key_of(second, "second")])
    claims = {"sub": "u1", "exp": time.time() + 60}
    for kid in ("second", None):
        text = jwt.encode(claims, second, algorithm="ES256", headers={"kid": kid} if kid else {})
        assert (await tokens.read(text)).user == "u1"
    for kid in ("first", "third"):
        text = jwt.encode(claims, second, algorithm="ES256", headers={"kid": kid})
        assert "matches no key" in await refusal(tokens, text)


async def test_the_previous_secret_is_accepted_while_it_is_set() -> None:
    old = make_jwt(secret=SECRET[::-1])
    assert (await Tokens([secret_key(SECRET), secret_key(SECRET[::-1])]).read(old)).user == "u1"
    assert "matches no key" in await refusal(HMAC_ONLY, old)


async def test_the_signature_is_checked_before_the_claims() -> None:
    header, _, signature = make_jwt(seconds=-100).split(".")
    assert "matches no key" in await refusal(HMAC_ONLY, f"{header}.{part({'sub': 'admin'})}.{signature}")


async def test_a_token_expires_by_the_given_clock() -> None:
    now = NOW
    tokens = Tokens([secret_key(SECRET)], Rules(leeway=5), clock=lambda: now)
    text = jwt.encode(CLAIMS, SECRET, algorithm="HS256")
    assert (await tokens.read(text)).expires == 2_000_000_005
    now = 2_000_000_004.9
    assert (await tokens.read(text)).user == "u1"
    now = 2_000_000_005
    assert "expired 5 s ago" in await refusal(tokens, text)


async def test_a_long_token_is_refused() -> None:
    assert "longer than 8 KiB" in await refusal(HMAC_ONLY, make_jwt(note="x" * 8_000))


def test_a_key_is_required() -> None:
    with pytest.raises(ValueError, match="without a key"):
        Tokens([])


# --- properties

VALID = {name: jwt.encode(CLAIMS, private, algorithm=name) for name, private in PRIVATE.items()}
FIXED = Tokens([key_of(private) for private in PRIVATE.values()], clock=lambda: NOW)


@given(name=st.sampled_from(sorted(VALID)), at=st.integers(0, 10_000), char=st.characters(max_codepoint=255))
async def test_no_character_of_a_token_can_be_changed(name: str, at: int, char: str) -> None:
    text = VALID[name]
    at %= len(text)
    changed = text[:at] + char + text[at + 1 :]
    if changed == text:
        assert (await FIXED.read(changed)).user == "u1"
        return
    with pytest.raises(InvalidToken):
        await FIXED.read(changed)


@given(name=st.sampled_from(sorted(VALID)), data=st.data())
async def test_no_part_of_a_token_can_be_removed_or_repeated(name: str, data: st.DataObject) -> None:
    text = VALID[name]
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    for changed in (text[:begin] + text[end:], text[:end] + text[begin:]):
        if changed != text:
            with pytest.raises(InvalidToken):
                await FIXED.read(changed)


@given(text=st.text(max_size=200) | st.from_regex(r"[\w-]{1,30}\.[\w-]{1,30}\.[\w-]{0,30}", fullmatch=True))
async def test_arbitrary_text_raises_invalid_token(text: str) -> None:
    with pytest.raises(InvalidToken):
        await FIXED.read(text)
