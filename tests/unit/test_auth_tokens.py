"""Tokens of real users: which are taken, and which forged ones are not."""

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
from yeoul.auth.tokens import Rules, Tokens
from yeoul.errors import InvalidToken

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


def part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


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
async def test_a_token_is_taken_by_the_key_that_made_it(algorithm: str) -> None:
    issued = time.time() - 7
    claims = {"sub": "u1", "exp": time.time() + 60, "iat": issued, "roles": ["admin"]}
    text = jwt.encode(claims, PRIVATE[algorithm], algorithm=algorithm)
    for tokens in (ALL, Tokens([key_of(PRIVATE[algorithm])])):
        read = await tokens.read(text)
        assert (read.user, read.issued, read.roles) == ("u1", issued, frozenset({"admin"}))


@pytest.mark.parametrize("algorithm", PRIVATE)
async def test_a_token_that_another_key_made_is_refused(algorithm: str) -> None:
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
async def test_a_public_key_is_no_secret_to_sign_with(form: Encoding) -> None:
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


async def test_keys_that_the_token_brings_along_are_not_used() -> None:
    mine = rsa.generate_private_key(65_537, 2_048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(mine.public_key(), as_dict=True)
    headers = {"jwk": jwk, "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/cert", "kid": "../../dev/null"}
    text = jwt.encode({"sub": "u1", "exp": time.time() + 60}, mine, algorithm="RS256", headers=headers)
    assert "matches no key" in await refusal(ALL, text)


async def test_a_name_of_a_key_chooses_among_the_servers_own() -> None:
    first, second = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    tokens = Tokens([key_of(first, "first"), key_of(second, "second")])
    claims = {"sub": "u1", "exp": time.time() + 60}
    for kid in ("second", None):
        text = jwt.encode(claims, second, algorithm="ES256", headers={"kid": kid} if kid else {})
        assert (await tokens.read(text)).user == "u1"
    for kid in ("first", "third"):
        text = jwt.encode(claims, second, algorithm="ES256", headers={"kid": kid})
        assert "matches no key" in await refusal(tokens, text)


async def test_the_secret_before_is_still_taken_while_it_is_set() -> None:
    old = make_jwt(secret=SECRET[::-1])
    assert (await Tokens([secret_key(SECRET), secret_key(SECRET[::-1])]).read(old)).user == "u1"
    assert "matches no key" in await refusal(HMAC_ONLY, old)


async def test_the_signature_is_checked_before_what_it_signs_is_believed() -> None:
    header, _, signature = make_jwt(seconds=-100).split(".")
    assert "matches no key" in await refusal(HMAC_ONLY, f"{header}.{part({'sub': 'admin'})}.{signature}")


async def test_the_clock_decides_what_is_expired() -> None:
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


def test_tokens_cannot_be_checked_without_a_key() -> None:
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
async def test_no_part_of_a_token_can_be_left_out_or_doubled(name: str, data: st.DataObject) -> None:
    text = VALID[name]
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    for changed in (text[:begin] + text[end:], text[:end] + text[begin:]):
        if changed != text:
            with pytest.raises(InvalidToken):
                await FIXED.read(changed)


@given(text=st.text(max_size=200) | st.from_regex(r"[\w-]{1,30}\.[\w-]{1,30}\.[\w-]{0,30}", fullmatch=True))
async def test_any_text_at_all_is_refused_in_our_own_words(text: str) -> None:
    with pytest.raises(InvalidToken):
        await FIXED.read(text)
