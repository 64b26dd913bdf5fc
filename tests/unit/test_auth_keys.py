"""Keys: which are accepted, for which algorithm, and what they sign."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from support.tokens import SECRET
from yeoul.auth.keys import Key, algorithm_of, candidates, public_keys, secret_key, sign, signing_key
from yeoul.auth.tokens import Tokens

RSA = rsa.generate_private_key(65_537, 2_048)
RSA_SHORT = rsa.generate_private_key(65_537, 1_024)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(private: Any) -> str:
    return str(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem(private: Any, encryption: KeySerializationEncryption | None = None) -> str:
    return str(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode())


@pytest.mark.parametrize(("private", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_the_algorithm_follows_from_the_key(private: Any, algorithm: str) -> None:
    (key,) = public_keys(pem(private))
    assert (key.algorithm, key.id) == (algorithm, None)


def test_a_file_may_hold_several_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.pem"
    file.write_text("# last year's\n" + pem(RSA) + "\n# this year's\n" + pem(ED))
    assert [key.algorithm for key in public_keys(str(file))] == ["RS256", "EdDSA"]


def test_a_variable_may_hold_a_key_on_one_line() -> None:
    assert public_keys(pem(EC).replace("\n", "\\n"))[0].algorithm == "ES256"


@pytest.mark.parametrize(
    ("private", "said"),
    [
        (RSA_SHORT, "1024 bits is too short"),
        (ec.generate_private_key(ec.SECP384R1()), "secp384r1 is not supported"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1 is not supported"),
        (ed448.Ed448PrivateKey.generate(), "of this kind is not supported"),
        (dsa.generate_private_key(1_024), "of this kind is not supported"),
    ],
)
def test_weak_and_unsupported_keys_are_refused_with_a_hint(private: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        public_keys(pem(private))
    assert "an RSA key of at least 2048 bits, an EC key on P-256, or an Ed25519 key" in str(caught.value)


def test_a_private_key_is_refused_and_not_quoted() -> None:
    for text in (private_pem(RSA), pem(RSA) + private_pem(ED)):
        with pytest.raises(ValueError, match="openssl pkey -in") as caught:
            public_keys(text)
        assert not any(line in str(caught.value) for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no-such-file.pem", "neither PEM text nor a readable PEM file: no such file"),
        ("/", "neither PEM text nor a readable PEM file"),
        ("a\0b", "neither PEM text nor a readable PEM file"),
        ("x" * 5_000, "neither PEM text nor a readable PEM file"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n", "it contains no PEM block"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "the PEM text is damaged"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "openssl x509"),
        (pem(ED) * 17, "it has 17 keys"),
    ],
)
def test_text_without_a_public_key_is_refused_and_not_quoted(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        public_keys(text)
    assert "AAAA" not in str(caught.value)
    assert "no-such" not in str(caught.value)


def test_a_file_without_keys_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="it is not a text file"):
        public_keys(str(tmp_path / "binary"))
    with pytest.raises(ValueError, match="it contains no PEM block"):
        public_keys(str(tmp_path / "text"))


def test_a_secret_must_be_as_long_as_the_hash() -> None:
    assert secret_key("x" * 32).algorithm == "HS256"
    assert secret_key("가" * 11).material == ("가" * 11).encode()
    for short in ("", "hunter2", "x" * 31):
        with pytest.raises(ValueError, match=f"it has {len(short)} bytes: an HS256 secret has at least 32") as caught:
            secret_key(short)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("secret", [pem(RSA), private_pem(EC), '{"kty": "oct", "k": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}'])
def test_a_key_of_another_kind_is_not_accepted_as_a_secret(secret: str) -> None:
    with pytest.raises(ValueError, match="put a public key into jwt_public_key"):
        secret_key(secret)


def test_repr_does_not_show_the_key() -> None:
    assert "xxx" not in repr(secret_key("x" * 32))


def test_other_objects_have_no_algorithm() -> None:
    for thing in (None, "RS256", RSA):
        with pytest.raises(ValueError, match="of this kind is not supported"):
            algorithm_of(thing)


def test_kid_selects_keys_and_keys_without_an_id() -> None:
    named, other, nameless = Key("RS256", 1, "a"), Key("RS256", 2, "b"), Key("RS256", 3)
    keys = [named, other, nameless, Key("ES256", 4, "a")]
    assert candidates(keys, "RS256", "a") == [named, nameless]
    assert candidates(keys, "RS256", None) == [named, other, nameless]
    assert candidates(keys, "RS256", "c") == [nameless]
    assert candidates(keys, "none", None) == []


# --- signing


@pytest.mark.parametrize("private", [RSA, EC, ED])
async def test_a_token_signed_with_a_private_key_is_accepted_with_its_public_key(private: Any, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(private_pem(private))
    tokens = Tokens(public_keys(pem(private)))
    for key in (signing_key(private_pem(private)), signing_key(str(file))):
        text = sign({"sub": "u1", "exp": time.time() + 60}, key)
        assert (await tokens.read(text)).user == "u1"


async def test_a_token_signed_with_a_secret_is_accepted_with_it() -> None:
    key = secret_key(SECRET)
    assert (await Tokens([key]).read(sign({"sub": "u1", "exp": time.time() + 60}, key))).user == "u1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (pem(RSA), "it contains no private key"),
        (private_pem(EC, BestAvailableEncryption(b"word")), "is encrypted"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "cannot be read"),
        (private_pem(rsa.generate_private_key(65_537, 1_024)), "1024 bits is too short"),
        (private_pem(ec.generate_private_key(ec.SECP384R1())), "secp384r1 is not supported"),
        ("no-such-file", "neither PEM text nor a readable PEM file"),
    ],
)
def test_text_without_a_private_key_is_refused_and_not_quoted(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        signing_key(text)
    assert not any(line in str(caught.value) for line in text.splitlines())
