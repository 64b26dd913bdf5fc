"""What commands write for the user who runs them. Results go to stdout, everything else to stderr.

What only some of them need is imported where it is needed: `yeoul serve` starts without rich, `yeoul publish` without
the settings.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

import typer

from ..errors import YeoulError
from ..printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["fail", "note", "plain_table", "reporting_errors", "results", "say"]

# Columns of the output where it is not a terminal: nothing is cut off.
_WIDE = 200


def note(text: str) -> None:
    """A line on stderr; what a server or a file has put into it is made printable."""
    typer.echo(f"yeoul: {printable(text)}", err=True)


def fail(text: str, code: int = 1) -> NoReturn:
    note(text)
    raise typer.Exit(code)


def say(text: str) -> None:
    """Text on stderr, for a command that goes on where that cannot be written to (a full disk): then it says so on
    stdout."""
    data = f"{text}\n".encode(errors="backslashreplace")
    try:
        _write(2, data)
    except OSError as error:
        with suppress(OSError):
            _write(1, f"yeoul: stderr cannot be written to: {error.strerror}\n".encode() + data)


def _write(fd: int, data: bytes) -> None:
    while data:
        with suppress(BlockingIOError):
            data = data[os.write(fd, data) :]


@contextmanager
def reporting_errors(code: int = 1) -> Iterator[None]:
    """Errors of the settings end the command with 2, others that are expected with `code`: a line each, and no
    traceback. Shows no secret."""
    from pydantic import ValidationError  # noqa: PLC0415

    from ..settings import complaints  # noqa: PLC0415

    try:
        yield
    except ValidationError as error:
        for complaint in complaints(error):
            note(complaint)
        raise typer.Exit(2) from error
    except (YeoulError, ValueError) as error:
        note(str(error))
        raise typer.Exit(code) from error


def results() -> Console:
    """A console on stdout."""
    from rich.console import Console  # noqa: PLC0415

    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def plain_table(*columns: str) -> Table:
    """A table without lines, whose cells are folded where the terminal is narrow."""
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
