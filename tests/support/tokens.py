"""Tokens as clients have them."""

from __future__ import annotations

import base64
import time
from typing import Any

import jwt

__all__ = ["SECRET", "bearer", "demo_token", "make_jwt"]

# A server's `jwt_secret` in tests: `@pytest.mark.settings(jwt_secret=SECRET)`.
SECRET = "test-secret-of-more-than-32-bytes-0123456789"


def demo_token(user: str = "u1", name: str = "Ann", email: str = "ann@example.com", roles: str = "user") -> str:
    """What demo mode takes: Base64 of `id:name:email:role,role`."""
    return base64.b64encode(f"{user}:{name}:{email}:{roles}".encode()).decode()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def make_jwt(user: str = "u1", *, seconds: float = 86_400, secret: str = SECRET, **claims: Any) -> str:
    """A token as a login server issues it. `claims` are added to the usual ones, or replace them. It is valid for a day
    by default: some tests make theirs at import, and are run an hour later on a slow machine."""
    now = time.time()
    return jwt.encode({"sub": user, "iat": now, "exp": now + seconds, **claims}, secret, algorithm="HS256")
