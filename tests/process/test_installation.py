"""The wheel in an empty environment: alone, as a library with the oldest and the newest packages, and as a server."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

import yeoul
from support.installation import ROOT, Environment, build, pythons
from support.reader import ask, open_stream
from support.serving import Served, yeoul_serve
from yeoul.sse import Event

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
SAMPLE = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
OUTLETS = {"portable": (), "direct": ("--http", "yeoul.server.protocol:Protocol")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    _, wheel = build(tmp_path_factory.mktemp("built"))
    return wheel


def lowest(*extras: str) -> list[str]:
    """The oldest version that is allowed of each package that the project, or one of these extras, names."""
    named = [*PROJECT["dependencies"], *(requirement for extra in extras for requirement in EXTRAS[extra])]
    return [re.sub(r">=([^,;]+).*", r"==\1", requirement) for requirement in named]


# --- the archives


def test_the_wheel_has_the_package_its_types_its_manual_and_its_license(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"yeoul/py.typed", "yeoul/manual/README.md", "yeoul/manual/docs/protocol.md"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    ours = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert {name for name in names if name.endswith(".py") and "/manual/" not in name} == ours


def test_the_metadata_say_what_this_is(wheel: Path) -> None:
    archive = zipfile.Path(wheel)
    [folder] = [entry for entry in archive.iterdir() if entry.name.endswith(".dist-info")]
    metadata = PathDistribution(folder).metadata  # type: ignore[arg-type]
    assert metadata["Version"] == yeoul.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra") or ()) == set(EXTRAS)
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_the_changelog_has_the_version_and_what_comes_next() -> None:
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert yeoul.__version__ in versions


# --- alone


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("alone") / "venv")
    made.install(str(wheel))
    return made


@pytest.mark.parametrize("command", [("yeoul", "serve"), ("python", "-m", "yeoul", "--version")])
def test_without_the_server_the_command_says_what_to_install(alone: Environment, command: tuple[str, ...]) -> None:
    done = alone.run(*command)
    assert done.returncode == 1
    assert 'pip install "yeoul[server]"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["EventStream", "generate", "live_stream"])
def test_a_name_that_needs_more_says_what_to_install(alone: Environment, name: str) -> None:
    done = alone.run("python", "-c", f"from yeoul import {name}")
    assert done.returncode == 1
    assert re.search(rf"ImportError: yeoul\.{name} needs .*pip install \"yeoul\[fastapi\]\"", done.stderr), done.stderr


def test_the_core_and_the_client_work_alone(alone: Environment) -> None:
    program = """
import asyncio
from yeoul import Event, Hub, Retention
from yeoul.sse import Decoder, encode
import yeoul.client, yeoul.errors, yeoul.llm.demo

async def main():
    async with Hub() as hub:
        await hub.publish("a", Event("hello"))
    print(Decoder().feed(encode(Event("hello")))[0].data)

asyncio.run(main())
"""
    done = alone.run("python", "-W", "error", "-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
    assert len(alone.packages()) < 20


# --- as a library


def oldest_and_newest() -> Iterator[tuple[str, str]]:
    """The bounds, each with its Python: old packages have no wheels for new versions of Python."""
    yield "oldest", pythons()[0]
    yield "newest", pythons()[-1]


@pytest.fixture(scope="module", params=oldest_and_newest(), ids=lambda pair: pair[0])
def library(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel with the extras of a library, at the lower bound of every requirement, and with the newest versions."""
    bound, python = request.param
    made = Environment(tmp_path_factory.mktemp(bound) / "venv", python)
    made.install(f"{wheel}[fastapi,uvicorn]", *(lowest("fastapi", "uvicorn") if bound == "oldest" else ()))
    (made.folder / "app.py").write_text(SAMPLE)
    return made


@pytest.mark.parametrize("outlet", OUTLETS)
async def test_the_sample_of_the_readme_runs(library: Environment, outlet: str) -> None:
    with library.serving("app:app", *OUTLETS[outlet]) as served:
        await _follow_and_resume(served.port)
        await _answer_and_end(served.port)
        code, err = await _stop_with_a_reader(served)
    assert "Traceback" not in err
    assert code in (0, -15)


async def _follow_and_resume(port: int) -> None:
    async with await open_stream(port, "/notifications/ann") as stream:
        hello = (await stream.take(1))[0]
        assert (await ask(port, "/notify/ann?text=lunch", method="POST")).status == 200
        event = (await stream.take(2))[1]
        assert event.data == "lunch"
    async with await open_stream(port, "/notifications/ann", last_event_id=hello.id or "") as stream:
        assert (await stream.take(2))[1] == event


async def _answer_and_end(port: int) -> None:
    async with await open_stream(port, "/chat?question=why") as stream:
        first = list(await stream.take(2))
        stream.cut()
    async with await open_stream(port, "/chat?question=why", last_event_id=first[-1].id or "") as stream:
        events: list[Event] = [*first, *await stream.rest()]
    assert "".join(json.loads(event.data).get("content", "") for event in events) == "You asked: why "
    async with await open_stream(port, "/chat?question=why", last_event_id=events[-1].id or "") as stream:
        assert stream.status == 204


async def _stop_with_a_reader(served: Served) -> tuple[int, str]:
    async with await open_stream(served.port, "/notifications/ann") as stream:
        await stream.take(1)
        served.signal()
        assert (await stream.rest())[-1].type == "stream.bye"
    return await asyncio.to_thread(served.wait)


# --- as a server


@pytest.mark.parametrize("python", pythons()[-1:], ids=lambda path: Path(path).resolve().name)
async def test_the_wheel_alone_serves(wheel: Path, python: str, tmp_path: Path) -> None:
    made = Environment(tmp_path / "venv", python)
    made.install(f"{wheel}[server]")
    for command in (("yeoul", "--version"), ("python", "-m", "yeoul", "--version")):
        assert made.run(*command).stdout == f"yeoul {yeoul.__version__}\n"
    help = made.run("yeoul", "--help")
    assert (help.returncode, help.stderr) == (0, "")
    assert "Run the server until SIGTERM or Ctrl+C." in help.stdout
    no_detection = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # of the shell that runs the tests
    completion = made.run("yeoul", "--show-completion", "bash", **no_detection).stdout
    assert "complete -o default -F _yeoul_completion yeoul" in completion
    with yeoul_serve(python=made.python, cwd=tmp_path) as served:
        async with await open_stream(served.port, "/sse/chat?message=hello") as stream:
            assert (await stream.rest())[-1].data == "[DONE]"
        question = "/ask?question=wire%20contract"
        async with await open_stream(served.port, question) as stream:  # from the manual in the wheel
            assert "The wire contract" in str([event.data for event in await stream.rest()])
        assert (await ask(served.port, "/readyz")).status == 200
        served.signal()
        code, err = await asyncio.to_thread(served.wait)
    assert (code, err.count("Traceback")) == (0, 0), err
    done = made.run("yeoul", "docs", "add", str(_page(tmp_path)))
    assert 'to read HTML files, install the extra: pip install "yeoul[docs]"' in done.stdout + done.stderr


def _page(folder: Path) -> Path:
    page = folder / "page.html"
    page.write_text("<h1>Title</h1><p>Text.")
    return page
