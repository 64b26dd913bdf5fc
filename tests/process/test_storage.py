"""What was saved outlives the process, however it ends; a database that cannot be used stops the start and says why."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from support.reader import Answer, ask
from support.serving import Served, yeoul_serve

SOUP = {"title": "양파 수프 🍲", "category": "한식", "ingredients": ["양파를 썬 것"], "body": "끓인다"}

HEADERS = {"Content-Type": "application/json"}


async def save(served: Served, **body: Any) -> Answer:
    return await ask(served.port, "/recipes", method="POST", json_body={**SOUP, **body})


async def test_what_was_saved_is_in_the_working_directory_and_there_after_a_restart(tmp_path: Path) -> None:
    env = {"YEOUL_DATA_DIR": ""}  # nothing is said
    with yeoul_serve(env=env, cwd=tmp_path) as served:
        saved = (await save(served)).json()
        served.signal()
        assert (await asyncio.to_thread(served.wait))[0] == 0
    assert (tmp_path / "yeoul-data" / "yeoul.db").is_file()
    assert not (tmp_path / "yeoul-data" / "yeoul.db-wal").exists()  # what was in the log is in the file
    with yeoul_serve(env=env, cwd=tmp_path) as served:
        assert (await ask(served.port, f"/recipes/{saved['id']}")).json() == saved
        assert (await ask(served.port, "/recipes/search/ingredient?q=양파")).json()["total"] == 1
        assert (await save(served)).json()["id"] == saved["id"] + 1


def write_until_cut(writer: int, port: int, acknowledged: dict[int, str], enough: threading.Event) -> None:
    """Saves recipes one after the other, and notes what it has an answer for."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        for number in itertools.count():
            title = f"{writer}/{number}"
            try:
                connection.request("POST", "/recipes", json.dumps({**SOUP, "title": title}), HEADERS)
                answer = connection.getresponse()
                recipe = json.loads(answer.read())
            except (OSError, HTTPException):
                return
            assert answer.status == 201
            acknowledged[recipe["id"]] = title
            if len(acknowledged) >= 100:
                enough.set()


async def test_killed_in_the_midst_of_writes_it_loses_nothing_that_it_has_acknowledged(tmp_path: Path) -> None:
    env = {"YEOUL_DATA_DIR": str(tmp_path)}
    acknowledged: dict[int, str] = {}
    enough = threading.Event()
    with yeoul_serve(env=env) as served:
        arguments = served.port, acknowledged, enough
        writers = [asyncio.create_task(asyncio.to_thread(write_until_cut, n, *arguments)) for n in range(4)]
        await asyncio.to_thread(enough.wait, 10)
        served.signal(signal.SIGKILL)
        await asyncio.gather(*writers)
    assert len(acknowledged) >= 100
    with yeoul_serve(env=env) as served:
        for id, title in acknowledged.items():
            assert (await ask(served.port, f"/recipes/{id}")).json()["title"] == title
    with closing(sqlite3.connect(tmp_path / "yeoul.db")) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        file.execute("INSERT INTO recipe_words (recipe_words) VALUES ('integrity-check')")
        recipes = file.execute("SELECT id FROM recipes ORDER BY id").fetchall()
        assert recipes == file.execute("SELECT rowid FROM recipe_words ORDER BY rowid").fetchall()
        assert len(recipes) >= len(acknowledged)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of another process are set on Linux alone")
async def test_a_disk_that_takes_no_more_is_a_503_and_loses_nothing(tmp_path: Path) -> None:
    with yeoul_serve(env={"YEOUL_DATA_DIR": str(tmp_path)}) as served:
        first = (await save(served)).json()
        size = os.stat(tmp_path / "yeoul.db-wal").st_size
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        refused = await save(served, body="x" * 100_000)
        assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        assert "the database cannot be written at the moment" in refused.json()["detail"]
        assert (await ask(served.port, "/recipes")).json()["total"] == 1
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert (await save(served)).json()["id"] == first["id"] + 1
        served.signal()
        code, log = await asyncio.to_thread(served.wait)
    assert code == 0
    assert f"{tmp_path}/yeoul.db cannot be written" in log


async def test_servers_that_start_at_once_share_one_new_database(tmp_path: Path) -> None:
    program = "import asyncio, pathlib, sys; from yeoul.storage import Database; "
    program += "asyncio.run(Database(pathlib.Path(sys.argv[1])).open())"
    starts = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", program, str(tmp_path)], stderr=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    ends = [await asyncio.to_thread(start.communicate) for start in starts]
    assert [start.returncode for start in starts] == [0] * 6, ends
    with closing(sqlite3.connect(tmp_path / "yeoul.db")) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (3,)
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [("garbage", "its file is damaged, or is not a SQLite database"), ("folder", "for the database cannot be created")],
)
def test_a_database_that_cannot_be_used_ends_the_start_with_one_line_that_says_why(
    tmp_path: Path, spoil: str, said: str
) -> None:
    data = tmp_path / "data"
    if spoil == "garbage":
        data.mkdir()
        (data / "yeoul.db").write_text("something else" * 100)
    else:
        data.write_text("a file")
    ended = subprocess.run(
        [sys.executable, "-m", "yeoul", "serve", "--port", "0"],
        env={**os.environ, "YEOUL_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 3
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if "cannot start: " in line]
    assert said in line
    assert str(data) in line
    assert "set YEOUL_DATA_DIR" in line
