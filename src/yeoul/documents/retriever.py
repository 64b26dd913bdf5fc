"""Passages that answer a question: one Protocol, and documents in SQLite behind it."""

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

# Searches at once. SQLite lets go of the interpreter's lock while it works, so each can use a core; more would wait.
_THREADS = 4


class Retriever(Protocol):
    """Finds passages of documents."""

    async def check(self, collection: str | None) -> None:
        """Whether there is such a collection. Raises UnknownCollection, which names those that there are, and
        DatabaseUnavailable."""
        ...

    async def search(self, question: str, top_k: int = 4, collection: str | None = None) -> Sequence[Passage]:
        """The passages that fit the question best, best first, at most `top_k`; an empty list where none fits.

        Any text is a legal question. Without a collection it looks where its owner would have it look. Raises
        UnknownCollection, DatabaseUnavailable.
        """
        ...

    async def close(self) -> None:
        """Lets go of files and threads. Idempotent."""
        ...


class SqliteRetriever:
    """A `Library` for an event loop: it is opened, searched and closed in threads of its own.

    `prepare` is called with the library once, in a thread, before anything is searched. With `async with` that begins
    at once, and nothing waits for it but questions; where opening fails, each question tries again.
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
        # Its threads are waited for elsewhere than in the loop, and what they do is bounded.
        threads, self._threads = self._threads, ThreadPoolExecutor(_THREADS, "documents")
        library, self._library = self._library, None
        await asyncio.to_thread(threads.shutdown, cancel_futures=True)
        if library is not None and not library.cancelled() and library.exception() is None:
            library.result().close()

    async def _run(self, work: Callable[[Library], _T]) -> _T:
        # The opening is shared: a caller that is cancelled while waiting must not cancel it for the others.
        try:
            library = await asyncio.shield(asyncio.wrap_future(self._opened()))
        except UnusableDatabase as error:
            raise DatabaseUnavailable("the documents cannot be used: why is in the server's log") from error
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
            # What is there can be searched all the same.
            logger.exception("%r could not be prepared", library)
        return library
