"""The database: made once, opened again, shared by readers and a writer, honest when it cannot do what it is asked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from stat import S_IMODE

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError, OperationalError

from yeoul.errors import DatabaseUnavailable, UnusableDatabase
from yeoul.storage import Database, database
from yeoul.storage.migrate import bring_up_to_date
from yeoul.storage.recipes import METADATA

NOTE = text("INSERT INTO notes VALUES (:note)")


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Database]:
    """With a table of this test's own."""
    async with Database(tmp_path) as opened:
        async with opened.write() as connection:
            await connection.execute(text("CREATE TABLE notes (note TEXT)"))
        yield opened


async def notes(opened: Database) -> list[str]:
    async with opened.read() as connection:
        return list(await connection.scalars(text("SELECT note FROM notes ORDER BY rowid")))


# --- opening it


async def test_folder_and_file_are_made_at_the_first_start_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "데이터 %s"
    async with Database(folder) as made:
        assert made.path == folder / "yeoul.db"
        assert made.path.is_file()
    assert S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == ["yeoul.db"]  # the log was written back


async def test_what_was_written_is_there_the_next_time(opened: Database, tmp_path: Path) -> None:
    async with opened.write() as connection:
        await connection.execute(NOTE, {"note": "양파 🍲"})
    await opened.close()
    await opened.open()
    assert await notes(opened) == ["양파 🍲"]


async def test_what_is_acknowledged_is_on_the_disk_and_readers_do_not_wait_for_writers(opened: Database) -> None:
    async with opened.read() as connection:
        for pragma, value in [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]:
            assert (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar_one() == value


async def test_the_steps_make_the_tables_that_the_code_names(opened: Database) -> None:
    def ours(name: str | None, kind: str, _: object) -> bool:
        return kind != "table" or name in METADATA.tables

    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"include_name": ours, "compare_type": True})
        return list(compare_metadata(context, METADATA))

    async with opened.read() as connection:
        assert await connection.run_sync(differences) == []


def garbage(folder: Path) -> None:
    (folder / "yeoul.db").write_bytes(b"not a database at all" * 400)


def a_folder_in_its_place(folder: Path) -> None:
    (folder / "yeoul.db").mkdir()


def of_another_program(folder: Path) -> None:
    with sqlite3.connect(folder / "yeoul.db") as other:
        other.execute("CREATE TABLE recipes (bread)")
    other.close()


def of_another_program_that_says_so(folder: Path) -> None:
    with sqlite3.connect(folder / "yeoul.db") as other:
        other.execute("PRAGMA application_id = 252006675")
    other.close()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (garbage, "its file is damaged, or no SQLite database"),
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


async def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(opened: Database, tmp_path: Path) -> None:
    async with opened.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await opened.close()
    with pytest.raises(UnusableDatabase, match=r"a newer version of Yeoul .*step 9999.*install that version"):
        await Database(tmp_path).open()
    with sqlite3.connect(tmp_path / "yeoul.db") as file:
        assert file.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]
    file.close()


@pytest.mark.parametrize("folder", ["taken", "taken/below", "/proc/yeoul"])
async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, folder: str) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UnusableDatabase, match="set YEOUL_DATA_DIR to a folder that this user may write to") as raised:
        await Database(tmp_path / folder).open()
    assert str(tmp_path / folder) in str(raised.value)


async def test_a_first_start_that_fails_leaves_nothing_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection) -> None:
        bring_up_to_date(connection)
        raise RuntimeError("the machine stops here")

    monkeypatch.setattr(database, "bring_up_to_date", fail)
    with pytest.raises(RuntimeError, match="stops here"):
        await Database(tmp_path).open()
    with sqlite3.connect(tmp_path / "yeoul.db") as file:
        assert file.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    file.close()
    monkeypatch.undo()
    async with Database(tmp_path) as opened, opened.read() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM recipes")) == 0


async def test_nothing_is_read_before_it_is_open(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not open"):
        async with Database(tmp_path).read():
            pass


# --- reading and writing


async def test_a_block_that_raises_changes_nothing(opened: Database) -> None:
    async def fail() -> None:
        async with opened.write() as connection:
            await connection.execute(NOTE, {"note": "lost"})
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert await notes(opened) == []


async def test_readers_see_the_state_before_a_write_that_is_under_way(opened: Database) -> None:
    async with opened.write() as connection:
        await connection.execute(NOTE, {"note": "new"})
        assert await notes(opened) == []
    assert await notes(opened) == ["new"]


async def test_a_reader_sees_one_moment_however_long_it_reads(opened: Database) -> None:
    async with opened.read() as reader:
        assert await reader.scalar(text("SELECT count(*) FROM notes")) == 0
        async with opened.write() as writer:
            await writer.execute(NOTE, {"note": "new"})
        assert await reader.scalar(text("SELECT count(*) FROM notes")) == 0


async def test_many_writers_at_once_all_get_their_turn_in_order(opened: Database) -> None:
    async def write(number: int) -> None:
        async with opened.write() as connection:
            await connection.execute(NOTE, {"note": str(number)})

    await asyncio.gather(*(write(number) for number in range(100)))
    assert await notes(opened) == [str(number) for number in range(100)]


async def test_a_writer_that_is_cancelled_changes_nothing_and_gives_up_its_turn(opened: Database) -> None:
    written = asyncio.Event()

    async def write() -> None:
        async with opened.write() as connection:
            await connection.execute(NOTE, {"note": "lost"})
            written.set()
            await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(write())
    await written.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with opened.write() as connection:
        await connection.execute(NOTE, {"note": "kept"})
    assert await notes(opened) == ["kept"]


@pytest.mark.parametrize("turns", range(12))
async def test_a_writer_cancelled_at_any_moment_leaves_the_database_usable(opened: Database, turns: int) -> None:
    async def write() -> None:
        async with opened.write() as connection:
            for note in ("a", "b"):
                await connection.execute(NOTE, {"note": note})

    task = asyncio.create_task(write())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with opened.write() as connection:
        await connection.execute(NOTE, {"note": "c"})
    assert await notes(opened) in (["c"], ["a", "b", "c"])


# --- trouble


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_S", 0.05)


@pytest.mark.usefixtures("impatient")
async def test_a_write_while_another_program_writes_is_refused_in_time_and_not_done(
    opened: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = sqlite3.connect(tmp_path / "yeoul.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="cannot be written at the moment: others are writing") as raised:
        async with opened.write() as connection:
            await connection.execute(NOTE, {"note": "lost"})
    assert str(tmp_path) not in str(raised.value)
    assert str(tmp_path) in caplog.text
    assert await notes(opened) == []
    other.execute("ROLLBACK")
    other.close()
    async with opened.write() as connection:
        await connection.execute(NOTE, {"note": "kept"})
    assert await notes(opened) == ["kept"]


@pytest.mark.usefixtures("impatient")
async def test_a_start_while_another_program_writes_is_refused_in_time(opened: Database, tmp_path: Path) -> None:
    async with opened.write():
        with pytest.raises(UnusableDatabase, match="others are writing to it"):
            await Database(tmp_path).open()


@pytest.mark.usefixtures("impatient")
async def test_who_waits_too_long_for_a_turn_or_a_connection_is_refused(opened: Database) -> None:
    async with opened.write():
        with pytest.raises(DatabaseUnavailable, match="written at the moment: too many are waiting"):
            async with opened.write():
                pass
    async with opened.read(), opened.read(), opened.read(), opened.read(), opened.read():
        with pytest.raises(DatabaseUnavailable, match="read at the moment: too many are waiting"):
            async with opened.read():
                pass


async def test_a_write_that_does_not_fit_on_the_disk_is_refused_and_not_done(opened: Database) -> None:
    async with opened.read() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")  # the one connection that there is

    async def write() -> None:
        async with opened.write() as connection:
            await connection.execute(NOTE, {"note": "short"})
            await connection.execute(NOTE, {"note": "x" * 1_000_000})

    with pytest.raises(DatabaseUnavailable, match="cannot be written at the moment: its disk is full"):
        await write()
    assert await notes(opened) == []
    async with opened.write() as connection:
        await connection.execute(NOTE, {"note": "short"})
    assert await notes(opened) == ["short"]


async def test_a_wrong_statement_is_a_bug_and_stays_one(opened: Database) -> None:
    for statement, kind in [
        ("SELECT * FROM nowhere", OperationalError),
        ("INSERT INTO notes VALUES (1, 2)", DBAPIError),
    ]:
        with pytest.raises(kind):
            async with opened.write() as connection:
                await connection.execute(text(statement))
