"""Documents in SQLite: added once, replaced, removed, searched from threads, and every way their file can be wrong."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from yeoul.documents.document import Document, read
from yeoul.documents.library import OWN, Added, Library
from yeoul.documents.manual import index_manual, manual_files
from yeoul.documents.retriever import SqliteRetriever
from yeoul.errors import DatabaseUnavailable, UnknownDocument, UnusableDatabase


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "documents.db"


@pytest.fixture
def library(path: Path) -> Iterator[Library]:
    library = Library(path)
    yield library
    library.close()


def document(text: str = "# Soup\n\nPeel the onions.", source: str = "soup.md") -> Document:
    return read(text.encode(), source)


# --- adding and removing


def test_the_same_document_is_in_a_collection_once(library: Library) -> None:
    assert library.add(document()) is Added.ADDED
    assert library.add(document()) is Added.UNCHANGED
    assert library.add(document(source="copy.md")) is Added.UNCHANGED
    assert library.add(document(), "other") is Added.ADDED
    assert [(entry.collection, entry.title, entry.passages) for entry in library.list()] == [
        ("documents", "Soup", 1),
        ("other", "Soup", 1),
    ]
    assert [entry.collection for entry in library.list("other")] == ["other"]


def test_a_new_version_replaces_what_came_from_the_same_source(library: Library) -> None:
    library.add(document())
    assert library.add(document("# Soup\n\nPeel the leeks.")) is Added.UPDATED
    assert [entry.title for entry in library.list()] == ["Soup"]
    assert library.search("onions", 4) == []
    assert len(library.search("leeks", 4)) == 1


def test_a_document_that_becomes_the_same_as_another_is_found_by_its_old_words_no_more(library: Library) -> None:
    library.add(document("# Onions\n\nPeel the onions.", source="a.md"))
    library.add(document("# Leeks\n\nWash the leeks.", source="b.md"))
    assert library.add(document("# Leeks\n\nWash the leeks.", source="a.md")) is Added.UPDATED
    assert library.search("onions", 4) == []
    assert [entry.source for entry in library.list()] == ["b.md"]


@pytest.mark.parametrize("which", ["1", "Soup", "soup", "soup.md"])
def test_a_document_is_removed_by_its_id_title_or_source(library: Library, which: str) -> None:
    library.add(document())
    assert library.remove(which).title == "Soup"
    assert library.list() == []
    assert library.search("onions", 4) == []


def test_a_title_that_means_no_document_or_several_removes_none(library: Library) -> None:
    with pytest.raises(UnknownDocument, match="no document 'Soup'"):
        library.remove("Soup")
    library.add(document())
    library.add(document("# Soup\n\nPeel the leeks.", "leeks.md"))
    with pytest.raises(UnknownDocument, match=r"several.* 1 \(documents: soup.md\), 2 \(documents: leeks.md\)"):
        library.remove("Soup")
    assert len(library.list()) == 2
    assert library.remove("2").source == "leeks.md"


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 65, "a/b", "a\n"])
def test_a_name_that_breaks_the_rules_is_refused(library: Library, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 letters"):
        library.add(document(), name)
    assert library.list() == []


def test_what_fails_half_way_leaves_nothing_behind(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(text: str) -> str:
        if text == "Peel the onions.":
            raise MemoryError
        return text

    monkeypatch.setattr("yeoul.documents.library.index_text", broken)
    with pytest.raises(MemoryError):
        library.add(document())
    monkeypatch.undo()
    assert library.list() == []
    assert library.add(document()) is Added.ADDED


def test_documents_outlive_the_process(path: Path) -> None:
    for expected in (Added.ADDED, Added.UNCHANGED):
        library = Library(path)
        assert library.add(document()) is expected
        assert len(library.search("onions", 4)) == 1
        library.close()


# --- what is found


def test_a_word_in_the_title_counts_more_than_one_in_the_text(library: Library) -> None:
    library.add(document("# Salad\n\nOnion soup goes well with it, said the cook, and so does bread.", "a.md"))
    library.add(document("# Onion\n\nA vegetable that is eaten in soups and salads, raw or cooked.", "b.md"))
    for n in range(20):
        library.add(document(f"# Dish {n}\n\nSomething else to eat, number {n}.", f"{n}.md"))
    assert [passage.title for passage in library.search("onion", 4)] == ["Onion", "Salad"]


def test_own_documentation_is_searched_until_something_else_is_there(library: Library) -> None:
    library.add(document("# Yeoul\n\nPeel the onions.", "README.md"), OWN)
    assert [passage.title for passage in library.search("onions", 4)] == ["Yeoul"]
    library.add(document())
    assert [passage.title for passage in library.search("onions", 4)] == ["Soup"]
    assert [passage.title for passage in library.search("onions", 4, OWN)] == ["Yeoul"]


# --- Yeoul's own documentation


def test_the_manual_is_all_of_the_projects_pages() -> None:
    names = manual_files()
    assert {"README.md", "README.ko.md", "ARCHITECTURE.md", "docs/protocol.md"} <= set(names)
    assert {path.name for path in (Path(__file__).parents[2] / "docs").glob("*.md")} <= {
        name.removeprefix("docs/") for name in names
    }


@pytest.mark.parametrize(
    ("question", "where"),
    [
        ("How do I publish to a topic over HTTP, as text or JSON?", "Publishing to a topic"),
        ("Which method of a Hub publishes an event?", "yeoul › yeoul.Hub › Hub.publish"),
        ("What does the server do on SIGTERM?", "The walks"),
        ("연결이 끊기면 답변은 어떻게 되나요?", "라이브러리로 쓰기"),
        ("왜 느린 쪽이 다른 사람을 늦추지 않나요?", "라이브러리로 쓰기"),
    ],
)
def test_questions_about_yeoul_are_found_in_its_manual(library: Library, question: str, where: str) -> None:
    index_manual(library)
    assert where in [passage.heading for passage in library.search(question, 4)]


def test_only_what_has_changed_of_the_manual_is_read_again(
    library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page, gone = tmp_path / "a.md", tmp_path / "b.md"
    page.write_text("# A\n\none")
    gone.write_text("# B\n\ntwo")
    monkeypatch.setattr("yeoul.documents.manual.manual_files", lambda: {"a.md": page, "b.md": gone})
    index_manual(library)
    before = library.list()
    index_manual(library)
    assert library.list() == before
    page.write_text("# A\n\nthree")
    monkeypatch.setattr("yeoul.documents.manual.manual_files", lambda: {"a.md": page})
    index_manual(library)
    assert [entry.title for entry in library.list(OWN)] == ["A"]
    assert len(library.search("three", 4)) == 1


# --- a file that cannot be used


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "documents.db"
    path.write_bytes(b"dear diary " * 1_000)
    with pytest.raises(UnusableDatabase, match=r"is not a SQLite database; correct that, or set YEOUL_DATA_DIR"):
        Library(path)
    assert path.read_bytes() == b"dear diary " * 1_000


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "documents.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    with pytest.raises(UnusableDatabase, match="another program"):
        Library(path)


def test_a_newer_database_is_left_alone(path: Path, library: Library) -> None:
    library.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UnusableDatabase, match="newer version of Yeoul"):
        Library(path)


@pytest.mark.parametrize("inside", ["file/documents.db", "file/sub/documents.db"])
def test_a_folder_that_cannot_be_made_is_told_with_what_to_do(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableDatabase, match="set YEOUL_DATA_DIR to a folder that this user may write to"):
        Library(tmp_path / inside)


def test_a_locked_database_is_waited_for_and_then_reported(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("yeoul.sqlite.BUSY_S", 0.05)
    library = Library(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        DatabaseUnavailable, match="cannot be written at the moment: another program is writing to it"
    ) as caught:
        library.add(document())
    assert str(path) not in str(caught.value)
    assert str(path) in caplog.text
    assert library.list() == [], "readers do not wait for writers"
    other.execute("ROLLBACK")
    other.close()
    assert library.add(document()) is Added.ADDED
    library.close()


# --- in an event loop


async def test_a_library_that_cannot_be_opened_is_tried_again_with_each_question(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "documents.db"
    path.write_bytes(b"dear diary " * 1_000)
    async with SqliteRetriever(path) as retriever:
        with pytest.raises(DatabaseUnavailable, match="the server's log has the reason") as caught:
            await retriever.search("onions")
        assert str(path) not in str(caught.value)
        assert str(path) in caplog.text
        path.unlink()
        assert list(await retriever.search("onions")) == []


async def test_a_preparation_that_fails_leaves_what_is_there_to_be_searched(
    path: Path, library: Library, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(library: Library) -> None:
        raise OSError("no manual")

    library.add(document())
    async with SqliteRetriever(path, broken) as retriever:
        assert len(await retriever.search("onions")) == 1
    assert "could not be prepared" in caplog.text


async def test_a_client_that_leaves_while_it_is_opened_does_not_close_it_for_others(path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(library: Library) -> None:
        begun.set()
        go_on.wait(10)
        library.add(document())

    async with SqliteRetriever(path, slow) as retriever:
        first = asyncio.create_task(retriever.search("onions"))
        second = asyncio.create_task(retriever.search("onions"))
        await asyncio.to_thread(begun.wait, 10)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        go_on.set()
        assert len(await second) == 1


async def test_closing_waits_for_what_is_under_way(path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(library: Library) -> None:
        begun.set()
        go_on.wait(10)
        library.add(document())

    retriever = SqliteRetriever(path, slow)
    async with retriever:
        await asyncio.to_thread(begun.wait, 10)
        asyncio.get_running_loop().call_soon(go_on.set)
    library = Library(path)
    assert len(library.list()) == 1
    library.close()
