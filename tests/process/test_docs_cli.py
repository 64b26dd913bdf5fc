"""`yeoul docs`, run as a command."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.pdf import pdf
from support.reader import open_stream
from support.serving import yeoul_serve

ROOT = Path(__file__).parents[2]


class Cli:
    """Runs commands in a folder of their own; `lines` is the output of the last one, of both channels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("YEOUL_", "OPENAI_", "HF_"))}
        self.env["YEOUL_DATA_DIR"] = str(folder / "data")
        self.lines: list[str] = []

    def __call__(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "yeoul", "docs", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, output
        self.lines = output.splitlines()
        return output


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "soup.md").write_text("# 양파 수프\n\n먼저 양파를 썰어 볶습니다.")
    (tmp_path / "docs" / "sub" / "salad.html").write_text("<h1>Salad [bold]</h1><p>Onions are optional.")
    (tmp_path / "docs" / "bread.pdf").write_bytes(pdf([["Knead the dough."]], "Bread"))
    (tmp_path / "docs" / "empty.txt").write_text("")
    (tmp_path / "docs" / "picture.png").write_bytes(b"\x89PNG")
    return Cli(tmp_path)


def test_documents_are_added_listed_found_and_removed(cli: Cli) -> None:
    output = cli("add", "docs", "docs/picture.png", "nowhere.md")
    assert "3 added, 0 updated, 0 unchanged, 3 skipped in collection 'documents'" in output
    assert "skipped docs/empty.txt: it is empty" in output
    assert "skipped docs/picture.png: .png is not a supported format: use .md" in output
    assert "skipped nowhere.md: the file does not exist" in output

    cli("list", "--collection", "documents")
    assert cli.lines[0].split() == ["id", "collection", "title", "passages", "from"]
    titles = [line.split(None, 2)[2] for line in cli.lines[1:]]
    assert [title.split("  ")[0] for title in titles] == ["Bread", "양파 수프", "Salad [bold]"]

    assert "먼저 양파를 썰어 볶습니다." in cli("search", "양파로 뭘 하나요?")
    assert "Salad [bold]" in cli("search", "onions")
    assert "nothing found" in cli("search", "Who won the world cup?", code=1)

    id = next(line.split()[0] for line in cli("list").splitlines() if "Bread" in line)
    assert "removed 'Bread'" in cli("remove", id)
    assert "removed '양파 수프'" in cli("remove", "양파 수프")
    assert "no document '양파 수프'" in cli("remove", "양파 수프", code=1)
    assert "양파 수프" not in cli("list")


def test_adding_again_changes_only_what_has_changed(cli: Cli) -> None:
    cli("add", "docs")
    assert "0 added, 0 updated, 3 unchanged, 1 skipped" in cli("add", "docs")
    (cli.folder / "docs" / "soup.md").write_text("# 양파 수프\n\n이제는 대파를 씁니다.")
    assert "0 added, 1 updated, 2 unchanged, 1 skipped" in cli("add", "docs")
    assert "대파를" in cli("search", "대파")


def test_where_nothing_can_be_added_the_exit_code_says_so(cli: Cli) -> None:
    (cli.folder / "bare").mkdir()
    assert "no file ends with .md" in cli("add", "bare", code=1)
    assert "0 added" in cli("add", "docs/empty.txt", code=1)
    assert "for Yeoul's own documentation" in cli("add", "docs", "--collection", "yeoul", code=1)
    assert "1 to 64 letters" in cli("add", "docs", "--collection", "a/b", code=1)
    cli("add", code=2)


def test_yeouls_own_documentation_is_there_at_once(cli: Cli) -> None:
    assert "ARCHITECTURE.md" in cli("list")
    assert "Publishing" in cli("search", "How do I publish to a topic?")
    cli.env["YEOUL_OWN_DOCUMENTS"] = "false"
    cli.env["YEOUL_DATA_DIR"] = str(cli.folder / "other")
    assert f"no documents in {cli.folder}/other/documents.db" in cli("list")


def test_each_command_names_the_index_that_it_uses(cli: Cli) -> None:
    del cli.env["YEOUL_DATA_DIR"]
    path = cli.folder / "yeoul-data" / "documents.db"
    output = cli("add", "docs")
    assert f"created {path}: each working directory has its own, unless YEOUL_DATA_DIR names a folder" in output
    assert f"1 skipped in collection 'documents' of {path}" in output
    assert "created" not in cli("add", "docs")
    assert f"removed 'Bread' from collection 'documents' of {path}" in cli("remove", "Bread")
    assert f"nothing found in {path}" in cli("search", "Who won the world cup?", code=1)


@pytest.mark.parametrize(
    ("name", "value", "code", "why"),
    [
        ("YEOUL_DATA_DIR", "docs/soup.md", 1, "set YEOUL_DATA_DIR to a folder that this user may write to"),
        ("YEOUL_PORT", "many", 2, "setting port"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(cli: Cli, name: str, value: str, code: int, why: str) -> None:
    cli.env[name] = value
    assert why in cli("list", code=code)
    assert len(cli.lines) == 1
    assert "Traceback" not in cli.lines[0]


async def test_what_is_added_while_the_server_runs_is_found_by_it(cli: Cli) -> None:
    env = {"YEOUL_DATA_DIR": cli.env["YEOUL_DATA_DIR"], "YEOUL_DEMO_PACE_S": "0"}
    with yeoul_serve(env=env, cwd=cli.folder) as server:
        for path, title in (("/ask?question=SIGTERM", "Architecture"), ("/ask?question=양파", "양파 수프")):
            if title == "양파 수프":
                cli("add", "docs")
            async with await open_stream(server.port, path) as stream:
                events = await stream.rest()
            assert f'"title": "{title}"' in events[1].data
            assert events[-1].data == '{"done": true}'
        server.signal()
        code, _ = server.wait()
        assert code == 0


def test_the_wheel_has_all_pages_of_the_documentation(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = set(wheel.namelist())
    pages = ["README.md", "README.ko.md", "ARCHITECTURE.md", *(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))]
    assert {f"yeoul/manual/{page}" for page in pages} <= packed
