"""What was said in a session: bounded, aged, and never another's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from yeoul.llm.provider import Message
from yeoul.storage.conversations import Conversations
from yeoul.storage.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(tmp_path)
    await opened.open()
    yield opened
    await opened.close()


def said(number: int) -> list[Message]:
    return [Message("user", f"질문 {number}"), Message("assistant", f'{{"answer": "🌊 {number}"}}')]


async def test_turns_come_back_in_order(database: Database) -> None:
    conversations = Conversations(database)
    assert await conversations.turns("ada", "s") == []
    await conversations.add("ada", "s", said(1))
    await conversations.add("ada", "s", said(2))
    assert await conversations.turns("ada", "s") == [*said(1), *said(2)]


async def test_sessions_and_owners_are_never_mixed(database: Database) -> None:
    conversations = Conversations(database)
    await conversations.add("ada", "s", said(1))
    await conversations.add("bob", "s", said(2))
    await conversations.add("ada", "t", said(3))
    assert await conversations.turns("ada", "s") == said(1)
    assert await conversations.turns("bob", "s") == said(2)
    assert await conversations.turns("ada' OR 1=1 --", "s") == []


async def test_only_the_newest_turns_are_kept(database: Database) -> None:
    conversations = Conversations(database, max_turns=4)
    for number in range(5):
        await conversations.add("ada", "s", said(number))
    assert await conversations.turns("ada", "s") == [*said(3), *said(4)]
    assert len(await Conversations(database, max_turns=100).turns("ada", "s")) == 4, "the others are gone"


async def test_what_is_too_old_is_neither_told_nor_kept(database: Database) -> None:
    now = 1_000.0
    conversations = Conversations(database, keep_seconds=60, clock=lambda: now)
    await conversations.add("ada", "s", said(1))
    now = 1_061.0
    assert await conversations.turns("ada", "s") == []
    await conversations.add("bob", "t", said(2))
    now = 1_000.0
    assert await conversations.turns("ada", "s") == []
