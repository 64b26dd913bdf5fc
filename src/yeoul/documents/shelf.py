"""The SQLite file that documents are kept in: its tables, who may use it, and what its errors mean."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import DatabaseUnavailable, UnusableDatabase
from ..observe import logger
from .words import TOKENIZER

__all__ = ["connect", "mapped", "open_shelf"]

# "YeoD" in the file's header (PRAGMA application_id): tells our files from other programs'.
_APPLICATION_ID = 0x59656F44
# PRAGMA user_version: of the tables below. Raised with them, and with what `words` makes of a text.
_VERSION = 1

# Seconds that one process waits for another that writes.
_BUSY_S = 10.0

_TABLES = f"""
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    title TEXT NOT NULL,
    source TEXT NOT NULL,
    digest BLOB NOT NULL,
    passages INTEGER NOT NULL,
    added REAL NOT NULL,
    UNIQUE (collection, digest)
) STRICT;
CREATE TABLE passages (
    id INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents (id),
    position INTEGER NOT NULL,
    heading TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX passages_of ON passages (document);
CREATE VIRTUAL TABLE terms USING fts5 (title, heading, text, tokenize = '{TOKENIZER}');
"""

_MOVE = "set YEOUL_DATA_DIR to another folder"


def connect(path: Path) -> sqlite3.Connection:
    # Handed from thread to thread, used by one at a time.
    connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def open_shelf(path: Path) -> sqlite3.Connection:
    """A connection that may write; folder, file and tables are made where there are none. Raises UnusableDatabase."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = connect(path)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from error
    try:
        connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for the writer, nor it for them
        connection.execute("PRAGMA synchronous = NORMAL")  # documents can be added again
        if not _is_ours(connection, path):
            connection.execute("BEGIN IMMEDIATE")
            if not _is_ours(connection, path):  # another process may have been first
                _make_tables(connection)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        connection.close()
        raise _unusable(path, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def mapped(path: Path, what: str) -> Iterator[None]:
    """SQLite's errors as DatabaseUnavailable. The path is for whoever runs the server, not for whoever asks it."""
    try:
        yield
    except sqlite3.Error as error:
        logger.error("%s cannot be %s: %s", path, what, error)
        raise DatabaseUnavailable(f"the documents cannot be {what} at the moment: {error}") from error


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the tables are there. Raises UnusableDatabase for a file of another program, or of a newer version."""
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if owner != _APPLICATION_ID:
        if owner or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise UnusableDatabase(f"{path} is the database of another program: move it away, or {_MOVE}")
        return False
    if version > _VERSION:
        raise UnusableDatabase(
            f"{path} comes from a newer version of Yeoul (its tables have form {version}, not {_VERSION}): "
            f"install that version, or {_MOVE}"
        )
    return True


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _TABLES.split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def _unusable(path: Path, error: OSError | sqlite3.Error) -> UnusableDatabase:
    why = (isinstance(error, OSError) and error.strerror) or str(error)
    hint = f"make {path.parent} a folder that this user may write to, or {_MOVE}"
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        hint = f"move it away, or {_MOVE}"
    elif "fts5" in why:
        hint = "this Python's SQLite is built without FTS5: use another Python"
    return UnusableDatabase(f"the documents in {path} cannot be used: {why}; {hint}")
