"""Users whose tokens are revoked: on disk, so that a restart does not lift a revocation; in memory for each request."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..errors import TooManyRevocations
from .database import Database

__all__ = ["Revocation", "Revocations"]

# A later revocation of the same user may have been written first.
_ADD = "INSERT INTO revocations (user, at) VALUES (?, ?) ON CONFLICT (user) DO UPDATE SET at = max(at, excluded.at)"
_FORGET = "DELETE FROM revocations WHERE at <= ?"


class Revocation(NamedTuple):
    """`at`, in Unix seconds: tokens of this user that were issued until then are refused."""

    user: str
    at: float


class Revocations:
    """`max_users`: more are refused. `clock`: Unix seconds."""

    def __init__(
        self,
        database: Database,
        *,
        max_users: int = 100_000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._keep_seconds: float | None = None
        self._max_users = max_users
        self._clock = clock
        self._at: dict[str, float] = {}  # in force
        self._written: dict[str, float] = {}  # on disk

    async def load(self, *, keep_seconds: float | None) -> None:
        """Reads the revocations of earlier processes. `keep_seconds`: the age at which a revocation is deleted, since
        all tokens that it applies to have expired; None: never. Raises DatabaseUnavailable."""
        self._keep_seconds = keep_seconds
        self._written = await self._database.read(
            lambda connection: dict(connection.execute("SELECT user, at FROM revocations"))
        )
        self._at = dict(self._written)

    def revoked(self, user: str, issued: float | None) -> bool:
        """Whether a token of this user that was issued at that time (Unix seconds, None: unknown) is revoked."""
        at = self._at.get(user)
        return at is not None and not self._is_over(at) and (issued is None or issued <= at)

    def __len__(self) -> int:
        """Users who are revoked."""
        return len(self._at)

    def all(self) -> Sequence[Revocation]:
        """Those that are on the disk, oldest first."""
        kept = (Revocation(user, at) for user, at in self._written.items() if not self._is_over(at))
        return sorted(kept, key=lambda revocation: revocation.at)

    async def revoke(self, user: str, at_once: Callable[[], object] = lambda: None) -> Revocation:
        """Revokes the tokens that were issued to this user until now. `at_once` is called when that is in force, which
        is before it is on the disk; where it cannot be written, it is undone. Raises DatabaseUnavailable,
        TooManyRevocations."""
        self._forget_old()
        if user not in self._at and len(self._at) >= self._max_users:
            raise TooManyRevocations(f"{self._max_users} users are revoked: none can be added")
        # If the clock was set back, the earlier revocation still holds.
        at = self._at[user] = max(self._clock(), self._at.get(user, 0.0))
        try:
            at_once()
            await self._write(user, at)
        except Exception:
            if self._at.get(user) == at:  # else this user was revoked again meanwhile
                self._restore(user)
            raise
        self._written[user] = max(at, self._written.get(user, 0.0))
        self._at[user] = max(at, self._at.get(user, 0.0))
        return Revocation(user, at)

    async def lift(self, user: str) -> bool:
        """Lifts a user's revocation; False where there is none. Raises DatabaseUnavailable."""
        await self._database.write(
            lambda connection: connection.execute("DELETE FROM revocations WHERE user = ?", (user,))
        )
        at = self._written.pop(user, None)
        if at is not None and self._at.get(user) == at:  # else this user was revoked again, which is being written
            del self._at[user]
        return at is not None and not self._is_over(at)

    async def _write(self, user: str, at: float) -> None:
        def write(connection: sqlite3.Connection) -> None:
            connection.execute(_ADD, (user, at))
            if self._keep_seconds is not None:
                connection.execute(_FORGET, (at - self._keep_seconds,))

        await self._database.write(write)

    def _forget_old(self) -> None:
        for user in [user for user, at in self._at.items() if self._is_over(at)]:
            del self._at[user]
            self._written.pop(user, None)

    def _restore(self, user: str) -> None:
        written = self._written.get(user)
        if written is None:
            del self._at[user]
        else:
            self._at[user] = written

    def _is_over(self, at: float) -> bool:
        return self._keep_seconds is not None and self._clock() - at >= self._keep_seconds
