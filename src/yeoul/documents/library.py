"""Documents in one SQLite file, found by their words: FTS5 and bm25. Blocking; `retriever` takes it to a thread."""

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

# Where documents go that are added without a choice, and where Yeoul's own documentation is.
COLLECTION = "documents"
OWN = "yeoul"

# What a word counts in a title and in a heading, where it counts 1 in the text: they say what a passage is about.
_TITLE_WEIGHT, _HEADING_WEIGHT = 4.0, 2.0

# Best passages by bm25 that are looked at for each one that is wanted, and at most: those with too few keywords go.
_CANDIDATES, _MOST_CANDIDATES = 8, 80

_NAME = re.compile(r"[\w][\w.-]{0,63}")


class Added(StrEnum):
    """What became of a document: `updated` replaces what came from the same source, `unchanged` is there already."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Entry:
    """A document as it is listed. `added`: Unix seconds."""

    id: int
    collection: str
    title: str
    source: str
    digest: bytes
    passages: int
    added: float


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that was found. `score`: higher is better, comparable within one search alone; `position`
    counts the document's passages from 1; `heading` is the way to it within the document."""

    document: int
    title: str
    heading: str
    text: str
    snippet: str
    score: float
    position: int


class Library:
    """The documents of one file, which is made where there is none. Any thread may use it, one writes at a time.

    All methods raise DatabaseUnavailable. The constructor raises UnusableDatabase, which says what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = SqliteFile(path, _SCHEMA, "document index", durable=False)  # documents can be added again
        self._file.open()

    def add(self, document: Document, collection: str = COLLECTION) -> Added:
        """All of the document or nothing. Idempotent: the same bytes are in a collection once.

        Raises ValueError for a collection's name that breaks the rules.
        """
        check_collection(collection)
        with self._file.write() as db:
            before = "SELECT id, digest FROM documents WHERE collection = ? AND source = ?"
            rows = list(db.execute(before, (collection, document.source)))
            if any(digest == document.digest for _, digest in rows):
                return Added.UNCHANGED
            # What the source said until now goes in any case: also where another document already says the same.
            replaced = [id for id, _ in rows]
            _delete(db, replaced)
            same = "SELECT 1 FROM documents WHERE collection = ? AND digest = ?"
            if db.execute(same, (collection, document.digest)).fetchone():
                return Added.UPDATED if replaced else Added.UNCHANGED
            _insert(db, document, collection)
        return Added.UPDATED if replaced else Added.ADDED

    def list(self, collection: str | None = None) -> list[Entry]:
        """All documents, or those of a collection, in the order in which they were added."""
        sql = (
            "SELECT id, collection, title, source, digest, passages, added FROM documents "
            "WHERE :collection IS NULL OR collection = :collection ORDER BY collection, id"
        )
        with self._file.read() as db:
            return [Entry(*row) for row in db.execute(sql, {"collection": collection})]

    def remove(self, which: str, collection: str | None = None) -> Entry:
        """Forgets the document with this id, or with this title or source if it is the only one.

        Raises UnknownDocument.
        """
        entries = self.list(collection)
        found = [entry for entry in entries if which == str(entry.id)]
        found = found or [entry for entry in entries if which.casefold() in (entry.title.casefold(), entry.source)]
        if len(found) != 1:
            which = repr(which[:80])
            hint = ", ".join(f"{entry.id} ({entry.collection}: {entry.source})" for entry in found[:10])
            raise UnknownDocument(
                f"{which} is the title of several documents, name one by its id: {hint}"
                if found
                else f"no document {which}: name it by its id or by its whole title"
            )
        with self._file.write() as db:
            _delete(db, [found[0].id])
        return found[0]

    def check(self, collection: str | None) -> None:
        """Whether there is such a collection. Raises UnknownCollection, which names those that there are."""
        with self._file.read() as db:
            _shelves(db, collection)

    def search(self, question: str, top_k: int, collection: str | None = None) -> Sequence[Passage]:
        """The passages that have enough of the question's words, best first, at most `top_k`. Without a collection: of
        all that were added, or where there are none, of Yeoul's own documentation. Any text is a legal question.

        Raises UnknownCollection.
        """
        asked = keywords(question)
        with self._file.read() as db:
            shelves = _shelves(db, collection)
            if not asked or not shelves:
                return []
            rows = _candidates(db, asked, shelves, min(top_k * _CANDIDATES, _MOST_CANDIDATES))
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
        raise ValueError(f"a collection's name has 1 to 64 letters, digits, '.', '-' and '_', not {name[:80]!r}")


def _shelves(db: sqlite3.Connection, collection: str | None) -> Sequence[str]:
    """The collections to search."""
    names = [name for (name,) in db.execute("SELECT DISTINCT collection FROM documents ORDER BY collection")]
    if collection is None:
        return [name for name in names if name != OWN] or names
    if collection not in names:
        there = f"use {' or '.join(names)}" if names else "there are none: `yeoul docs add PATH` makes one"
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
    db: sqlite3.Connection, asked: Sequence[Keyword], shelves: Sequence[str], limit: int
) -> list[tuple[int, int, str, str, str, int, float]]:
    sql = f"""
        SELECT passages.id, documents.id, documents.title, heading, passages.text, position, rank FROM (
            SELECT terms.rowid AS id, bm25(terms, {_TITLE_WEIGHT}, {_HEADING_WEIGHT}, 1.0) AS rank
            FROM terms WHERE terms MATCH ?
        ) AS hit JOIN passages ON passages.id = hit.id JOIN documents ON documents.id = passages.document
        WHERE documents.collection IN ({", ".join("?" * len(shelves))}) ORDER BY rank LIMIT ?
    """  # noqa: S608 (numbers of ours, and as many question marks as there are collections)
    query = " OR ".join(keyword.query for keyword in asked)
    return db.execute(sql, (query, *shelves, limit)).fetchall()


def _score(rank: float, share: float) -> float:
    """bm25 (which FTS5 gives below 0, and near 0 among few passages) by the share of the keywords that were found."""
    return (1.0 - rank) * share


def _count_keywords(db: sqlite3.Connection, asked: Sequence[Keyword], passages: Sequence[int]) -> dict[int, int]:
    """How many of the keywords each passage has."""
    found = dict.fromkeys(passages, 0)
    those = ", ".join(map(str, passages))
    for keyword in asked:
        sql = f"SELECT rowid FROM terms WHERE terms MATCH ? AND rowid IN ({those})"  # noqa: S608 (row numbers)
        for (id,) in db.execute(sql, (keyword.stem,)):
            found[id] += 1
    return found
