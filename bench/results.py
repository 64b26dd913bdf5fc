"""What a run has found: rows with a ratio and, where one is promised, a target."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["Measured", "Row", "Target", "markdown", "medians", "read", "show", "write"]

# Lines of a Markdown table that a server has to be in for a column of its own.
_COLUMN_FROM = 3

# One measurement: what was measured → its value.
Measured = Mapping[str, float]


def medians(rounds: Sequence[Measured]) -> dict[str, float]:
    return {name: statistics.median(measured[name] for measured in rounds) for name in rounds[0]}


@dataclass(frozen=True)
class Target:
    """What is promised of the ratio (or, where there is nothing to compare with, of the value itself)."""

    relation: str  # ">=" or "<="
    bound: float

    def met_by(self, value: float) -> bool:
        return value >= self.bound if self.relation == ">=" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.relation} {self.bound:g}"


@dataclass(frozen=True)
class Row:
    scenario: str
    what: str
    value: float | None  # Yeoul's; None: it could not be measured
    unit: str
    against: str = ""
    other: float | None = None
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        return self.value / self.other if self.value is not None and self.other else None

    @property
    def met(self) -> bool | None:
        """None where nothing is promised."""
        if self.target is None:
            return None
        measured = self.ratio if self.against else self.value
        return measured is not None and self.target.met_by(measured)


def show(rows: Sequence[Row], console: Console) -> None:
    table = Table(title="Yeoul against a limit and peers: medians of one run", title_justify="left")
    for name in ("", "what", "Yeoul", "against", "", "ratio", "target", ""):
        table.add_column(name, justify="right" if name in ("Yeoul", "ratio", "target") else "left")
    before = Row("", "", None, "")
    for row in rows:
        if before.scenario and row.scenario != before.scenario:
            table.add_section()
        verdict = {None: "", True: "[green]pass[/]", False: "[bold red]MISS[/]"}[row.met]
        table.add_row(
            row.scenario if row.scenario != before.scenario else "",
            row.what if row.what != before.what else "",
            "not measured" if row.value is None else f"{_number(row.value)} {row.unit}",
            row.against,
            "" if row.other is None else _number(row.other),
            "" if row.ratio is None else f"{row.ratio:.2f}",
            "" if row.target is None else str(row.target),
            verdict,
        )
        before = row
    console.print(table)


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table of the figures: a line for each thing measured, and after another server's figure how many times
    Yeoul's it is. Servers that take part in several lines have a column each, the rest share the last one."""
    lines: dict[str, list[Row]] = {}
    for row in rows:
        lines.setdefault(f"{row.what}, {row.unit}" if row.unit else row.what, []).append(row)
    measured = [row.against for row in rows if row.against and row.other is not None]
    columns = [server for server in dict.fromkeys(measured) if measured.count(server) >= _COLUMN_FROM]
    others = len(set(measured)) > len(columns)
    heads = ["", "Yeoul", *columns, *(["other"] if others else [])]
    table = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for what, about in lines.items():
        found = {row.against: _beside(row) for row in about if row.other is not None}
        ours = about[0].value
        cells = [what, "–" if ours is None else f"**{_number(ours)}**"]
        cells += [found.pop(server, "–") for server in columns]
        if others:
            cells.append("; ".join(f"{server}: {text}" for server, text in found.items()) or "–")
        table.append("| " + " | ".join(cells) + " |")
    return "\n".join(table)


def _beside(row: Row) -> str:
    assert row.other is not None
    times = f" (×{row.other / row.value:.2g})" if row.value else ""
    return _number(row.other) + times


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.3g}"


def _found(row: Row) -> dict[str, object]:
    return {**asdict(row), "target": row.target and str(row.target), "ratio": row.ratio, "met": row.met}


def read(path: Path) -> list[Row]:
    """The rows that `write` has written. Raises FileNotFoundError."""
    found = json.loads(path.read_text())["rows"]
    for row in found:
        if row["target"] is not None:
            relation, bound = row["target"].split()
            row["target"] = Target(relation, float(bound))
    return [Row(**{name: row[name] for name in Row.__dataclass_fields__}) for row in found]


def write(rows: Sequence[Row], raw: Mapping[str, object], path: Path, took: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(took, 1),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": os.getloadavg(),
        "rows": [_found(row) for row in rows],
        "raw": raw,
    }
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
