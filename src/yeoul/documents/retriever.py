"""Retrieval of passages: a Protocol, and its implementation with SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from ..errors import DatabaseUnavailable, UnusableDatabase
from ..observe import logger
from .library import Library, Passage

__all__ = ["Passage", "Retriever", "SqliteRetriever"]

_T = TypeVar("_T")

# Concurrent searches. SQLite releases the interpreter's lock while it works, so each can use a core.
_THREADS = 4


class Retriever(Protocol):
    """Finds passages of documents."""

    async def check(self, collection: str | None) -> None:
        """Checks that the collection exists. Raises UnknownCollection, which names those that exist, and
        DatabaseUnavailable."""
        ...

    async def search(self, question: str, top_k: int = 4, collection: str | None = None) -> Sequence[Passage]:
        """The passages that fit the question best, best first, at most `top_k`; an empty list where none fits.

        Any text is a valid question. Without a collection the implementation chooses where to search. Raises
        UnknownCollection, DatabaseUnavailable.
        """
        ...

    async def close(self) -> None:
        """Closes files and ends threads. Idempotent."""
        ...


class SqliteRetriever:
    """A `Library` for an event loop, opened and searched in threads.

    `prepare` is called once with the library, in a thread, before the first search. `async with` starts that without
    waiting for it; only searches wait. Where opening fails, each search tries again.
    """

    def __init__(self, path: Path, prepare: Callable[[Library], None] | None = None) -> None:
        self._path = path
        self._prepare = prepare
        self._threads = ThreadPoolExecutor(_THREADS, "documents")
        self._library: Future[Library] | None = None

    async def __aenter__(self) -> SqliteRetriever:
        self._opened()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def check(self, collection: str | None) -> None:
        await self._run(lambda library: library.check(collection))

    async def search(self, question: str, top_k: int = 4, collection: str | None = None) -> Sequence[Passage]:
        return await self._run(lambda library: library.search(question, top_k, collection))

    async def close(self) -> None:
        # Waits for the threads outside the event loop; their work is bounded.
        threads, self._threads = self._threads, ThreadPoolExecutor(_THREADS, "documents")
        library, self._library = self._library, None
        await asyncio.to_thread(threads.shutdown, cancel_futures=True)
        if library is not None and not library.cancelled() and library.exception() is None:
            library.result().close()

    async def _run(self, work: Callable[[Library], _T]) -> _T:
        # Opening is shared: a caller that is cancelled must not cancel it for the others.
        try:
            library = await asyncio.shield(asyncio.wrap_future(self._opened()))
        except UnusableDatabase as error:
            raise DatabaseUnavailable("the document index cannot be used: the server's log has the reason") from error
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, library)

    def _opened(self) -> Future[Library]:
        failed = self._library is not None and self._library.done() and self._library.exception() is not None
        if self._library is None or failed:
            self._library = self._threads.submit(self._open)
        return self._library

    def _open(self) -> Library:
        try:
            library = Library(self._path)
        except UnusableDatabase as error:
            logger.error("%s", error)
            raise
        try:
            if self._prepare is not None:
                self._prepare(library)
        except Exception:
            # The documents that are there can still be searched.
            logger.exception("%r could not be prepared", library)
        return library
