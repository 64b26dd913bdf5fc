"""The command `yeoul`, and `python -m yeoul`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line. Without the packages that it needs, says which extra installs them (exit code 1)."""
    try:
        from .cli.main import main as run  # noqa: PLC0415 (what it imports may not be installed)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "yeoul":
            raise
        sys.exit(
            f"yeoul: the package {error.name.partition('.')[0]!r} is not installed. The command line is part of the "
            'server; install it with:\n\n    pip install "yeoul[server]"'
        )
    run()


if __name__ == "__main__":
    main()
