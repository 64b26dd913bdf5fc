"""The command line. The module of a command is imported when it is run: it does not wait for those of the others."""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Annotated

import typer

from .. import __version__

__all__ = ["main"]

# Each is a function, or a group of commands, in the module of its name.
_COMMANDS = ("serve", "listen", "publish", "top", "token", "docs", "routes")

cli = typer.Typer(
    name="yeoul",
    help="Streams to browsers over Server-Sent Events.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"yeoul {__version__}")
        raise typer.Exit


@cli.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Streams to browsers over Server-Sent Events."""


def main() -> None:
    """Runs the command line, under the name `yeoul` however it was started."""
    named = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    # All of them for help, for the completion of shells, and for a name that is not a command's.
    names = [named] if named in _COMMANDS else _COMMANDS
    gc.disable()  # imports make much, and little garbage: looking for it takes a fifteenth of their time
    commands = {name: getattr(import_module(f".{name}", __package__), name) for name in names}
    gc.enable()
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            cli.add_typer(command, name=name)
        else:
            cli.command(name)(command)
    cli(prog_name="yeoul")
