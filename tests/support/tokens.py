"""Tokens as clients have them."""

from __future__ import annotations

import base64

__all__ = ["bearer", "demo_token"]


def demo_token(user: str = "u1", name: str = "Ann", email: str = "ann@example.com", roles: str = "user") -> str:
    """What demo mode takes: Base64 of `id:name:email:role,role`."""
    return base64.b64encode(f"{user}:{name}:{email}:{roles}".encode()).decode()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
