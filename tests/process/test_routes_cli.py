"""`yeoul routes`, as its users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TABLE = """\
heartbeat_s = 5

[[routes]]
path = "/translate"
parameters = { text = "string" }

[routes.upstream]
url = "http://up.example/translate"
body = { text = "$text" }
auth = { variable = "UP_KEY" }
"""


def yeoul(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("YEOUL_", "OPENAI_", "HF_"))}
    command = [sys.executable, "-m", "yeoul", *arguments]
    return subprocess.run(
        command, cwd=folder, env={**clean, **env}, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_table_that_is_right_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "yeoul.toml").write_text(TABLE)
    done = yeoul(tmp_path, "routes", "check", UP_KEY="k")
    assert (done.returncode, done.stdout, done.stderr) == (0, "yeoul.toml: 1 route, no mistakes\n", "")


def test_a_credential_that_is_not_set_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "yeoul.toml").write_text(TABLE)
    done = yeoul(tmp_path, "routes", "check")
    assert done.returncode == 0
    assert "note: UP_KEY is not set" in done.stderr


def test_mistakes_are_told_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TABLE.replace("http://", "").replace("$text", "$tekst"))
    done = yeoul(tmp_path, "routes", "check", "mine.toml")
    assert (done.returncode, done.stdout) == (1, "")
    first, second, count = done.stderr.splitlines()
    assert first.startswith("mine.toml:8: routes[0].upstream.url: not a valid URL: give http://host/path")
    assert second.startswith("mine.toml:9: routes[0].upstream.body: $tekst is not a parameter of this route")
    assert count == "2 mistakes"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = yeoul(tmp_path, "routes", "check")
    assert (done.returncode, done.stderr) == (1, "yeoul.toml: cannot be read: No such file or directory\n")


def test_the_routes_are_listed_with_the_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "yeoul.toml").write_text(TABLE)
    done = yeoul(tmp_path, "routes", "list", AI_SERVICE_URL="http://ai.example/")
    assert done.returncode == 0
    assert "/translate" in done.stdout
    assert "POST http://ai.example/api/recipes/generate-stream" in done.stdout


def test_the_server_does_not_start_with_a_table_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "yeoul.toml").write_text(TABLE.replace("$text", "$tekst"))
    done = yeoul(tmp_path, "serve", "--port", "0")
    assert done.returncode == 2
    assert "$tekst is not a parameter of this route" in done.stderr
    (tmp_path / "yeoul.toml").write_text(TABLE)
    done = yeoul(tmp_path, "serve", "--port", "0")
    assert done.returncode == 2
    assert "set UP_KEY" in done.stderr
