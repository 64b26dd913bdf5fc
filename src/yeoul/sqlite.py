"""SQLite files of our own: who may open them, their tables, their errors. Used by threads; no event loop here."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import ClassVar

from .errors import DatabaseUnavailable, UnusableDatabase
from .observe import logger

__all__ = ["BUSY_S", "FileLock", "Schema", "SqliteFile"]

# Seconds that a writer waits for the writers before it, of this process and of others, and a start for another start.
BUSY_S = 5.0

# Seconds between two attempts to lock the folder at the start.
_RETRY_S = 0.01

# Primary result codes that no change to the code would help (https://sqlite.org/rescode.html).
_TROUBLE = {
    sqlite3.SQLITE_BUSY: "another program is writing to it and does not finish",
    sqlite3.SQLITE_LOCKED: "another program is writing to it and does not finish",
    sqlite3.SQLITE_FULL: "its disk is full",
    sqlite3.SQLITE_IOERR: "its disk cannot be read or written",
    sqlite3.SQLITE_READONLY: "its file is read-only",
    sqlite3.SQLITE_PERM: "its file is read-only",
    sqlite3.SQLITE_CANTOPEN: "its file cannot be opened",
    sqlite3.SQLITE_CORRUPT: "its file is damaged",
    sqlite3.SQLITE_NOTADB: "its file is damaged, or is not a SQLite database",
}

# What an operator can do. The server then continues by itself.
_ADVICE = {
    sqlite3.SQLITE_BUSY: "stop that program",
    sqlite3.SQLITE_LOCKED: "stop that program",
    sqlite3.SQLITE_FULL: "make room on it",
    sqlite3.SQLITE_IOERR: "check that disk, and the room on it",
    sqlite3.SQLITE_READONLY: "let the server write to it",
    sqlite3.SQLITE_PERM: "let the server write to it",
    sqlite3.SQLITE_CANTOPEN: "let the server open it",
    sqlite3.SQLITE_CORRUPT: "stop the server and replace the file",
    sqlite3.SQLITE_NOTADB: "stop the server and replace the file",
}

_CROWDED = "too many requests are waiting for it"

_HINT = "set YEOUL_DATA_DIR to another folder"

# Bytes that the log keeps on the disk after a time when it had to be longer.
_LOG_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Schema:
    """The tables of a file: script number n brings them from version n - 1 to version n (`PRAGMA user_version`).
    `application_id`: four bytes in the file's header that mark it as ours. `previous`: a table that files from before
    the use of `user_version` have, and the SQL that answers with their version."""

    application_id: int
    scripts: Sequence[str]
    previous: tuple[str, str] | None = None

    @classmethod
    def of(cls, package: str, application_id: int, previous: tuple[str, str] | None = None) -> Schema:
        """The scripts `schema/0001-….sql`, `0002-….sql`, … of a package."""
        found = sorted(files(package).joinpath("schema").iterdir(), key=lambda script: script.name)
        scripts = [script.read_text("utf-8") for script in found if script.name.endswith(".sql")]
        return cls(application_id, scripts, previous)

    @property
    def version(self) -> int:
        return len(self.scripts)


class SqliteFile:
    """One file, for any number of threads and processes: many read while one writes.

    `name` is what error messages call it, `hint` what they advise where the file cannot be used. `durable`: a write
    that has returned survives a power cut; without it the last ones may be undone by one, but a crash of the process
    undoes none. `incremental_vacuum`: `shrink` gives what has become free back to the file system.
    """

    def __init__(
        self,
        path: Path,
        schema: Schema,
        name: str,
        *,
        durable: bool = True,
        hint: str = _HINT,
        incremental_vacuum: bool = False,
    ) -> None:
        self.path = path
        self._hint = hint
        self._incremental_vacuum = incremental_vacuum
        self._synced = durable  # what the writer's connection is set to
        self._schema = schema
        self._name = name
        self._durable = durable
        self._writing = Lock()
        self._writer: sqlite3.Connection | None = None
        self._readers: list[sqlite3.Connection] = []

    def open(self) -> None:
        """Creates the folder, the file and the tables where they do not exist, and brings the tables up to date.

        Raises UnusableDatabase, which says what to do.
        """
        self._make_folder()
        try:
            with _locked(self.path.parent), closing(self._connect()) as connection:
                if self._incremental_vacuum:
                    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only before the first table
                self._bring_up_to_date(connection)
                connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
            self._writer = self._connect()
            self._synced = self._durable
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Closes all connections; the last one writes the log back into the file. No read or write may be running."""
        writer, self._writer = self._writer, None
        for connection in self._readers:
            connection.close()
        self._readers.clear()
        if writer is not None:
            writer.close()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees the state of one moment, for one thread. As many are kept as were ever needed at once.

        Raises DatabaseUnavailable.
        """
        with self._mapped("read"):
            self._opened()
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = self._connect()
            try:
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                connection.close()
                raise
            self._readers.append(connection)

    @contextmanager
    def write(self, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are committed when the block ends, and undone where it raises. Without `synced` a
        power cut may undo this commit, until the next one that is synced.

        Writers of one process take turns here, because SQLite retries in no order. Raises DatabaseUnavailable.
        """
        with self._mapped("written"):
            connection = self._opened()
            if not self._writing.acquire(timeout=BUSY_S):
                raise TimeoutError
            try:
                self._set_synced(connection, synced and self._durable)
                # IMMEDIATE: a transaction that starts as a reader and then writes can be refused without waiting.
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:  # where the disk is full, SQLite has rolled back already
                        connection.execute("ROLLBACK")
                    raise
            finally:
                self._writing.release()

    def shrink(self, pages: int) -> None:
        """Gives up to so many free pages back to the file system, where at least as many are free. Raises
        DatabaseUnavailable."""
        with self._mapped("written"), self._writing:
            connection = self._opened()
            if _value(connection, "PRAGMA freelist_count") >= pages:
                # As a script: it is a step for each page, and `execute` takes one of a statement without columns.
                connection.executescript(f"PRAGMA incremental_vacuum({pages:d})")

    def __repr__(self) -> str:
        return f"<SqliteFile {self.path}>"

    def _set_synced(self, connection: sqlite3.Connection, synced: bool) -> None:
        if synced is not self._synced:
            connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            self._synced = synced

    def _opened(self) -> sqlite3.Connection:
        if self._writer is None:
            raise RuntimeError(f"the {self._name} is not open: it is open during the application's lifespan")
        return self._writer

    def _connect(self) -> sqlite3.Connection:
        # Passed from thread to thread, used by one at a time. We say BEGIN ourselves: the module would not before a
        # CREATE.
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_folder(self) -> None:
        folder = self.path.parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UnusableDatabase(
                f"the folder {folder} for the {self._name} cannot be created: {error.strerror}; "
                "set YEOUL_DATA_DIR to a folder that this user may write to"
            ) from error

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        """In one transaction: a start that is killed leaves no table half made."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            version = self._version(connection)
            for script in self._schema.scripts[version:]:
                for statement in _statements(script):
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {self._schema.application_id}")
            connection.execute(f"PRAGMA user_version = {self._schema.version}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _version(self, connection: sqlite3.Connection) -> int:
        """Raises UnusableDatabase for a file of another program, or of a newer version."""
        owner = _value(connection, "PRAGMA application_id")
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if owner != self._schema.application_id:
            if owner or tables:
                raise UnusableDatabase(f"{self.path} is the database of another program: move it away, or {self._hint}")
            return 0
        version = _value(connection, "PRAGMA user_version")
        if version == 0 and self._schema.previous is not None and self._schema.previous[0] in tables:
            version = _value(connection, self._schema.previous[1])
            connection.execute(f"DROP TABLE {self._schema.previous[0]}")
        if version > self._schema.version:
            raise UnusableDatabase(
                f"{self.path} was written by a newer version of Yeoul (its tables have version {version}, not "
                f"{self._schema.version}): install that version, or {self._hint}"
            )
        return version

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        """Errors of the machine become DatabaseUnavailable; a wrong statement stays what it is."""
        try:
            yield
        except (sqlite3.Error, TimeoutError) as error:
            why = _CROWDED if isinstance(error, TimeoutError) else _trouble(error)
            if why is None:
                raise
            advice = _ADVICE.get(_code(error))
            raise self._unavailable(what, f"{why}; {advice}" if advice else why, error) from error

    def crowded(self, what: str) -> DatabaseUnavailable:
        """The error where a request has waited for its turn for too long. `what`: "read" or "written"."""
        return self._unavailable(what, _CROWDED)

    def _unavailable(self, what: str, why: str, error: Exception | None = None) -> DatabaseUnavailable:
        # The path and SQLite's own words are for the operator, not for clients.
        logger.error("%s cannot be %s: %s (%s)", self.path, what, why, error or "no connection became free")
        return DatabaseUnavailable(f"the {self._name} cannot be {what} at the moment: {why}")

    def _unusable(self, error: sqlite3.Error | OSError) -> UnusableDatabase:
        why = _trouble(error) or (isinstance(error, OSError) and error.strerror) or str(error)
        hint = f"correct that, or {self._hint}"
        if "fts5" in why:
            hint = "this Python's SQLite is built without FTS5: use another Python"
        return UnusableDatabase(f"the {self._name} {self.path} cannot be used: {why}; {hint}")


class FileLock:
    """Keeps a file for one process: `acquire` until `release`, or until the process ends, however it ends.

    The lock is on a file of its own, `<file>.lock`, which also has the id of the process: SQLite's locks on the file
    itself are lost when any other descriptor of it is closed (POSIX). A process that is forked does not inherit it.
    """

    _held: ClassVar[dict[tuple[int, int], int]] = {}  # by which process: POSIX would let one have it twice

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None
        self._key = (0, 0)

    def acquire(self) -> None:
        """Raises UnusableDatabase where another broker has it, or it cannot be created."""
        lock = self.path.with_name(f"{self.path.name}.lock")
        try:
            lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if lock.exists() and FileLock._held.get(_identity(os.stat(lock))) == os.getpid():
                raise self._in_use(os.getpid())  # before it is opened: closing it again would give up the lock
            fd = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise UnusableDatabase(
                f"{lock} cannot be created: {error.strerror}; use a folder that this user may write to"
            ) from error
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise self._in_use(holder) from None
        self._fd, self._key = fd, _identity(os.fstat(fd))
        FileLock._held[self._key] = os.getpid()
        with suppress(OSError):  # a full disk: then the message for others has no process id
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        if self._fd is not None:
            FileLock._held.pop(self._key, None)
            os.close(self._fd)
            self._fd = None

    def _in_use(self, process: object) -> UnusableDatabase:
        return UnusableDatabase(
            f"{self.path} is in use by another Yeoul server (process {process}): one process at a time may use a "
            "SQLite broker. Stop that server, or give this one another file; several workers that share events need "
            "Redis"
        )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time: SQLite does not wait where two switch a new file to its log at once."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + BUSY_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UnusableDatabase(f"another server is starting in {folder} and does not finish") from None
                time.sleep(_RETRY_S)
        yield
    finally:
        os.close(lock)


def _statements(script: str) -> Iterator[str]:
    """`executescript` would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _value(connection: sqlite3.Connection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row else 0


def _trouble(error: BaseException) -> str | None:
    return _TROUBLE.get(_code(error))


def _code(error: BaseException) -> int:
    """The primary result code, 0 where it is no error of SQLite's."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
