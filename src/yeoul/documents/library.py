"""An index of documents in one SQLite file, searched by words with FTS5 and bm25.

Its calls block: `retriever` runs them in threads.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ..errors import UnknownCollection, UnknownDocument
from ..sqlite import Schema, SqliteFile
from .document import Document
from .questions import Keyword, enough, keywords, snippet
from .words import index_text

__all__ = ["COLLECTION", "OWN", "Added", "Entry", "Library", "Passage", "check_collection"]

_SCHEMA = Schema.of(__package__, 0x59656F44)  # "YeoD"

# The default collection, and that of Yeoul's own documentation.
COLLECTION = "documents"
OWN = "yeoul"

# The weight of a word in a title and in a heading; in the text it is 1.
_TITLE_WEIGHT, _HEADING_WEIGHT = 4.0, 2.0

# Candidates by bm25 per requested passage, and at most: those with too few keywords are dropped.
_CANDIDATES, _MOST_CANDIDATES = 8, 80

_NAME = re.compile(r"[\w][\w.-]{0,63}")


class Added(StrEnum):
    """The outcome of `Library.add`. `updated`: replaced an older document of the same source; `unchanged`: exists."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Entry:
    """A document in a list. `added`: Unix seconds."""

    id: int
    collection: str
    title: str
    source: str
    digest: bytes
    passages: int
    added: float


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that was found. `score`: higher is better, comparable within one search only; `position`: its number in
    the document, from 1; `heading`: the path of headings above it."""

    document: int
    title: str
    heading: str
    text: str
    snippet: str
    score: float
    position: int


class Library:
    """The documents of one file, which is created where it does not exist. Any thread may use it; one writes at a time.

    All methods raise DatabaseUnavailable. The constructor raises UnusableDatabase, which says what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SqliteFile(path, _SCHEMA, "document index", durable=False)  # documents can be added again
        self._file.open()

    def add(self, document: Document, collection: str = COLLECTION) -> Added:
        """Adds the whole document or, where it fails, nothing. Idempotent: a collection has the same bytes once.

        Raises ValueError for an invalid name of a collection.
        """
        check_collection(collection)
        with self._file.write() as db:
            before = "SELECT id, digest FROM documents WHERE collection = ? AND source = ?"
            rows = list(db.execute(before, (collection, document.source)))
            if any(digest == document.digest for _, digest in rows):
                return Added.UNCHANGED
            # The older text of the source is removed even if another document has the same bytes as the new one.
            replaced = [id for id, _ in rows]
            _delete(db, replaced)
            same = "SELECT 1 FROM documents WHERE collection = ? AND digest = ?"
            if db.execute(same, (collection, document.digest)).fetchone():
                return Added.UPDATED if replaced else Added.UNCHANGED
            _insert(db, document, collection)
        return Added.UPDATED if replaced else Added.ADDED

    def list(self, collection: str | None = None) -> list[Entry]:
        """All documents, or those of a collection, in the order of addition."""
        sql = (
            "SELECT id, collection, title, source, digest, passages, added FROM documents "
            "WHERE :collection IS NULL OR collection = :collection ORDER BY collection, id"
        )
        with self._file.read() as db:
            return [Entry(*row) for row in db.execute(sql, {"collection": collection})]

    def remove(self, which: str, collection: str | None = None) -> Entry:
        """Removes the document with this id, or with this title or source if only one has it.

        Raises UnknownDocument.
        """
        entries = self.list(collection)
        found = [entry for entry in entries if which == str(entry.id)]
        found = found or [entry for entry in entries if which.casefold() in (entry.title.casefold(), entry.source)]
        if len(found) != 1:
            which = repr(which[:80])
            hint = ", ".join(f"{entry.id} ({entry.collection}: {entry.source})" for entry in found[:10])
            raise UnknownDocument(
                f"{which} is the title of several documents: use an id: {hint}"
                if found
                else f"no document {which}: use its id or its whole title"
            )
        with self._file.write() as db:
            _delete(db, [found[0].id])
        return found[0]

    def check(self, collection: str | None) -> None:
        """Checks that the collection exists. Raises UnknownCollection, which names those that exist."""
        with self._file.read() as db:
            _collections(db, collection)

    def search(self, question: str, top_k: int, collection: str | None = None) -> Sequence[Passage]:
        """The passages with enough of the question's keywords, best first, at most `top_k`. Without a collection, all
        that were added are searched, or, if there are none, Yeoul's own documentation. Any text is a valid question.

        Raises UnknownCollection.
        """
        asked = keywords(question)
        with self._file.read() as db:
            names = _collections(db, collection)
            if not asked or not names:
                return []
            rows = _candidates(db, asked, names, min(top_k * _CANDIDATES, _MOST_CANDIDATES))
            found = _count_keywords(db, asked, [row[0] for row in rows])
        passages = [
            Passage(
                document, title, heading, text, snippet(text, asked), _score(rank, found[id] / len(asked)), position
            )
            for id, document, title, heading, text, position, rank in rows
            if enough(found[id], len(asked))
        ]
        return sorted(passages, key=lambda passage: -passage.score)[:top_k]

    def close(self) -> None:
        """Closes all connections. No call may be running."""
        self._file.close()

    def __repr__(self) -> str:
        return f"<Library {self.path}>"


def check_collection(name: str) -> None:
    """Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"invalid collection {name[:80]!r}: a name has 1 to 64 letters, digits, '.', '-' and '_'")


def _collections(db: sqlite3.Connection, collection: str | None) -> Sequence[str]:
    """The collections to search."""
    names = [name for (name,) in db.execute("SELECT DISTINCT collection FROM documents ORDER BY collection")]
    if collection is None:
        return [name for name in names if name != OWN] or names
    if collection not in names:
        there = f"use {' or '.join(names)}" if names else "there are none, `yeoul docs add PATH` creates one"
        raise UnknownCollection(f"no collection {collection[:64]!r}: {there}")
    return [collection]


def _insert(db: sqlite3.Connection, document: Document, collection: str) -> None:
    pieces = document.pieces
    cursor = db.execute(
        "INSERT INTO documents (collection, title, source, digest, passages, added) VALUES (?, ?, ?, ?, ?, ?)",
        (collection, document.title, document.source, document.digest, len(pieces), time.time()),
    )
    title = index_text(document.title)
    for position, piece in enumerate(pieces, 1):
        passage = db.execute(
            "INSERT INTO passages (document, position, heading, text) VALUES (?, ?, ?, ?)",
            (cursor.lastrowid, position, piece.heading, piece.text),
        )
        terms = (passage.lastrowid, title, index_text(piece.heading), index_text(piece.text))
        db.execute("INSERT INTO terms (rowid, title, heading, text) VALUES (?, ?, ?, ?)", terms)


def _delete(db: sqlite3.Connection, documents: Sequence[int]) -> None:
    for id in documents:
        db.execute("DELETE FROM terms WHERE rowid IN (SELECT id FROM passages WHERE document = ?)", (id,))
        db.execute("DELETE FROM passages WHERE document = ?", (id,))
        db.execute("DELETE FROM documents WHERE id = ?", (id,))


def _candidates(
    db: sqlite3.Connection, asked: Sequence[Keyword], names: Sequence[str], limit: int
) -> list[tuple[int, int, str, str, str, int, float]]:
    sql = f"""
        SELECT passages.id, documents.id, documents.title, heading, passages.text, position, rank FROM (
            SELECT terms.rowid AS id, bm25(terms, {_TITLE_WEIGHT}, {_HEADING_WEIGHT}, 1.0) AS rank
            FROM terms WHERE terms MATCH ?
        ) AS hit JOIN passages ON passages.id = hit.id JOIN documents ON documents.id = passages.document
        WHERE documents.collection IN ({", ".join("?" * len(names))}) ORDER BY rank LIMIT ?
    """  # noqa: S608 (our numbers, and one question mark per collection)
    query = " OR ".join(keyword.query for keyword in asked)
    return db.execute(sql, (query, *names, limit)).fetchall()


def _score(rank: float, share: float) -> float:
    """bm25 (negative in FTS5, and near 0 among few passages) weighted by the share of the keywords found."""
    return (1.0 - rank) * share


def _count_keywords(db: sqlite3.Connection, asked: Sequence[Keyword], passages: Sequence[int]) -> dict[int, int]:
    """The number of keywords in each passage."""
    found = dict.fromkeys(passages, 0)
    those = ", ".join(map(str, passages))
    for keyword in asked:
        sql = f"SELECT rowid FROM terms WHERE terms MATCH ? AND rowid IN ({those})"  # noqa: S608 (row numbers)
        for (id,) in db.execute(sql, (keyword.stem,)):
            found[id] += 1
    return found
