"""A JWT as text (RFC 7515, 7.1): its form and its header. Nothing is proven here yet."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidToken

__all__ = ["MAX_TOKEN_BYTES", "CompactToken", "check_header", "looks_like_jwt", "read_compact", "read_object", "shown"]

# No identity provider's token is nearly as long, and servers bound a request's head to about as much.
MAX_TOKEN_BYTES = 8 * 1024

# Characters of a value that a message quotes: enough to know it again.
_MAX_SHOWN = 60

# Microseconds of today have 16 digits: no number in a token needs more.
_MAX_DIGITS = 16

_ENCRYPTED_PARTS = 5
_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_TYPES = ("jwt", "at+jwt")


@dataclass(frozen=True, slots=True)
class CompactToken:
    """`header` is what the token says of itself, and no more than that; `payload` its bytes, which nobody may believe
    before it was checked that `signature` is that of `signed`."""

    header: Mapping[str, Any]
    payload: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def algorithm(self) -> str:
        return str(self.header["alg"])

    @property
    def key_id(self) -> str | None:
        return self.header.get("kid")


def looks_like_jwt(text: str) -> bool:
    return text.count(".") >= 2


def read_compact(text: str) -> CompactToken:
    """Raises InvalidToken for what is no signed token. Its header is not checked yet."""
    if len(text) > MAX_TOKEN_BYTES:
        raise InvalidToken(f"the token is longer than {MAX_TOKEN_BYTES // 1024} KiB: put less into it")
    if text.count(".") == _ENCRYPTED_PARTS - 1:
        raise InvalidToken("the token is encrypted (JWE): send a signed one (JWS)")
    parts = _FORM.fullmatch(text)
    if parts is None:
        raise InvalidToken("this is no JWT: it has three parts of Base64url, joined by dots")
    header, payload, signature = map(_decoded, parts.groups())
    signed = text.rpartition(".")[0].encode()
    return CompactToken(read_object(header, "header"), payload, signed, signature)


def read_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object of a token's part. Raises InvalidToken also where a member stands twice (RFC 8725, 2.6: whoever
    made the token and whoever reads it may each have another one in mind) and for numbers that no float can hold."""
    try:
        value = _JSON.decode(data.decode())
    except InvalidToken as error:
        raise InvalidToken(f"the token's {what} {error}") from None
    except (ValueError, RecursionError):
        raise InvalidToken(f"the token's {what} is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidToken(f"the token's {what} is no JSON object")
    return value


def check_header(header: Mapping[str, Any]) -> None:
    """Raises InvalidToken for a header that this server does not take. What else it may hold (`jku`, `jwk`, `x5u`,
    `x5c`: keys that the token brings along) is not looked at."""
    for name in ("crit", "b64"):
        if name in header:
            # RFC 7515, 4.1.11: extensions that one does not know must not be passed over.
            raise InvalidToken(f"the token's header has `{name}`, an extension that this server does not take")
    kind = header.get("typ")
    if kind is not None and not (isinstance(kind, str) and kind.lower() in _TYPES):
        # RFC 8725, 3.11: another kind of token (an ID token's logout, a DPoP proof) must not pass for an access token.
        raise InvalidToken(f"the token's `typ` is {shown(kind)}: it must be absent, 'JWT' or 'at+jwt'")
    if not isinstance(header.get("alg"), str):
        raise InvalidToken("the token's header has no `alg`")
    if not isinstance(header.get("kid", ""), str):
        raise InvalidToken("the token's `kid` must be text")


def shown(value: object) -> str:
    """A value out of a token, for a message: short, and without characters that a terminal would obey."""
    text = value if isinstance(value, str) else json.dumps(value)
    return ascii(text) if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]!a}…"


def _decoded(part: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        data = b""
    # Bits that are left over are zero (RFC 4648, 3.5): there are no two ways to write one token.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise InvalidToken("this is no JWT: one of its parts is no Base64url")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise InvalidToken("has a member twice")
    return made


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS or text in ("NaN", "Infinity", "-Infinity"):
        raise InvalidToken("has a number that is not finite, or far too long")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidToken("has a number that is not finite, or far too long")
    return number


# One for all tokens: `json.loads` builds a decoder on each call.
_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_integer)
