"""Writes docs/reference.md from the public names' signatures and docstrings, and from the examples that a test runs.

`MODULES` is the public surface: what is not in it may change with any version.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from reference_examples import EXAMPLES, Example

__all__ = ["MODULES", "public_names", "reference"]

# Each public module, and what it is for. Its `__all__` is public.
MODULES = {
    "yeoul": "The library, in a FastAPI application of your own or beside `create_app`. "
    'Needs `pip install "yeoul[fastapi]"`, but for `Cursor`, `DisconnectPolicy`, `Event`, `Hub`, `Principal` and '
    "`Retention`.",
    "yeoul.app": 'The server, as an ASGI application. Needs `pip install "yeoul[server]"`.',
    "yeoul.llm": "Language models: providers, what they are asked and what they answer.",
    "yeoul.hub": "What a hub is made of, for brokers and outlets of your own.",
    "yeoul.client": "Reading the event stream of another server.",
    "yeoul.sse": "The wire format: bytes ↔ events. The standard library only, no I/O.",
    "yeoul.errors": "The exceptions. `except YeoulError` catches all of them.",
}

# Of classes that have more for Yeoul's own use: the members that are public.
MEMBERS = {
    "Hub": "open close lifespan publish subscribe hold forget readers topics disconnect watch unwatch before_close",
    "Subscription": "start resume end",
}

# Classes whose instances only Yeoul makes.
MADE_BY_YEOUL = ("yeoul.client.EventStream", "yeoul.hub.Subscription")

HEAD = """\
# Reference

<!-- Written by `make docs` from the docstrings in src/yeoul/ and from scripts/reference_examples.py. -->

The names on this page are public: they change only with a line in [CHANGELOG.md](../CHANGELOG.md). Everything else in
the package may change with any version. Times are in seconds and sizes in bytes unless a name says otherwise
(`retry_ms`). Every example is run by a test.

One more class is public, which is named on the command line: `uvicorn --http yeoul.server.protocol:Protocol` is the
direct outlet, which writes streams straight to the sockets. It needs `pip install "yeoul[uvicorn]"`.

"""


@dataclass(frozen=True)
class Name:
    """A public name: where it is imported from, and what it is."""

    module: str
    name: str
    value: Any

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}"


def public_names() -> list[Name]:
    found = []
    for module in MODULES:
        imported = importlib.import_module(module)
        found += [Name(module, name, getattr(imported, name)) for name in imported.__all__]
    return found


def reference() -> str:
    names = public_names()
    documented: dict[int, Name] = {}  # by identity: some names stand in two modules
    parts = [HEAD, _contents(names)]
    for module, about in MODULES.items():
        parts.append(f"## `{module}`\n\n{about}\n\n")
        for entry in names:
            if entry.module != module:
                continue
            first = documented.setdefault(id(entry.value), entry)
            parts.append(_entry(entry) if first is entry else f"### `{entry.full}`\n\nSee `{first.full}`.\n\n")
    return "".join(parts).rstrip() + "\n"


def _contents(names: list[Name]) -> str:
    rows = []
    for module in MODULES:
        listed = ", ".join(f"`{entry.name}`" for entry in names if entry.module == module)
        rows.append(f"| `{module}` | {listed} |\n")
    return "| module | names |\n| --- | --- |\n" + "".join(rows) + "\n"


def _entry(entry: Name) -> str:
    parts = [f"### `{entry.full}`\n\n"]
    value = entry.value
    if inspect.isclass(value) or inspect.isfunction(value):
        parts.append(_code(f"class {entry.name}" if entry.full in MADE_BY_YEOUL else _signature(value)))
        parts.append(_doc(value))
    else:
        parts.append(_code(f"{entry.name} = {value!r}"))
    parts += [_example(example) for example in EXAMPLES if example.names[0] == entry.full]
    elsewhere = [e.names[0] for e in EXAMPLES if entry.full in e.names[1:] and e.names[0] != entry.full]
    if elsewhere:
        parts.append(f"Example: see {' and '.join(f'`{name}`' for name in elsewhere)}.\n\n")
    if inspect.isclass(value):
        parts += [_member(entry.name, value, member) for member in _members(entry.name, value)]
    return "".join(parts)


def _code(text: str) -> str:
    # Not `python`: it is no whole statement.
    return f"```py\n{text}\n```\n\n"


def _doc(value: object) -> str:
    text = inspect.getdoc(value) or ""
    return f"{text}\n\n" if text else ""


def _example(example: Example) -> str:
    return f"Example:\n\n```python\n{example.source}\n```\n\n"


def _members(name: str, value: type) -> Sequence[str]:
    if name in MEMBERS:
        return MEMBERS[name].split()
    if issubclass(value, Exception):
        return []
    members = []
    for member, content in vars(value).items():
        function = _function(content)
        if not member.startswith("_") and inspect.isfunction(function) and inspect.getdoc(function):
            members.append(member)
    return members


def _member(name: str, owner: type, member: str) -> str:
    content = inspect.getattr_static(owner, member)
    function = _function(content)
    signature = f"{member}: {_returns(function)}" if isinstance(content, property) else _signature(function)
    return f"#### `{name}.{member}`\n\n{_code(signature)}{_doc(function)}"


def _function(content: Any) -> Any:
    if isinstance(content, property):
        return content.fget
    return inspect.unwrap(getattr(content, "__func__", content))


def _node(value: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value)))).body[0]


def _returns(function: Any) -> str:
    node = _node(function)
    assert isinstance(node, ast.FunctionDef)
    return ast.unparse(node.returns) if node.returns else "Any"


def _signature(value: Any) -> str:
    """As it stands in the source: defaults are named there, where `inspect` would show what they are made of."""
    node = _node(value)
    if isinstance(node, ast.ClassDef):
        return _class_signature(value, node)
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return _call(f"{word} {node.name}", _arguments(node.args), returns)


def _class_signature(value: type, node: ast.ClassDef) -> str:
    bases = [base.__name__ for base in value.__bases__ if base is not object]
    if issubclass(value, Exception):
        return f"class {node.name}({', '.join(bases)})"
    if "Protocol" in bases:
        return f"class {node.name}(Protocol)"
    if is_dataclass(value):
        arguments = []
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                default = f" = {ast.unparse(statement.value)}" if statement.value else ""
                arguments.append(f"{statement.target.id}: {ast.unparse(statement.annotation)}{default}")
        return _call(f"class {node.name}", arguments, "")
    for owner in value.__mro__:
        if "__init__" in vars(owner) and owner is not object:
            init = _node(vars(owner)["__init__"])
            assert isinstance(init, ast.FunctionDef)
            return _call(f"class {node.name}", _arguments(init.args), "")
    return f"class {node.name}()"


def _arguments(node: ast.arguments) -> list[str]:
    positional = [*node.posonlyargs, *node.args]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.defaults)) + list(node.defaults)
    found = [_argument(argument, default) for argument, default in zip(positional, defaults, strict=True)]
    if positional and positional[0].arg in ("self", "cls"):
        found = found[1:]
    if node.vararg:
        found.append("*" + _argument(node.vararg, None))
    elif node.kwonlyargs:
        found.append("*")
    found += [_argument(argument, default) for argument, default in zip(node.kwonlyargs, node.kw_defaults, strict=True)]
    if node.kwarg:
        found.append("**" + _argument(node.kwarg, None))
    return found


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = argument.arg + (f": {ast.unparse(argument.annotation)}" if argument.annotation else "")
    if default is None:
        return text
    return f"{text} = {ast.unparse(default)}" if argument.annotation else f"{text}={ast.unparse(default)}"


def _call(head: str, arguments: list[str], returns: str) -> str:
    line = f"{head}({', '.join(arguments)}){returns}"
    if len(line) <= 100:
        return line
    return f"{head}(\n" + "".join(f"    {argument},\n" for argument in arguments) + f"){returns}"


if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "reference.md").write_text(reference())
