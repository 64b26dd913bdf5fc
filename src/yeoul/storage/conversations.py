"""What was said before, so that a session's next question is understood: bounded in length and in age."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Column, ColumnElement, Float, Integer, MetaData, Table, Text, delete, insert, select

from ..llm.provider import Message
from .database import Database

__all__ = ["Conversations"]

METADATA = MetaData()

_TURNS = Table(
    "turns",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("at", Float, nullable=False),
)


class Conversations:
    """`max_turns` are kept per owner and session, each for `keep_seconds`. Two owners never share a session, whatever
    they call it."""

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
        """Oldest first; none for a session that is unknown, or too old. Raises DatabaseUnavailable."""
        newest = (
            select(_TURNS.c.role, _TURNS.c.content)
            .where(_of(owner, session), _TURNS.c.at > self._clock() - self._keep_seconds)
            .order_by(_TURNS.c.id.desc())
            .limit(self._max_turns)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(newest)).all()
        return [Message(role, content) for role, content in reversed(rows)]

    async def add(self, owner: str, session: str, turns: Sequence[Message]) -> None:
        """Appends all of them, or none, and forgets what is over the bounds, in all sessions. Raises
        DatabaseUnavailable."""
        now = self._clock()
        kept = select(_TURNS.c.id).where(_of(owner, session)).order_by(_TURNS.c.id.desc()).limit(self._max_turns)
        rows = [
            {"owner": owner, "session": session, "role": turn.role, "content": turn.content, "at": now}
            for turn in turns
        ]
        async with self._database.write() as connection:
            await connection.execute(insert(_TURNS), rows)
            await connection.execute(delete(_TURNS).where(_of(owner, session), _TURNS.c.id.not_in(kept)))
            await connection.execute(delete(_TURNS).where(_TURNS.c.at <= now - self._keep_seconds))


def _of(owner: str, session: str) -> ColumnElement[bool]:
    return (_TURNS.c.owner == owner) & (_TURNS.c.session == session)
