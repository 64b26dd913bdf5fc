"""The application's database: one SQLite file that any number of requests read while one writes."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ..errors import DatabaseUnavailable, UnusableDatabase
from ..observe import logger
from ..sse import json_data
from .migrate import bring_up_to_date

__all__ = ["Database"]

# Seconds that a request waits for a connection, for the writers of this process before it, and for those of others.
_BUSY_S = 5.0

# Seconds between two looks at whether it is this process's turn to start.
_LOOK_S = 0.01

# Each is a thread, and a reader more at the same time.
_CONNECTIONS = 5

# "Yeou" in the file's header (PRAGMA application_id): tells our files from other programs'.
_APPLICATION_ID = 0x59656F75

# Primary result codes that are nobody's bug (https://sqlite.org/rescode.html), and what to say of them.
_TROUBLE = {
    sqlite3.SQLITE_BUSY: "others are writing to it, and do not come to an end",
    sqlite3.SQLITE_LOCKED: "others are writing to it, and do not come to an end",
    sqlite3.SQLITE_FULL: "its disk is full",
    sqlite3.SQLITE_IOERR: "its disk does not read or write",
    sqlite3.SQLITE_READONLY: "its file may not be written",
    sqlite3.SQLITE_PERM: "its file may not be written",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_CORRUPT: "its file is damaged",
    sqlite3.SQLITE_NOTADB: "its file is damaged, or no SQLite database",
}


class Database:
    """`yeoul.db` in this folder, which must be on a local disk. Several processes may have it open."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "yeoul.db"
        self._engine: AsyncEngine | None = None
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Makes what is missing, and brings the tables up to date. Raises UnusableDatabase."""
        _make_folder(self.path.parent)
        self._engine = _engine(self.path)
        try:
            # Where a file cannot be opened aiosqlite leaves a thread behind, which speaks up when the loop is gone.
            sqlite3.connect(self.path).close()
            async with _alone_in(self.path.parent):
                async with self._engine.execution_options(writes=True).begin() as connection:
                    await connection.run_sync(self._claim)
                    await connection.run_sync(bring_up_to_date)
                await self._engine.dispose()
                async with self._engine.connect():
                    pass  # prepared as one of ours now
        except (sqlite3.Error, DBAPIError) as error:
            await self.close()
            raise UnusableDatabase(
                f"the database {self.path} cannot be used: {_trouble(error) or _original(error)}; "
                "put that right, or set YEOUL_DATA_DIR to another folder"
            ) from error
        except BaseException:
            await self.close()
            raise

    async def __aenter__(self) -> Database:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all connections; the last one writes the log back into the file."""
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection that sees the state of one moment. Raises DatabaseUnavailable."""
        with _mapped(self.path, "read"):
            async with self._opened().begin() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose changes are on the disk once the block is left, and undone where it raises.

        Writers of one process take turns here, because SQLite's own way of waiting is to try again and again, in no
        order. Raises DatabaseUnavailable.
        """
        with _mapped(self.path, "written"):
            async with asyncio.timeout(_BUSY_S):
                await self._writing.acquire()
            try:
                async with self._opened().execution_options(writes=True).begin() as connection:
                    yield connection
            finally:
                self._writing.release()

    def _opened(self) -> AsyncEngine:
        if self._engine is None:
            raise RuntimeError("the database is not open: it is while the application's lifespan lasts")
        return self._engine

    def _claim(self, connection: Connection) -> None:
        """Marks a new file as ours, and refuses one of another program."""
        owner = connection.exec_driver_sql("PRAGMA application_id").scalar_one()
        if owner == _APPLICATION_ID:
            return
        if owner != 0 or connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar_one():
            raise UnusableDatabase(
                f"{self.path} is the database of another program: set YEOUL_DATA_DIR to another folder"
            )
        connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")


@contextmanager
def _mapped(path: Path, what: str) -> Iterator[None]:
    """Foreign errors become ours where they are the machine's fault; a wrong statement stays what it is."""
    try:
        yield
    except (sqlite3.Error, DBAPIError, PoolTimeout, TimeoutError) as error:
        waited = isinstance(error, PoolTimeout | TimeoutError)
        why = "too many are waiting for it" if waited else _trouble(error)
        if why is None:
            raise
        # The path is for whoever runs the server, not for whoever asks it.
        logger.error("%s cannot be %s: %s (%s)", path, what, why, _original(error))
        raise DatabaseUnavailable(f"the database cannot be {what} at the moment: {why}") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UnusableDatabase(
            f"the folder {folder} for the database cannot be made: {error.strerror}; "
            "set YEOUL_DATA_DIR to a folder that this user may write to"
        ) from error


@asynccontextmanager
async def _alone_in(folder: Path) -> AsyncIterator[None]:
    """One process after the other: SQLite does not wait where two turn a new file's log on at once."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        deadline = asyncio.get_running_loop().time() + _BUSY_S
        while not _locked(lock):
            if asyncio.get_running_loop().time() > deadline:
                raise UnusableDatabase(f"another server is starting in {folder}, and does not come to an end")
            await asyncio.sleep(_LOOK_S)
        yield
    finally:
        os.close(lock)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=_BUSY_S,
        json_serializer=json_data,
        json_deserializer=json.loads,
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare(connection: Any, record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: Python's driver would not before a CREATE
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1_000)}")
    cursor.execute("PRAGMA application_id")
    if cursor.fetchone() == (_APPLICATION_ID,):  # what follows is written into the file
        cursor.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the writer, nor it for them
    cursor.execute("PRAGMA synchronous = FULL")  # what was acknowledged is there after a power cut too
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A transaction that began as a reader and then writes can be refused without waiting: writers say so at once.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _original(error: BaseException | None) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


def _trouble(error: BaseException) -> str | None:
    code = getattr(_original(error), "sqlite_errorcode", None)
    return None if code is None else _TROUBLE.get(code & 0xFF)
