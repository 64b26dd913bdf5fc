"""The demo token: `id:name:email:role,role` in Base64. It proves nothing, so only demo mode accepts it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InvalidToken

__all__ = ["DemoUser", "make_demo_token", "read_demo_token"]

_MAX_LENGTH = 1_000
_FORM = "a demo token is Base64 of `id:name:email:role,role`"


@dataclass(frozen=True, slots=True)
class DemoUser:
    user: str
    name: str
    email: str
    roles: frozenset[str]


def make_demo_token(user: str, name: str = "", email: str = "", roles: Sequence[str] = ()) -> str:
    """Raises ValueError for fields that such a token cannot hold."""
    text = base64.b64encode(":".join((user, name, email, ",".join(roles))).encode()).decode()
    try:
        if read_demo_token(text) == DemoUser(user, name, email, frozenset(roles)):
            return text
    except InvalidToken as error:
        raise ValueError(str(error)) from error
    raise ValueError(f"{_FORM}: no field may hold a colon, and no role a comma")


def read_demo_token(text: str) -> DemoUser:
    """With or without padding, in either alphabet of RFC 4648. Raises InvalidToken."""
    if len(text) > _MAX_LENGTH:
        raise InvalidToken(f"{_FORM}, in at most {_MAX_LENGTH} characters")
    # A "+" in a query that was not percent-encoded is decoded as a space.
    standard = text.rstrip("=").replace("-", "+").replace(" ", "+").replace("_", "/")
    try:
        plain = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise InvalidToken(_FORM) from error
    fields = plain.split(":")
    if len(fields) != 4 or not fields[0] or not plain.isprintable():
        raise InvalidToken(f"{_FORM}: four fields, the first not empty")
    user, name, email, roles = fields
    return DemoUser(user, name, email, frozenset(role.strip() for role in roles.split(",") if role.strip()))
