"""Making tokens: for trying things out and for scripts. Who logs people in has a library for it, or a provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .keys import Key, algorithm_of, read_pem

__all__ = ["sign", "signing_key"]


def signing_key(text: str) -> Key:
    """The private key of a PEM text, or of a file of it. Raises ValueError, not showing the text."""
    pem = read_pem(text)
    if "PRIVATE KEY-----" not in pem:
        raise ValueError("it has no private key: tokens are signed with the private one, and checked with the public")
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except TypeError as error:
        raise ValueError(
            "its private key is encrypted: `openssl pkey -in key.pem -out plain.pem` decrypts it"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("its private key cannot be read: the PEM text is damaged, or of an unknown kind") from error
    return Key(algorithm_of(key.public_key()), key)


def sign(claims: Mapping[str, Any], key: Key) -> str:
    return jwt.encode(dict(claims), key.material, algorithm=key.algorithm)
