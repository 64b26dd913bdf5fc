"""Tokens of users: one for each reader, signed with a secret that the measured server is given."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import jwt

from .build import OUT

__all__ = ["SECRET", "token", "tokens"]

SECRET = secrets.token_urlsafe(48)
_VALID_S = 3_600


def token(user: str) -> str:
    """A JWT (HS256) of this user, valid for an hour."""
    claims = {"sub": user, "name": user.title(), "roles": ["user"], "exp": int(time.time()) + _VALID_S}
    return jwt.encode(claims, SECRET, "HS256")


def tokens(count: int, group: str = "user") -> Path:
    """A file with a token on each line, of the users `<group>-0`, `<group>-1` and so on."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"tokens-{group}"
    path.write_text("".join(f"{token(f'{group}-{number}')}\n" for number in range(count)))
    return path
