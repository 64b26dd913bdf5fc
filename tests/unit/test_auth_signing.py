"""Making tokens."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from support.tokens import SECRET
from yeoul.auth.keys import public_keys, secret_key, sign, signing_key
from yeoul.auth.tokens import Tokens

RSA = rsa.generate_private_key(65_537, 2_048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def private_pem(key: Any, encryption: KeySerializationEncryption | None = None) -> str:
    return str(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode())


def public_pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


@pytest.mark.parametrize("private", [RSA, EC, ED])
async def test_what_a_private_key_signs_its_public_key_takes(private: Any, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(private_pem(private))
    tokens = Tokens(public_keys(public_pem(private)))
    for key in (signing_key(private_pem(private)), signing_key(str(file))):
        text = sign({"sub": "u1", "exp": time.time() + 60}, key)
        assert (await tokens.read(text)).user == "u1"


async def test_what_a_secret_signs_it_takes() -> None:
    key = secret_key(SECRET)
    assert (await Tokens([key]).read(sign({"sub": "u1", "exp": time.time() + 60}, key))).user == "u1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (public_pem(RSA), "it contains no private key"),
        (private_pem(EC, BestAvailableEncryption(b"word")), "is encrypted"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "cannot be read"),
        (private_pem(rsa.generate_private_key(65_537, 1_024)), "1024 bits is too short"),
        (private_pem(ec.generate_private_key(ec.SECP384R1())), "secp384r1 is not supported"),
        ("no-such-file", "neither PEM text nor a readable PEM file"),
    ],
)
def test_what_nothing_can_be_signed_with_is_refused_without_being_shown(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        signing_key(text)
    assert not any(line in str(caught.value) for line in text.splitlines())
