"""The page of public names is complete, is what `make docs` writes, and its examples run; docs use nothing else."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from make_reference import MODULES, Name, public_names, reference
from reference_examples import EXAMPLES, Example
from support.reader import open_stream
from support.serving import serving
from support.settings import make_settings
from yeoul import Event, EventStream, Hub

ROOT = Path(__file__).parents[2]
NAMES = public_names()


def test_the_page_is_what_make_docs_writes() -> None:
    assert (ROOT / "docs" / "reference.md").read_text() == reference(), "run `make docs`"


@pytest.mark.parametrize("entry", NAMES, ids=lambda entry: entry.full)
def test_every_public_name_says_what_it_is(entry: Name) -> None:
    if inspect.isclass(entry.value) or inspect.isfunction(entry.value):
        doc = inspect.getdoc(entry.value)
        assert doc
        assert doc.rstrip().endswith((".", ")", "`", ":", "=")), doc[-40:]
        assert not doc.startswith(f"{entry.name}("), (
            "the signature that Python makes up for a class without a docstring"
        )


def test_every_member_that_is_shown_says_what_it_does() -> None:
    shown = re.findall(r"^#### `(.+?)`\n\n```py\n.*?```\n\n(.{8})", reference(), re.MULTILINE | re.DOTALL)
    assert len(shown) > 20
    assert [member for member, begin in shown if begin == "Example:" or begin[0] == "#"] == []


@pytest.mark.parametrize("entry", NAMES, ids=lambda entry: entry.full)
def test_every_public_name_stands_in_an_example(entry: Name) -> None:
    shown = {name for example in EXAMPLES for name in example.names}
    same = {other.full for other in NAMES if other.value is entry.value}
    if entry.module == "yeoul.errors":  # one example shows how all of them are caught
        same = {"yeoul.errors.YeoulError"}
    assert same & shown


def test_examples_name_what_is_public() -> None:
    assert {name for example in EXAMPLES for name in example.names} <= {entry.full for entry in NAMES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.names[0])
async def test_the_example_runs(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yeoul.app.Settings", make_settings)  # this machine's environment does not count
    async with _stream() as url:
        made: Any = example.run(**({"url": url} if "url" in inspect.signature(example.run).parameters else {}))
        if inspect.isawaitable(made):
            made = await made
    assert (made is None) is (example.get is None)
    if example.get is None:
        return
    async with serving(made) as port, await open_stream(port, example.get) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        await stream.take(1)


@asynccontextmanager
async def _stream() -> AsyncIterator[str]:
    """The address of a stream with one event, for examples that read one."""
    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    @app.get("/news")
    async def follow(request: Request) -> Response:
        return EventStream(hub, "news", request, opening=[Event("hello")])

    async with serving(app) as port:
        yield f"http://127.0.0.1:{port}/news"


# --- what documentation uses

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("examples/*.py")]


def imports(text: str) -> Iterator[tuple[str, str]]:
    """The module and the name of each import from Yeoul in a piece of Python."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "yeoul":
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "yeoul")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documentation_imports_public_names_alone(page: Path) -> None:
    text = page.read_text()
    pieces = [text] if page.suffix == ".py" else re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    public = {(entry.module, entry.name) for entry in NAMES} | {(module, "") for module in MODULES}
    # An example of the reference may stand in an `async def` that the page does not show.
    used = {found for piece in pieces for found in imports("async def _():\n" + re.sub("^", "    ", piece, flags=re.M))}
    assert used <= public


def test_the_modules_that_pages_name_are_public() -> None:
    named = {
        module
        for page in PAGES
        if page.suffix == ".md" and page.name not in ("ARCHITECTURE.md", "requirements.md")
        for module in re.findall(r"`(yeoul(?:\.\w+)+)`", page.read_text())
    }
    # The module of the direct outlet; and what looks like a module, and is a file or a claim of a token.
    others = {"yeoul.server.protocol", "yeoul.toml", "yeoul.db", "yeoul.json", "yeoul.publish", "yeoul.subscribe"}
    allowed = {*MODULES, *(entry.full for entry in NAMES), *others}
    assert {name for name in named if name not in allowed} == set()
