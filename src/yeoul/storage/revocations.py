"""Users whose tokens were taken back: on disk, so that a restart forgives nobody; in memory, where requests ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sqlalchemy import Column, Float, MetaData, Table, Text, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from ..errors import TooManyRevocations
from .database import Database

__all__ = ["Revocation", "Revocations"]

_REVOCATIONS = Table(
    "revocations",
    MetaData(),
    Column("user", Text, primary_key=True),
    Column("at", Float, nullable=False),
)


class Revocation(NamedTuple):
    """`at`, in Unix seconds: what this user was given until then is not taken any more."""

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
        self._at: dict[str, float] = {}  # what is in force
        self._written: dict[str, float] = {}  # what is on the disk

    async def load(self, *, keep_seconds: float | None) -> None:
        """What earlier processes have revoked. `keep_seconds`: after that a revocation is forgotten, for no token of
        its time is valid any more; None: never. Raises DatabaseUnavailable."""
        self._keep_seconds = keep_seconds
        async with self._database.read() as connection:
            rows = await connection.execute(select(_REVOCATIONS.c.user, _REVOCATIONS.c.at))
            self._written = {row.user: row.at for row in rows}
        self._at = dict(self._written)

    def revoked(self, user: str, issued: float | None) -> bool:
        """Whether what this user was given at that time (Unix seconds, None where that is not known) was taken back."""
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
        """Takes back what this user was given until now. `at_once` is called when that is in force, which is before it
        is on the disk; where it cannot be written, it is not in force any more. Raises DatabaseUnavailable,
        TooManyRevocations."""
        self._forget_old()
        if user not in self._at and len(self._at) >= self._max_users:
            raise TooManyRevocations(f"{self._max_users} users are revoked: none can be added")
        # Where the clock was set back, what was revoked before stays so.
        at = self._at[user] = max(self._clock(), self._at.get(user, 0.0))
        try:
            at_once()
            await self._write(user, at)
        except Exception:
            if self._at.get(user) == at:  # else somebody has revoked this user anew meanwhile
                self._restore(user)
            raise
        self._written[user] = max(at, self._written.get(user, 0.0))
        self._at[user] = max(at, self._at.get(user, 0.0))
        return Revocation(user, at)

    async def forgive(self, user: str) -> bool:
        """Takes what was given to this user again; False where nothing was revoked. Raises DatabaseUnavailable."""
        async with self._database.write() as connection:
            await connection.execute(delete(_REVOCATIONS).where(_REVOCATIONS.c.user == user))
        at = self._written.pop(user, None)
        if at is not None and self._at.get(user) == at:  # else this user was revoked anew, which is being written
            del self._at[user]
        return at is not None and not self._is_over(at)

    async def _write(self, user: str, at: float) -> None:
        row = insert(_REVOCATIONS).values(user=user, at=at)
        latest = func.max(_REVOCATIONS.c.at, row.excluded.at)  # whoever revoked later may have been written before
        async with self._database.write() as connection:
            await connection.execute(row.on_conflict_do_update(index_elements=["user"], set_={"at": latest}))
            if self._keep_seconds is not None:
                await connection.execute(delete(_REVOCATIONS).where(_REVOCATIONS.c.at <= at - self._keep_seconds))

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
