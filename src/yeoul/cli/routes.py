"""`yeoul routes`: the gateway's route table, checked and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..relay.route import Route
from ..relay.table import check_toml
from ..settings import Settings, environment
from .console import plain_table, reporting_errors, results

__all__ = ["routes"]

routes = typer.Typer(help="Check and list the routes of the gateway.", no_args_is_help=True)


@routes.command("check")
def _check(file: Annotated[Path, typer.Argument(help="The file with [[routes]].")] = Path("yeoul.toml")) -> None:
    """Check a route table, line by line. The exit code is 1 where something is wrong."""
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
    """List the routes that `yeoul serve` would have, including the built-in ones."""
    from ..factories import gateway_routes  # noqa: PLC0415 (`check` need not wait for the whole server)

    with reporting_errors():
        found = gateway_routes(Settings())
    table = plain_table("methods", "path", "parameters", "upstream", "failures by")
    for route in found:
        names = ", ".join(name + ("" if p.required else "?") for name, p in route.parameters.items())
        leads = f"{route.upstream.method} {route.upstream.url}"
        cells = (" ".join(route.methods), route.path, names, leads, route.errors)
        table.add_row(*map(Text, cells))
    results().print(table)


def _missing(found: list[Route]) -> list[str]:
    named = dict.fromkeys(route.upstream.auth.variable for route in found if route.upstream.auth is not None)
    return [variable for variable in named if not environment(variable)]
