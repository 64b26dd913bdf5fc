"""The application's database, for an event loop: transactions run in threads, readers at once, writers in turn."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from ..sqlite import BUSY_S, Schema, SqliteFile

__all__ = ["Database"]

_T = TypeVar("_T")

# "Yeou". Before `user_version` was used, Alembic kept the version in a table, as '0003'.
_SCHEMA = Schema.of(
    __package__, 0x59656F75, ("alembic_version", "SELECT CAST(version_num AS INTEGER) FROM alembic_version")
)

# Transactions that read at once: SQLite releases the interpreter's lock while it works.
_READERS = 4


class Database:
    """`yeoul.db` in this folder, which must be on a local disk. Several processes may have it open.

    What one transaction does is a function of its connection, and is run in a thread: SQLite's calls block. Where the
    caller is cancelled, a transaction that has not started never does, and one that has is finished.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "yeoul.db"
        self._file = SqliteFile(self.path, _SCHEMA, "database")
        self._reading: ThreadPoolExecutor | None = None
        self._writing: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        """Creates what does not exist, and brings the tables up to date. Raises UnusableDatabase."""
        self._reading = ThreadPoolExecutor(_READERS, "database-read")
        self._writing = ThreadPoolExecutor(1, "database-write")
        try:
            await asyncio.wrap_future(self._writing.submit(self._file.open))
        except BaseException:
            await self.close()
            raise

    async def __aenter__(self) -> Database:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Waits for the transactions that run or have been queued, and closes the file. Idempotent."""
        for threads in (self._reading, self._writing):
            if threads is not None:
                await asyncio.to_thread(threads.shutdown)
        self._reading = self._writing = None
        self._file.close()

    async def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns, given a connection that sees the state of one moment. Raises DatabaseUnavailable."""
        return await self._run(self._reading, self._file.read, work, "read")

    async def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What `work` returns, once its changes are on the disk; they are undone where it raises. Writers have their
        turns in the order in which they came. Raises DatabaseUnavailable."""
        return await self._run(self._writing, self._file.write, work, "written")

    async def _run(
        self,
        threads: ThreadPoolExecutor | None,
        transaction: Callable[[], AbstractContextManager[sqlite3.Connection]],
        work: Callable[[sqlite3.Connection], _T],
        what: str,
    ) -> _T:
        if threads is None:
            raise RuntimeError("the database is not open: it is open during the application's lifespan")

        def run() -> _T:
            with transaction() as connection:
                return work(connection)

        running = threads.submit(run)
        result = asyncio.wrap_future(running)
        result.add_done_callback(_retrieve)
        try:
            await asyncio.wait((result,), timeout=BUSY_S)
        except asyncio.CancelledError:
            running.cancel()
            raise
        if running.cancel():
            raise self._file.crowded(what)
        return await result  # it has started, and waits for other processes no longer than BUSY_S


def _retrieve(result: asyncio.Future[_T]) -> None:
    """The caller may have been cancelled: an exception that is never awaited is not worth a warning."""
    if not result.cancelled():
        result.exception()
