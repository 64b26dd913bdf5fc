"""An application's own source of text: read when asked for, closed on every way out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from yeoul.llm.items import Delta, Finish, Item, Note
from yeoul.llm.sources import Texts


class Stream:
    """As an SDK's: `close` instead of `aclose`, awaited or not."""

    def __init__(self, *items: Any) -> None:
        self.items = list(items)
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if not self.items:
            raise StopAsyncIteration
        return self.items.pop(0)

    async def close(self) -> None:
        self.closed += 1


class SyncClose(Stream):
    def close(self) -> None:  # type: ignore[override]
        self.closed += 1


async def collect(texts: Texts[Any]) -> list[Item]:
    return [item async for item in texts]


@pytest.mark.parametrize("form", ["iterator", "function", "coroutine function"])
async def test_each_form_of_source_is_its_texts_and_a_finish(form: str) -> None:
    stream = Stream("a", "", "b")

    async def later() -> Stream:
        return stream

    source: Any = {"iterator": stream, "function": lambda: stream, "coroutine function": later}[form]
    texts = Texts(source)
    assert await collect(texts) == [Delta("a"), Delta("b"), Finish()]
    await texts.aclose()
    assert stream.closed == 1


async def test_the_stream_of_a_provider_is_handed_on_up_to_its_finish() -> None:
    items = [Note("status", {"stage": "thinking"}), Delta("a"), Delta("b"), Finish("length")]
    assert await collect(Texts(Stream(*items, Delta("too late")))) == items


async def test_deltas_without_a_finish_are_no_whole_answer() -> None:
    assert await collect(Texts(Stream(Delta("a")))) == [Delta("a")]


async def test_notes_beside_texts_leave_the_finish_to_the_end() -> None:
    note = Note("status", {"stage": "thinking"})
    assert await collect(Texts(Stream(note, "a"))) == [note, Delta("a"), Finish()]


async def test_text_picks_what_is_text() -> None:
    texts = Texts(Stream({"t": "a"}, {"t": None}, {}), lambda chunk: chunk.get("t"))
    assert await collect(texts) == [Delta("a"), Finish()]


async def test_a_function_is_not_called_before_the_first_step() -> None:
    def never() -> AsyncIterator[str]:
        raise AssertionError

    await Texts(never).aclose()


@pytest.mark.parametrize("kind", [Stream, SyncClose])
@pytest.mark.parametrize("steps", [0, 1])
async def test_a_source_is_closed_once_wherever_reading_stood(kind: type[Stream], steps: int) -> None:
    stream = kind("a", "b")
    texts = Texts(stream)
    for _ in range(steps):
        await anext(texts)
    await texts.aclose()
    await texts.aclose()
    assert stream.closed == 1


async def test_a_generator_is_closed_in_mid_stream() -> None:
    closed = False

    async def words() -> AsyncIterator[str]:
        nonlocal closed
        try:
            yield "a"
            yield "b"
        finally:
            closed = True

    texts = Texts(words)
    await anext(texts)
    await texts.aclose()
    assert closed


async def test_an_item_that_is_no_text_is_refused_with_what_to_do() -> None:
    with pytest.raises(TypeError, match="the source yields int, not str: pass text="):
        await collect(Texts(Stream(5)))


async def test_a_source_without_a_close_is_let_go_all_the_same() -> None:
    class Bare:
        def __aiter__(self) -> AsyncIterator[str]:
            return self

        async def __anext__(self) -> str:
            raise StopAsyncIteration

    texts: Texts[str] = Texts(Bare())
    assert await collect(texts) == [Finish()]
    await texts.aclose()
