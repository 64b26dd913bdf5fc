"""`yeoul routes`, as its users run it."""

from __future__ import annotations

from pathlib import Path

from support.command import yeoul

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


def test_a_table_that_is_right_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "yeoul.toml").write_text(TABLE)
    done = yeoul("routes", "check", UP_KEY="k", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "yeoul.toml: 1 route, no mistakes\n", "")


def test_a_credential_that_is_not_set_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "yeoul.toml").write_text(TABLE)
    done = yeoul("routes", "check", cwd=tmp_path)
    assert done.returncode == 0
    assert "note: UP_KEY is not set" in done.stderr


def test_mistakes_are_told_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TABLE.replace("http://", "").replace("$text", "$tekst"))
    done = yeoul("routes", "check", "mine.toml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    first, second, count = done.stderr.splitlines()
    assert first.startswith("mine.toml:8: routes[0].upstream.url: not a valid URL: give http://host/path")
    assert second.startswith("mine.toml:9: routes[0].upstream.body: $tekst is not a parameter of this route")
    assert count == "2 mistakes"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = yeoul("routes", "check", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "yeoul.toml: cannot be read: No such file or directory\n")


def test_the_routes_are_listed_with_the_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "yeoul.toml").write_text(TABLE)
    done = yeoul("routes", "list", AI_SERVICE_URL="http://ai.example/", cwd=tmp_path)
    assert done.returncode == 0
    assert "/translate" in done.stdout
    assert "POST http://ai.example/api/recipes/generate-stream" in done.stdout


def test_the_server_does_not_start_with_a_table_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "yeoul.toml").write_text(TABLE.replace("$text", "$tekst"))
    done = yeoul("serve", "--port", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "$tekst is not a parameter of this route" in done.stderr
    (tmp_path / "yeoul.toml").write_text(TABLE)
    done = yeoul("serve", "--port", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "set UP_KEY" in done.stderr
