"""Keys that sign and verify tokens. A key has one algorithm, which follows from its kind (RFC 8725, 3.1): no token can
choose another one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from jwt.algorithms import HMACAlgorithm

__all__ = [
    "ALGORITHMS",
    "Key",
    "algorithm_of",
    "candidates",
    "public_keys",
    "read_pem",
    "secret_key",
    "sign",
    "signing_key",
]

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")

# As long as the hash (RFC 7518, 3.2): a shorter secret can be found by trying.
_MIN_SECRET_BYTES = 32
_MIN_RSA_BITS = 2048  # RFC 7518, 3.3

_MAX_PEM_BYTES = 64 * 1024
_MAX_KEYS = 16  # a token without `kid` is tried with each
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_WANTED = "use an RSA key of at least 2048 bits, an EC key on P-256, or an Ed25519 key"


@dataclass(frozen=True, slots=True)
class Key:
    """`id`: its `kid`, or None."""

    algorithm: str
    material: Any = field(repr=False)
    id: str | None = None


def secret_key(secret: str) -> Key:
    """The HS256 key that is this text in UTF-8. Raises ValueError, which does not quote it."""
    material = secret.encode()
    if len(material) < _MIN_SECRET_BYTES:
        least = f"an HS256 secret has at least {_MIN_SECRET_BYTES} (`openssl rand -base64 48` makes one)"
        raise ValueError(f"it has {len(material)} bytes: {least}")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(material)
    except jwt.InvalidKeyError as error:
        # Anyone who knows a public key could sign with it.
        raise ValueError("it is a key of another kind (PEM or JWK): put a public key into jwt_public_key") from error
    return Key("HS256", material)


def public_keys(text: str) -> list[Key]:
    """The keys of a PEM text or file. Raises ValueError, which does not quote the text: it may be a private key."""
    blocks = list(_PEM.finditer(read_pem(text)))
    if not blocks:
        raise ValueError("it contains no PEM block (-----BEGIN PUBLIC KEY-----)")
    if len(blocks) > _MAX_KEYS:
        raise ValueError(f"it has {len(blocks)} keys: {_MAX_KEYS} are the limit")
    return [_public_key(block[1], block[0]) for block in blocks]


def read_pem(text: str) -> str:
    """The text itself, or that of the file that it names. In the text, line breaks may be written as `\\n`, as they are
    in some environment variables. Raises ValueError."""
    if "-----BEGIN" in text:
        return text.replace("\\n", "\n")
    try:
        with Path(text).open("rb") as file:
            return file.read(_MAX_PEM_BYTES).decode()
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is not a text file"
        raise ValueError(f"it is neither PEM text nor a readable PEM file: {why.lower()}") from error


def algorithm_of(key: object) -> str:
    """The algorithm of a public key. Raises ValueError for a key of another kind, or one that is too weak."""
    match key:
        case RSAPublicKey() if key.key_size >= _MIN_RSA_BITS:
            return "RS256"
        case RSAPublicKey():
            raise ValueError(f"an RSA key of {key.key_size} bits is too short: {_WANTED}")
        case EllipticCurvePublicKey() if isinstance(key.curve, SECP256R1):
            return "ES256"
        case EllipticCurvePublicKey():
            raise ValueError(f"an EC key on {key.curve.name} is not supported: {_WANTED}")
        case Ed25519PublicKey():
            return "EdDSA"
    raise ValueError(f"a key of this kind is not supported: {_WANTED}")


def candidates(keys: Sequence[Key], algorithm: str, id: str | None) -> list[Key]:
    """The keys that may have signed a token with this `alg` and `kid`. A key without an id is not excluded by `kid`."""
    return [key for key in keys if key.algorithm == algorithm and (id is None or key.id in (None, id))]


def _public_key(label: str, block: str) -> Key:
    if "PRIVATE KEY" in label:
        right = "`openssl pkey -in key.pem -pubout` writes its public key"
        raise ValueError(f"it is a private key, which a server that only verifies tokens must not have: {right}")
    if not label.endswith("PUBLIC KEY"):
        right = "`openssl x509 -in cert.pem -pubkey -noout` writes a certificate's public key"
        raise ValueError(f"it is a {label.lower()[:40]}, not a public key: {right}")
    try:
        key = load_pem_public_key(block.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("its public key cannot be read: the PEM text is damaged") from error
    return Key(algorithm_of(key), key)


def signing_key(text: str) -> Key:
    """The private key of a PEM text or file. Raises ValueError, which does not quote the text."""
    pem = read_pem(text)
    if "PRIVATE KEY-----" not in pem:
        raise ValueError(
            "it contains no private key: tokens are signed with the private key, and verified with the public one"
        )
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
