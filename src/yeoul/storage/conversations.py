"""The turns of conversations, which the next prompt of a session contains: bounded in number and in age."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence

from ..llm.provider import Message
from .database import Database

__all__ = ["Conversations"]

_NEWEST = "SELECT role, content FROM turns WHERE owner = ? AND session = ? AND at > ? ORDER BY id DESC LIMIT ?"
_ADD = "INSERT INTO turns (owner, session, role, content, at) VALUES (?, ?, ?, ?, ?)"
_TRIM = """
DELETE FROM turns WHERE owner = :owner AND session = :session AND id NOT IN (
    SELECT id FROM turns WHERE owner = :owner AND session = :session ORDER BY id DESC LIMIT :most
)
"""
_FORGET = "DELETE FROM turns WHERE at <= ?"


class Conversations:
    """`max_turns` are kept per owner and session, each for `keep_seconds`. Two owners never share a session, even where
    they give it the same name."""

    def __init__(
        self,
        database: Database,
        *,
        max_turns: int = 20,
        keep_seconds: float = 86_400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._max_turns = max_turns
        self._keep_seconds = keep_seconds
        self._clock = clock

    async def turns(self, owner: str, session: str) -> Sequence[Message]:
        """Oldest first; empty for a session that is unknown, or too old. Raises DatabaseUnavailable."""
        values = (owner, session, self._clock() - self._keep_seconds, self._max_turns)
        rows = await self._database.read(lambda connection: connection.execute(_NEWEST, values).fetchall())
        return [Message(role, content) for role, content in reversed(rows)]

    async def add(self, owner: str, session: str, turns: Sequence[Message]) -> None:
        """Appends all of them, or none, and deletes what exceeds the bounds, in all sessions. Raises
        DatabaseUnavailable."""
        now = self._clock()

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(_ADD, [(owner, session, turn.role, turn.content, now) for turn in turns])
            connection.execute(_TRIM, {"owner": owner, "session": session, "most": self._max_turns})
            connection.execute(_FORGET, (now - self._keep_seconds,))

        await self._database.write(write)
