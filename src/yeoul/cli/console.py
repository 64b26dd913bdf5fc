"""What commands tell whoever runs them."""

from __future__ import annotations

from typing import NoReturn

import typer

from ..printable import printable

__all__ = ["fail", "note"]


def note(text: str) -> None:
    """A line on stderr, whatever a server or a file has put into it."""
    typer.echo(f"yeoul: {printable(text)}", err=True)


def fail(text: str, code: int = 1) -> NoReturn:
    note(text)
    raise typer.Exit(code)
