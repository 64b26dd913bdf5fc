"""`yeoul routes`: the gateway's route table, checked and shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..relay.route import Route
from ..relay.table import check_toml
from ..settings import Settings, complaints, environment

__all__ = ["routes"]

routes = typer.Typer(help="Check and list the routes of the gateway.", no_args_is_help=True)

# Where no terminal says how wide it is, nothing is cut off.
_WIDE = 200


@routes.command("check")
def _check(file: Annotated[Path, typer.Argument(help="The file with [[routes]].")] = Path("yeoul.toml")) -> None:
    """Say what is wrong with a route table, line by line. Exit code 1 where something is."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        typer.echo(f"{file}: cannot be read: {why}", err=True)
        raise typer.Exit(1) from error
    found, mistakes = check_toml(text)
    for mistake in mistakes:
        typer.echo(f"{file}:{mistake.line}: {mistake}", err=True)
    if mistakes:
        typer.echo(f"{len(mistakes)} mistake{'s' * (len(mistakes) != 1)}", err=True)
        raise typer.Exit(1)
    for variable in _missing(found):
        typer.echo(f"{file}: note: {variable} is not set here; the server will not start without it", err=True)
    typer.echo(f"{file}: {len(found)} route{'s' * (len(found) != 1)}, no mistakes")


@routes.command("list")
def _list() -> None:
    """Show the routes that `yeoul serve` would have, the built-in ones too."""
    from ..factories import gateway_routes  # noqa: PLC0415 (`check` need not wait for the whole server)

    try:
        found = gateway_routes(Settings())
    except ValidationError as error:
        for complaint in complaints(error):
            typer.echo(f"yeoul: {complaint}", err=True)
        raise typer.Exit(2) from error
    except ValueError as error:
        typer.echo(f"yeoul: {error}", err=True)
        raise typer.Exit(1) from error
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("methods", "path", "parameters", "upstream", "failures by"):
        table.add_column(column, overflow="fold")
    for route in found:
        names = ", ".join(name + ("" if p.required else "?") for name, p in route.parameters.items())
        leads = f"{route.upstream.method} {route.upstream.url}"
        cells = (" ".join(route.methods), route.path, names, leads, route.errors)
        table.add_row(*map(Text, cells))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def _missing(found: list[Route]) -> list[str]:
    named = dict.fromkeys(route.upstream.auth.variable for route in found if route.upstream.auth is not None)
    return [variable for variable in named if not environment(variable)]
