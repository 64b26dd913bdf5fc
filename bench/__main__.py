"""`python -m bench [--quick] [--only A,E]`: measures, prints a table, exits with 1 where a target is missed."""

from __future__ import annotations

import argparse
import os
import sys
import time

from rich.console import Console

from .build import OUT, CannotBuild, tool
from .processes import LOAD_CORE, SERVER_CORE
from .results import Row, markdown, read, show, write
from .rounds import FULL, QUICK, Bench
from .scenarios import SCENARIOS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Yeoul against a physical limit and peers.")
    parser.add_argument("--quick", action="store_true", help="one short round instead of three (two minutes)")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown, a column for each server")
    parser.add_argument("--last", action="store_true", help="print the table of the last run again, measure nothing")
    parser.add_argument("--only", default=",".join(SCENARIOS), metavar="A,E", help="these scenarios (default: all)")
    asked = parser.parse_args()
    names = [name.strip().upper() for name in asked.only.split(",")]
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}: there are {', '.join(SCENARIOS)}")

    progress = Console(stderr=True, highlight=False)
    if asked.last:
        return _report(read(OUT / "results.json"), as_markdown=asked.markdown)
    try:
        for name in ("subscribers", "limit", "publisher"):
            tool(name)
    except CannotBuild as error:
        progress.print(f"bench: {error}", style="bold red", markup=False)
        return 2
    if SERVER_CORE == LOAD_CORE:
        progress.print("bench: one core for server and load: the ratios are rough", style="yellow")
    if os.getloadavg()[0] > 0.5:
        progress.print(f"bench: something else is running (load {os.getloadavg()[0]:.1f})", style="yellow")

    began = time.monotonic()
    bench = Bench(
        QUICK if asked.quick else FULL, lambda text: progress.print(text, style="dim", markup=False, soft_wrap=True)
    )
    rows: list[Row] = []
    for name in names:
        rows += SCENARIOS[name](bench)
    took = time.monotonic() - began
    write(rows, bench.raw, OUT / "results.json", took)
    code = _report(rows, as_markdown=asked.markdown)
    missed = sum(row.met is False for row in rows)
    verdict = f"{missed or 'no'} target{'s' * (missed != 1)} missed"
    progress.print(f"{took:.0f} s; {verdict}; all figures in bench/out/results.json")
    return code


def _report(rows: list[Row], *, as_markdown: bool) -> int:
    """Prints the table. Returns the exit code: 1 where a target is missed."""
    if as_markdown:
        print(markdown(rows))
    else:
        show(rows, Console(width=None if sys.stdout.isatty() else 150))
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
