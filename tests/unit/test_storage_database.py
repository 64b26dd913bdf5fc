"""The database: created once, opened again, shared by readers and a writer, honest about what it cannot do."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from stat import S_IMODE

import pytest

from support.transactions import reading, writing
from yeoul.documents.library import Library
from yeoul.errors import DatabaseUnavailable, UnusableDatabase
from yeoul.llm.provider import Message
from yeoul.sqlite import Schema, SqliteFile
from yeoul.storage import Database
from yeoul.storage.conversations import Conversations
from yeoul.storage.recipes import Recipes, query
from yeoul.storage.revocations import Revocations

OLD = Path(__file__).parents[1] / "support" / "databases"


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Database]:
    """With a table of this test's own."""
    async with Database(tmp_path) as opened:
        await opened.write(lambda connection: connection.execute("CREATE TABLE notes (note TEXT)") and None)
        yield opened


def note(text: str) -> Callable[[sqlite3.Connection], None]:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO notes VALUES (?)", (text,))

    return work


async def notes(opened: Database) -> list[str]:
    rows = await opened.read(lambda connection: connection.execute("SELECT note FROM notes ORDER BY rowid").fetchall())
    return [text for (text,) in rows]


# --- opening it


async def test_folder_and_file_are_created_at_the_first_start_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "데이터 %s"
    async with Database(folder) as created:
        assert created.path == folder / "yeoul.db"
        assert created.path.is_file()
    assert S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["yeoul.db"]  # the log was written back


async def test_what_was_written_is_there_the_next_time(opened: Database) -> None:
    await opened.write(note("양파 🍲"))
    await opened.close()
    await opened.open()
    assert await notes(opened) == ["양파 🍲"]


async def test_what_is_acknowledged_is_on_the_disk_and_readers_do_not_wait_for_writers(opened: Database) -> None:
    for pragma, value in [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]:

        def ask(connection: sqlite3.Connection, pragma: str = pragma) -> object:
            return connection.execute(f"PRAGMA {pragma}").fetchone()[0]

        assert await opened.write(ask) == await opened.read(ask) == value


async def test_a_database_of_version_0_1_0_is_read_and_brought_up_to_date(tmp_path: Path) -> None:
    shutil.copy(OLD / "yeoul-0.1.0.db", tmp_path / "yeoul.db")
    for _ in range(2):
        async with Database(tmp_path) as database:
            page = await Recipes(database).with_ingredient(query("양파"), 10, 0)
            assert [recipe.title for recipe in page.recipes] == ["양파 수프 🍲"]
            assert page.recipes[0].ingredients == ["양파를 썬 것", "salt"]
            turns = await Conversations(database, clock=lambda: 4_000_000_000.0).turns("user:ann", "s1")
            assert turns == [Message("user", "hi"), Message("assistant", "안녕")]
            revocations = Revocations(database)
            await revocations.load(keep_seconds=None)
            assert revocations.all() == [("bob", 4_000_000_000.0)]
    async with Database(tmp_path) as database:
        added = await Recipes(database).add(title="x", category=None, ingredients=["물"], body="")
    assert added.id == 2


async def test_it_has_the_tables_of_a_new_database_then(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    shutil.copy(OLD / "yeoul-0.1.0.db", tmp_path / "old" / "yeoul.db")
    tables = []
    for folder in ("old", "new"):
        async with Database(tmp_path / folder) as database:
            sql = "SELECT m.name, c.name, c.type, c.'notnull', c.pk FROM sqlite_master m, pragma_table_info(m.name) c"
            tables.append(sorted(await database.read(lambda connection, sql=sql: connection.execute(sql).fetchall())))
    old, new = tables
    # `INTEGER PRIMARY KEY` is the row's number, and is never NULL, whether it says so or not.
    assert [row for row in old if row[4] == 0] == [row for row in new if row[4] == 0]
    assert [row[:3] for row in old] == [row[:3] for row in new]


def test_documents_of_version_0_1_0_are_found(tmp_path: Path) -> None:
    shutil.copy(OLD / "documents-0.1.0.db", tmp_path / "documents.db")
    library = Library(tmp_path / "documents.db")
    assert [passage.title for passage in library.search("onions", 4)] == ["Onions"]
    library.close()


def garbage(folder: Path) -> None:
    (folder / "yeoul.db").write_bytes(b"not a database at all" * 400)


def a_folder_in_its_place(folder: Path) -> None:
    (folder / "yeoul.db").mkdir()


def of_another_program(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "yeoul.db")) as other:
        other.execute("CREATE TABLE recipes (bread)")


def of_another_program_that_says_so(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "yeoul.db")) as other:
        other.execute("PRAGMA application_id = 252006675")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (garbage, "its file is damaged, or is not a SQLite database"),
        (a_folder_in_its_place, "its file cannot be opened"),
        (of_another_program, "the database of another program"),
        (of_another_program_that_says_so, "the database of another program"),
    ],
)
async def test_a_file_that_is_not_ours_is_refused_and_left_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None], why: str
) -> None:
    spoil(tmp_path)
    file = tmp_path / "yeoul.db"
    before = file.read_bytes() if file.is_file() else b""
    for _ in range(2):
        with pytest.raises(UnusableDatabase, match=why) as raised:
            await Database(tmp_path).open()
        assert str(file) in str(raised.value)
        assert "set YEOUL_DATA_DIR to another folder" in str(raised.value)
    assert (file.read_bytes() if file.is_file() else b"") == before


@pytest.mark.parametrize(
    "newer",
    [
        "PRAGMA user_version = 99",
        "PRAGMA user_version = 0; CREATE TABLE alembic_version AS SELECT '0099' AS version_num",
    ],
)
async def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(
    opened: Database, tmp_path: Path, newer: str
) -> None:
    await opened.close()
    with closing(sqlite3.connect(tmp_path / "yeoul.db")) as file:
        file.executescript(newer)
        before = list(file.iterdump())
    with pytest.raises(UnusableDatabase, match=r"a newer version of Yeoul .*version 99.*install that version"):
        await Database(tmp_path).open()
    with closing(sqlite3.connect(tmp_path / "yeoul.db")) as file:
        assert list(file.iterdump()) == before


@pytest.mark.parametrize("folder", ["taken", "taken/below", "/proc/yeoul"])
async def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path, folder: str) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UnusableDatabase, match="set YEOUL_DATA_DIR to a folder that this user may write to") as raised:
        await Database(tmp_path / folder).open()
    assert str(tmp_path / folder) in str(raised.value)


def test_a_first_start_that_fails_leaves_nothing_half_made(tmp_path: Path) -> None:
    scripts = ["CREATE TABLE a (x);\nCREATE TABLE b (x);", "CREATE TABLE c (x);\nCREATE TABLE a (x);"]
    path = tmp_path / "file.db"
    with pytest.raises(UnusableDatabase, match="table a already exists"):
        SqliteFile(path, Schema(7, scripts), "file").open()
    with closing(sqlite3.connect(path)) as left:
        assert left.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        assert left.execute("PRAGMA application_id").fetchone() == (0,)
    file = SqliteFile(path, Schema(7, scripts[:1]), "file")
    file.open()
    file.close()


def test_each_script_runs_once_and_later_ones_on_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "file.db"
    scripts = ["CREATE TABLE a (x);", "ALTER TABLE a ADD COLUMN y; -- one more\n", "CREATE TABLE b (z);"]
    for many in (1, 1, 3, 3):
        file = SqliteFile(path, Schema(7, scripts[:many]), "file")
        file.open()
        with file.write() as connection:
            connection.execute("INSERT INTO a (x) VALUES (1)")
            assert connection.execute("PRAGMA user_version").fetchone() == (many,)
        file.close()
    with closing(sqlite3.connect(path)) as left:
        assert left.execute("SELECT x, y FROM a").fetchall() == [(1, None)] * 4


async def test_nothing_is_read_before_it_is_open(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not open"):
        await Database(tmp_path).read(lambda connection: None)
    with pytest.raises(RuntimeError, match="not open"), SqliteFile(tmp_path / "x.db", Schema(7, []), "file").write():
        pass


# --- reading and writing


async def test_a_transaction_that_raises_changes_nothing(opened: Database) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        note("lost")(connection)
        raise KeyError

    with pytest.raises(KeyError):
        await opened.write(fail)
    assert await notes(opened) == []
    await opened.write(note("kept"))
    assert await notes(opened) == ["kept"]


async def test_readers_see_the_state_before_a_write_that_is_under_way(opened: Database) -> None:
    loop = asyncio.get_running_loop()

    def look(connection: sqlite3.Connection) -> list[str]:
        note("new")(connection)
        return asyncio.run_coroutine_threadsafe(notes(opened), loop).result()

    assert await opened.write(look) == []
    assert await notes(opened) == ["new"]


async def test_a_reader_sees_one_moment_however_long_it_reads(opened: Database) -> None:
    loop = asyncio.get_running_loop()

    def count(connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT count(*) FROM notes").fetchone()[0])

    def look(connection: sqlite3.Connection) -> tuple[int, int]:
        before = count(connection)
        asyncio.run_coroutine_threadsafe(opened.write(note("new")), loop).result()
        return before, count(connection)

    assert await opened.read(look) == (0, 0)
    assert await notes(opened) == ["new"]


async def test_many_writers_at_once_all_get_their_turn_in_order(opened: Database) -> None:
    await asyncio.gather(*(opened.write(note(str(number))) for number in range(100)))
    assert await notes(opened) == [str(number) for number in range(100)]


async def test_a_writer_that_is_cancelled_before_its_turn_never_writes(opened: Database) -> None:
    async with writing(opened):
        task = asyncio.create_task(opened.write(note("lost")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await opened.write(note("kept"))
    assert await notes(opened) == ["kept"]


@pytest.mark.parametrize("turns", range(12))
async def test_a_writer_cancelled_at_any_moment_leaves_the_database_usable(opened: Database, turns: int) -> None:
    def both(connection: sqlite3.Connection) -> None:
        note("a")(connection)
        note("b")(connection)

    task = asyncio.create_task(opened.write(both))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await opened.write(note("c"))
    assert await notes(opened) in (["c"], ["a", "b", "c"])


async def test_closing_waits_for_the_transactions_that_run_or_wait(opened: Database) -> None:
    async with writing(opened):
        waiting = asyncio.create_task(opened.write(note("kept")))
        await asyncio.sleep(0)
        closing_it = asyncio.create_task(opened.close())
        await asyncio.sleep(0)
        assert not closing_it.done()
    await closing_it
    await waiting
    await opened.open()
    assert await notes(opened) == ["kept"]


# --- trouble


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yeoul.sqlite.BUSY_S", 0.05)
    monkeypatch.setattr("yeoul.storage.database.BUSY_S", 0.2)


@pytest.mark.usefixtures("impatient")
async def test_a_write_while_another_program_writes_is_refused_in_time_and_not_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Database(tmp_path) as database:
        await database.write(lambda connection: connection.execute("CREATE TABLE notes (note TEXT)") and None)
        with closing(sqlite3.connect(tmp_path / "yeoul.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseUnavailable, match="cannot be written at the moment: another program") as raised:
                await database.write(note("lost"))
            assert str(tmp_path) not in str(raised.value)
            assert str(tmp_path) in caplog.text
            assert await notes(database) == []
            other.execute("ROLLBACK")
        await database.write(note("kept"))
        assert await notes(database) == ["kept"]


@pytest.mark.usefixtures("impatient")
async def test_a_start_while_another_program_writes_is_refused_in_time(opened: Database, tmp_path: Path) -> None:
    async with writing(opened):
        with pytest.raises(UnusableDatabase, match="another program is writing to it"):
            await Database(tmp_path).open()


@pytest.mark.usefixtures("impatient")
async def test_who_waits_too_long_for_a_turn_or_a_connection_is_refused(opened: Database) -> None:
    async with writing(opened):
        with pytest.raises(DatabaseUnavailable, match="written at the moment: too many requests are waiting"):
            await opened.write(note("lost"))
    async with reading(opened), reading(opened), reading(opened), reading(opened):
        with pytest.raises(DatabaseUnavailable, match="read at the moment: too many requests are waiting"):
            await notes(opened)
    assert await notes(opened) == []


async def test_a_write_that_does_not_fit_on_the_disk_is_refused_and_not_done(opened: Database) -> None:
    def bound(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")  # of the one connection that writes

    def fill(connection: sqlite3.Connection) -> None:
        note("short")(connection)
        note("x" * 1_000_000)(connection)

    await opened.write(bound)
    with pytest.raises(DatabaseUnavailable, match="cannot be written at the moment: its disk is full"):
        await opened.write(fill)
    assert await notes(opened) == []
    await opened.write(note("short"))
    assert await notes(opened) == ["short"]


async def test_a_wrong_statement_is_a_bug_and_stays_one(opened: Database) -> None:
    for statement in ("SELECT * FROM nowhere", "INSERT INTO notes VALUES (1, 2)"):
        with pytest.raises(sqlite3.OperationalError):
            await opened.write(lambda connection, sql=statement: connection.execute(sql) and None)  # type: ignore[misc]
