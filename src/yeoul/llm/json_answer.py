"""An answer that is one JSON object, taken out of what a model says around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from ..errors import UpstreamError
from .items import Delta, Finish, Item, Refusal
from .json_text import JsonText

__all__ = ["json_answer"]

# How long the end of an answer (its usage, and a connection that can be used again) is waited for, in seconds, once its
# JSON is whole. A model that goes on talking is ended then: its text is thrown away, and costs money and time.
_REST_SECONDS = 1.0


async def json_answer(stream: AsyncGenerator[Item, None], parse: Callable[[str], Any]) -> AsyncGenerator[Item, None]:
    """The texts of the first JSON object in the stream, then a `Finish` with what `parse` makes of it as its `result`.

    The object's last bracket is the proof that it is whole, whatever the stream does after it. Raises what the stream
    raises before that, and what `parse` raises.
    """
    json_text, pieces = JsonText(), list[str]()
    finish: Finish | None = None
    async with aclosing(stream):
        async for item in stream:
            if isinstance(item, Finish):
                finish = item
                break
            if not isinstance(item, Delta | Refusal):
                yield item
                continue
            piece = json_text.feed(item.text)
            if piece:
                pieces.append(piece)
                yield Delta(piece)
            if json_text.over:
                break
        if json_text.over:
            finish = finish or await _finish_of(stream)
            yield Finish("stop", None if finish is None else finish.usage, parse("".join(pieces)))
        elif finish is not None:
            yield Finish(finish.reason, finish.usage, parse("".join(pieces)))


async def _finish_of(stream: AsyncGenerator[Item, None]) -> Finish | None:
    try:
        async with asyncio.timeout(_REST_SECONDS):
            async for item in stream:
                if isinstance(item, Finish):
                    return item
    except (TimeoutError, UpstreamError):
        pass
    return None
