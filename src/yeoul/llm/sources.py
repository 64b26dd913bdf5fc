"""An application's own source of text, as a generation reads it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from ..client.refusal import readable
from ..sse import Event
from .items import Delta, Finish, Item, Reasoning, Refusal, ToolCall
from .parser import AnswerParser, ChatParser, ResponsesParser

__all__ = ["Source", "Texts"]

_Chunk = TypeVar("_Chunk")

# An async iterator, or a function that makes one, awaited where need be.
Source = AsyncIterator[_Chunk] | Callable[[], AsyncIterator[_Chunk] | Awaitable[AsyncIterator[_Chunk]]]


class Texts(Generic[_Chunk]):
    """An async iterator over the items of an answer: the source's texts, then a `Finish`. `text` returns the text of a
    chunk.

    Without `text` the source may also yield items: a `Note`, a `ToolResult` or a source between its texts; or what a
    provider's stream yields (`Delta`, `Reasoning`, `Refusal`, `ToolCall`), and then it must yield the `Finish` itself,
    since an answer without one is incomplete. Or it yields the chunks of a stream of the OpenAI SDK (Chat Completions
    or Responses): they are parsed as a server's events are, so that an answer without a finish reason is incomplete.

    A function is called, and a source consumed, at the first step and not before. `aclose` closes the source even if
    there was no step: a stream of an SDK holds its connection from the moment it is created.

    Raises TypeError for a source that is neither an async iterator nor a function.
    """

    def __init__(self, source: Source[_Chunk], text: Callable[[_Chunk], str | None] | None = None) -> None:
        if not callable(source):
            _check_async(source)
        self._make = source if callable(source) else None
        self._chunks: Any = None if callable(source) else source
        self._text = text
        self._reading = self._read()

    def __aiter__(self) -> Texts[_Chunk]:
        return self

    async def __anext__(self) -> Item:
        return await anext(self._reading)

    async def aclose(self) -> None:
        try:
            await self._reading.aclose()
        finally:
            await self._close_source()

    async def _read(self) -> AsyncGenerator[Item, None]:
        if self._make is not None:
            made = self._make()
            self._chunks = await made if inspect.isawaitable(made) else made
            _check_async(self._chunks)
        finishes_itself = False
        parser: AnswerParser | None = None
        async for chunk in self._chunks:
            if self._text is None and (parser is not None or _is_sdk_chunk(chunk)):
                parser = parser or _parser_for(chunk)
                for piece in parser.feed(Event(chunk.model_dump_json(exclude_unset=True))):
                    yield piece
                continue
            if self._text is None and isinstance(chunk, Item):
                yield chunk
                if isinstance(chunk, Finish):
                    return
                finishes_itself = finishes_itself or isinstance(chunk, Delta | Reasoning | Refusal | ToolCall)
                continue
            text = self._text(chunk) if self._text is not None else chunk
            if text:
                if not isinstance(text, str):
                    raise TypeError(
                        f"the source yields {type(text).__name__}, not str: pass text=, a function that returns the "
                        "text of each chunk"
                    )
                yield Delta(text)
        if parser is not None:
            for piece in parser.rest():
                yield piece
            yield parser.finish(clean=True)
        elif not finishes_itself:
            yield Finish()

    async def _close_source(self) -> None:
        # Generators have `aclose`, the streams of some SDKs a `close` that may have to be awaited.
        chunks, self._chunks = self._chunks, None
        close = getattr(chunks, "aclose", None) or getattr(chunks, "close", None)
        if close is not None:
            closing = close()
            if inspect.isawaitable(closing):
                await closing


def _check_async(source: object) -> None:
    if not hasattr(source, "__aiter__"):
        raise TypeError(
            f"the source is a {type(source).__name__}, which is not an async iterator: use the asynchronous client of "
            "the SDK (AsyncOpenAI, for example), or an async generator"
        )


def _is_sdk_chunk(chunk: Any) -> bool:
    """Recognised by its attributes, so that the SDK need not be installed."""
    if isinstance(chunk, str) or not hasattr(chunk, "model_dump_json"):
        return False
    return hasattr(chunk, "choices") or str(getattr(chunk, "type", "")).startswith(("response.", "error"))


def _parser_for(chunk: Any) -> AnswerParser:
    kind = ChatParser if hasattr(chunk, "choices") else ResponsesParser
    return kind("the model", lambda text, limit: readable(text, (), limit))
