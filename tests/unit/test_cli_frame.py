from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
from rich.console import Console

from yeoul.cli.frame import Frame, draw

OVERVIEW: dict[str, Any] = {
    "version": "1.2.3",
    "uptime": 4_000.0,
    "demo": False,
    "draining": False,
    "connections": {"open": 1_234, "most": 10_000, "lagging": 2, "refused": {"user": 3}, "gaps": 5},
    "rates": {"published": 12.34, "deliveries": 4_567.8, "bytes": 1_300_000.0, "opened": 0.5, "closed": 0.0},
    "latency": {"p50": 0.0004, "p99": 1.25},
    "broker": {"followed": 41, "topics": 99, "bytes": 5_000_000},
    "generations": {"running": 7},
    "relays": {"running": 1},
    "refused": {"publish": 4, "connect": 0},
    "loop_lag": 0.0012,
    "memory": 112_000_000,
}


def topic(name: str, readers: int = 1) -> dict[str, Any]:
    return {"name": name, "readers": readers, "events": 10, "bytes": 2_048}


def reader(user: str | None = None, *, lagging: bool = False, topics: tuple[str, ...] = ("a",)) -> dict[str, Any]:
    return {
        "user": user,
        "name": None,
        "address": "192.0.2.1",
        "topics": list(topics),
        "since": 940.0,
        "lagging": lagging,
        "events": 1_000,
        "bytes": 20_480,
    }


def frame(
    topics: list[Mapping[str, Any]] | None = None, readers: list[Mapping[str, Any]] | None = None, **changed: Any
) -> Frame:
    shown = [topic("a")] if topics is None else topics
    return Frame("http://x", {**OVERVIEW, **changed}, shown, len(shown), readers or [reader("u1")], 1_000.0)


def drawn(what: Frame | None, width: int = 120, height: int = 40, **options: Any) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(draw(what, width, height, **options))
    return capture.get().rstrip("\n").split("\n")


def test_what_there_is_to_know_is_shown() -> None:
    text = "\n".join(drawn(frame()))
    for shown in (
        "yeoul 1.2.3  http://x  up 1 h 6 min",
        "1,234 of 10,000",
        "41 followed  99 kept",
        "12.3/s",
        "4,568/s  1.3 MB/s",
        "p50 0.4 ms  p99 1.2 s",
        "1.2 ms",
        "112 MB  events 5.0 MB",
        "7 running  1 relayed",
        "7  (user 3, publish 4)",
    ):
        assert shown in text
    assert "u1  a" in text
    assert "1 min" in text


@pytest.mark.parametrize("width", [30, 50, 66, 80, 92, 120, 200])
@pytest.mark.parametrize("height", [10, 24, 60])
def test_no_line_is_wider_than_the_terminal(width: int, height: int) -> None:
    topics = [topic("chat/" + "x" * 190), *(topic(f"t{number}") for number in range(100))]
    readers = [reader("사용자" * 20, topics=("x" * 190, "y")), *(reader(f"u{number}") for number in range(100))]
    lines = drawn(frame(topics, readers), width, height)
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("trouble", [None, "gone"])
@pytest.mark.parametrize(("width", "height"), [(50, 24), (80, 24), (120, 30), (92, 40), (66, 24)])
def test_it_fills_the_terminal_and_no_more(width: int, height: int, trouble: str | None) -> None:
    topics = [topic(f"t{number}") for number in range(100)]
    readers = [reader(f"u{number}") for number in range(100)]
    lines = drawn(frame(topics, readers), width, height, trouble=trouble)
    assert len(lines) == height - 1
    assert any("more)" in line for line in lines)


def test_readers_that_lag_come_first() -> None:
    lines = drawn(frame(readers=[reader("first"), reader("slow", lagging=True)]))
    slow = next(index for index, line in enumerate(lines) if "slow" in line)
    first = next(index for index, line in enumerate(lines) if "first" in line)
    assert slow < first
    assert lines[slow].rstrip().endswith("lags")


def test_what_clients_have_called_themselves_is_not_obeyed() -> None:
    evil = "\x1b[2J[bold red]x\n\x07"
    text = "\n".join(drawn(frame([topic("a\x9b")], [reader(evil, topics=("\x1b]0;t\x07",))])))
    assert "\x1b" not in text
    assert "\\u001b[2J[bold red]x\\n\\u0007" in text


def test_demo_mode_and_draining_are_said() -> None:
    text = drawn(frame(demo=True, draining=True))[0]
    assert text.endswith("demo  draining")


def test_a_server_that_went_away_is_said_above_what_was_last_seen() -> None:
    lines = drawn(frame(), trouble="http://x cannot be reached: connection refused", ago=75.0)
    assert lines[0] == "http://x cannot be reached: connection refused, last seen 1 min ago; trying again"
    assert "1,234 of 10,000" in "\n".join(lines)


def test_before_the_first_look_there_is_a_word() -> None:
    assert drawn(None, url="http://x") == ["asking http://x …"]
    assert drawn(None, trouble="gone")[0] == "gone; trying again"


def test_a_hub_without_latency_and_without_a_memory_broker_is_shown() -> None:
    overview = {"latency": {"p50": None, "p99": None}, "broker": {"followed": 0, "topics": None, "bytes": None}}
    text = "\n".join(drawn(frame([], **overview)))
    assert "p50 -  p99 -" in text
    assert "no topic has readers" in text
