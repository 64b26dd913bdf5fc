"""Whom a stream is for, as far as the hub has to know."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["NOBODY", "Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """`user` and `name` as the application knows them, None for somebody unknown; `address` of the client; `expires`:
    until when it may read, in Unix seconds, None for as long as it likes."""

    user: str | None = None
    name: str | None = None
    address: str | None = None
    expires: float | None = None


NOBODY = Principal()
