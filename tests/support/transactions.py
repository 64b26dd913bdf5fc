"""Transactions that last as long as a test wants."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from yeoul.storage import Database

__all__ = ["reading", "writing"]

_Transaction = Callable[[Callable[[sqlite3.Connection], None]], Awaitable[None]]


@asynccontextmanager
async def _held(transaction: _Transaction) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    started = asyncio.Event()
    finish = threading.Event()

    def work(connection: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(started.set)
        finish.wait()

    task = asyncio.ensure_future(transaction(work))
    await started.wait()
    try:
        yield
    finally:
        finish.set()
        await task


def writing(database: Database) -> AbstractAsyncContextManager[None]:
    """`async with writing(database)`: a write is running meanwhile."""
    return _held(database.write)


def reading(database: Database) -> AbstractAsyncContextManager[None]:
    """`async with reading(database)`: one of the readers is in use meanwhile."""
    return _held(database.read)
