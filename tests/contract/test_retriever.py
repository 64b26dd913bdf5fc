"""What every Retriever keeps to, whatever is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from yeoul.documents.document import read
from yeoul.documents.library import Library
from yeoul.documents.retriever import Retriever, SqliteRetriever
from yeoul.errors import UnknownCollection

SOUP = "# 양파 수프\n\n먼저 양파를 얇게 썰어 볶습니다.\n\n## 마무리\n\n치즈를 올려 굽습니다."
STREAMS = "# Streams\n\nA heartbeat is sent every fifteen seconds.\n\n## Reconnecting\n\nClients send the last id."
SALAD = "# Salad\n\nOnions are optional."
SHELVES = {"kitchen": {"soup.md": SOUP, "salad.md": SALAD}, "wire": {"streams.md": STREAMS}}

Shelves = Mapping[str, Mapping[str, str]]
Factory = Callable[[Path, Shelves], AbstractAsyncContextManager[Retriever]]


@asynccontextmanager
async def sqlite(folder: Path, shelves: Shelves) -> AsyncIterator[Retriever]:
    def fill(library: Library) -> None:
        for collection, texts in shelves.items():
            for name, text in texts.items():
                library.add(read(text.encode(), name), collection)

    async with SqliteRetriever(folder / "documents.db", fill) as retriever:
        yield retriever


@pytest.fixture(params=[sqlite])
async def retriever(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Retriever]:
    factory: Factory = request.param
    async with factory(tmp_path, SHELVES) as made:
        yield made


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("양파", "양파 수프"),
        ("양파로 뭘 만들 수 있나요?", "양파 수프"),
        ("치즈는 언제 올려요?", "양파 수프"),
        ("How often is a heartbeat sent?", "Streams"),
        ("RECONNECT", "Streams"),
        ("onion", "Salad"),
    ],
)
async def test_the_best_passage_answers_the_question(retriever: Retriever, question: str, title: str) -> None:
    best = (await retriever.search(question))[0]
    assert best.title == title
    assert best.snippet in " ".join(best.text.split())
    assert best.document > 0


async def test_passages_come_best_first_and_not_more_than_wanted(retriever: Retriever) -> None:
    found = await retriever.search("onions heartbeat 양파", 20)
    scores = [passage.score for passage in found]
    assert len(scores) > 1
    assert scores == sorted(scores, reverse=True)
    assert await retriever.search("onions heartbeat 양파", 1) == found[:1]


async def test_a_passage_knows_where_it_stands(retriever: Retriever) -> None:
    passage = (await retriever.search("치즈"))[0]
    assert (passage.heading, passage.position, passage.text) == ("마무리", 2, "치즈를 올려 굽습니다.")


async def test_what_is_in_no_document_is_not_found(retriever: Retriever) -> None:
    assert list(await retriever.search("Who won the world cup in 2002?")) == []
    assert list(await retriever.search("오늘 서울 날씨 어때요?")) == []


async def test_a_passage_that_shares_a_word_or_two_with_a_long_question_is_not_found(retriever: Retriever) -> None:
    question = "Which bank offers customers free second accounts with interest, and are cards optional?"
    assert list(await retriever.search(question)) == []


@pytest.mark.parametrize(
    "question", ["", " ", "?!", '"', "NEAR(", "title:x OR *", "\ud800", "a\0b", "양" * 8_000, "or and not the a of"]
)
async def test_any_text_is_a_legal_question(retriever: Retriever, question: str) -> None:
    for passage in await retriever.search(question):
        assert passage.text


async def test_a_collection_alone_is_searched(retriever: Retriever) -> None:
    assert {passage.title for passage in await retriever.search("onions heartbeat", 9, "kitchen")} == {"Salad"}
    assert {passage.title for passage in await retriever.search("onions heartbeat", 9, "wire")} == {"Streams"}


async def test_an_unknown_collection_is_told_with_those_that_there_are(retriever: Retriever) -> None:
    await retriever.check("wire")
    await retriever.check(None)
    with pytest.raises(UnknownCollection, match="kitchen or wire"):
        await retriever.check("nothing")
    with pytest.raises(UnknownCollection, match="kitchen or wire"):
        await retriever.search("onions", 4, "nothing")


async def test_many_search_at_once_and_each_has_its_own_answer(retriever: Retriever) -> None:
    questions = ["양파", "heartbeat", "치즈", "nothing at all"] * 20
    together = await asyncio.gather(*(retriever.search(question) for question in questions))
    assert together == [await retriever.search(question) for question in questions]


async def test_the_loop_goes_on_while_it_searches(retriever: Retriever) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    await retriever.search("양파 onions heartbeat " * 100, 20)
    other.cancel()
    assert turns > 1


async def test_it_can_be_closed_twice(retriever: Retriever) -> None:
    await retriever.close()
    await retriever.close()


@pytest.mark.parametrize("factory", [sqlite])
async def test_without_documents_nothing_is_found(factory: Factory, tmp_path: Path) -> None:
    async with factory(tmp_path, {}) as retriever:
        assert list(await retriever.search("양파")) == []
        with pytest.raises(UnknownCollection, match="there are none"):
            await retriever.check("kitchen")
