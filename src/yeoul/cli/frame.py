"""One screen of `yeoul top`: the admin API's data, laid out for a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..printable import printable

__all__ = ["Frame", "draw"]

# Widths in characters below which the tables have fewer columns and the facts are listed in fewer columns.
_NARROW = 66
_MEDIUM = 92
# Lines beside the facts and the rows of the tables: title, empty lines, table headers, one spare line.
_OTHER_LINES = 7

_Fact = tuple[str, Text]


@dataclass(frozen=True)
class Frame:
    """`overview`, `topics`, `connections`: as the admin API returns them. `at`: when, in Unix seconds."""

    url: str
    overview: Mapping[str, Any]
    topics: Sequence[Mapping[str, Any]]
    total_topics: int
    connections: Sequence[Mapping[str, Any]]
    at: float


def draw(
    frame: Frame | None,
    width: int,
    height: int,
    *,
    trouble: str | None = None,
    ago: float | None = None,
    url: str = "",
) -> RenderableType:
    """The frame for a terminal of this size. `trouble`: why there is no newer frame; `ago`: its age in seconds."""
    parts: list[RenderableType] = []
    if trouble is not None:
        since = "" if ago is None else f", last seen {_duration(ago)} ago"
        parts.append(Text(f"{printable(trouble)}{since}; trying again", style="bold red"))
    if frame is None:
        return Group(*parts, Text("" if trouble else f"asking {url} …", style="dim"))
    facts = _fact_table(_facts(frame), width)
    rows = max(2, height - len(parts) - facts.row_count - _OTHER_LINES)
    of_topics = min(len(frame.topics), max(1, rows // 2))
    of_readers = max(1, rows - of_topics)
    parts += [
        _title(frame),
        Padding(facts, (1, 0, 1, 0)),
        _topics(frame, of_topics, width),
        Text(),
        _readers(frame, of_readers, width),
    ]
    return Group(*parts)


def _title(frame: Frame) -> Text:
    seen = frame.overview
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append("yeoul ", style="bold")
    text.append(f"{printable(seen['version'])}  {frame.url}  up {_duration(seen['uptime'])}")
    if seen["demo"]:
        text.append("  demo", style="yellow")
    if seen["draining"]:
        text.append("  draining", style="bold red")
    return text


def _facts(frame: Frame) -> list[_Fact]:
    seen = frame.overview
    streams, rates, broker, latency = seen["connections"], seen["rates"], seen["broker"], seen["latency"]
    refused = sum(streams["refused"].values()) + sum(seen["refused"].values())
    full = streams["open"] / streams["most"] if streams["most"] else 0.0
    return [
        ("streams", Text(f"{streams['open']:,} of {streams['most']:,}", style=_grade(full, 0.8, 0.95))),
        ("lagging", Text(f"{streams['lagging']:,}", style="yellow" if streams["lagging"] else "")),
        ("topics", Text(f"{broker['followed']:,} followed" + _kept(broker["topics"]))),
        ("published", Text(_rate(rates["published"]))),
        ("delivered", Text(f"{_rate(rates['deliveries'])}  {_size(rates['bytes'])}/s")),
        ("opened", Text(f"{_rate(rates['opened'])}  ended {_rate(rates['closed'])}")),
        ("latency", Text(f"p50 {_time(latency['p50'])}  p99 {_time(latency['p99'])}", style=_slow(latency["p99"]))),
        ("loop lag", Text(_time(seen["loop_lag"]), style=_slow(seen["loop_lag"]))),
        ("memory", Text(f"{_size(seen['memory'])}" + _events_kept(broker["bytes"]))),
        ("answers", Text(f"{seen['generations']['running']:,} running  {seen['relays']['running']:,} relayed")),
        ("refused", Text(f"{refused:,}" + _by(streams["refused"], seen["refused"]), style="yellow" if refused else "")),
        ("gaps", Text(f"{streams['gaps']:,}", style="yellow" if streams["gaps"] else "")),
    ]


def _fact_table(facts: Sequence[_Fact], width: int) -> Table:
    across = 1 if width < _NARROW else 2 if width < _MEDIUM else 3
    table = Table.grid(padding=(0, 2))
    for _ in range(across):
        table.add_column(style="dim", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for first in range(0, len(facts), across):
        table.add_row(*(cell for name, text in facts[first : first + across] for cell in (name, text)))
    return table


def _topics(frame: Frame, rows: int, width: int) -> Table:
    hidden = frame.total_topics - min(rows, len(frame.topics))
    table = _table(f"topic{_more(hidden)}", ("readers", "events", "kept") if width >= _NARROW else ("readers",))
    for topic in frame.topics[:rows]:
        numbers = (f"{topic['readers']:,}", f"{topic['events']:,}", _size(topic["bytes"]))
        table.add_row(Text(printable(topic["name"])), *(numbers if width >= _NARROW else numbers[:1]))
    if not frame.topics:
        table.add_row(Text("no topic has readers", style="dim"))
    return table


def _readers(frame: Frame, rows: int, width: int) -> Table:
    """Lagging readers first, then the oldest."""
    readers = sorted(frame.connections, key=lambda reader: not reader["lagging"])
    hidden = frame.overview["connections"]["open"] - min(rows, len(readers))
    names = ("address", "for", "events", "sent", "") if width >= _MEDIUM else ("for", "events", "")
    table = _table(f"reader{_more(hidden)}", names if width >= _NARROW else ("for", ""))
    for reader in readers[:rows]:
        who = reader["user"] or reader["name"] or (reader["address"] if width < _MEDIUM else None) or "-"
        topics = ", ".join(reader["topics"])
        first = Text(printable(f"{who}  "))
        first.append(printable(topics), style="dim")
        duration, state = _duration(frame.at - reader["since"]), Text("lags" if reader["lagging"] else "", "yellow")
        events = f"{reader['events']:,}"
        if width >= _MEDIUM:
            table.add_row(first, printable(reader["address"] or "-"), duration, events, _size(reader["bytes"]), state)
        elif width >= _NARROW:
            table.add_row(first, duration, events, state)
        else:
            table.add_row(first, duration, state)
    return table


def _table(first: str, others: Iterable[str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    table.add_column(first, no_wrap=True, overflow="ellipsis", ratio=1)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _more(hidden: int) -> str:
    return f" ({hidden:,} more)" if hidden > 0 else ""


def _kept(topics: int | None) -> str:
    return "" if topics is None else f"  {topics:,} kept"


def _events_kept(size: int | None) -> str:
    return "" if size is None else f"  events {_size(size)}"


def _by(streams: Mapping[str, int], rates: Mapping[str, int]) -> str:
    counts = [f"{bound} {count:,}" for bound, count in {**streams, **rates}.items() if count]
    return f"  ({printable(', '.join(counts))})" if counts else ""


def _grade(part: float, warn: float, bad: float) -> str:
    return "bold red" if part >= bad else "yellow" if part >= warn else ""


def _slow(seconds: float | None) -> str:
    return "" if seconds is None else _grade(seconds, 0.05, 0.5)


def _rate(number: float) -> str:
    return f"{number:,.0f}/s" if number >= 100 else f"{number:.1f}/s"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1_000:.1f} ms"


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1_000 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1_000
    raise AssertionError("the last unit has no upper bound")
