"""What a dialect is: a form of a generation's events on the wire. Pure.

A dialect turns each event of the topic (`answer`, `outcome`) into at most one event of the wire, so that every position
stays a position in every dialect.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..sse import json_data
from .outcome import Outcome

__all__ = ["Dialect", "GenerationInfo", "WireEvent"]


@dataclass(frozen=True, slots=True)
class GenerationInfo:
    """What dialects say about the generation itself. `created`: Unix time in seconds. `message_id`: the id of the
    message that the answer is, where a dialect has one; by default the generation's."""

    id: str
    model: str
    created: int
    message_id: str | None = None


# An event of the wire: its type and its data.
WireEvent = tuple[str, str]


class Dialect(ABC):
    """One wire form. Each method answers None where this dialect shows nothing.

    By default a dialect shows the answer's text, a refusal as text, and an application's notes. Positions stay
    positions: each method is asked about one event, and knows no other.
    """

    # Whether its clients can be shown `stream.*` events.
    bears_control: ClassVar[bool] = False
    # Whether every stream from the beginning has `start`, not only one whose ids name the work.
    always_starts: ClassVar[bool] = False
    # Headers of a response in this dialect.
    headers: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def __init__(self, info: GenerationInfo) -> None: ...

    @abstractmethod
    def start(self) -> WireEvent | None: ...

    @abstractmethod
    def delta(self, text: str) -> WireEvent:
        """The next piece of the answer's text."""

    def pieces(self, kind: str, index: int) -> Callable[[str], WireEvent | None] | None:
        """How the pieces of this part are shown. `kind`: text, reasoning or refusal."""
        return None if kind == "reasoning" else self.delta

    def part(self, part: Mapping[str, Any]) -> WireEvent | None:
        """A part that begins, or stands whole: `index`, `kind` and what its kind has (`answer.Part`)."""
        return self.note(part["name"], json_data(part["data"])) if part["kind"] == "note" else None

    def arguments(self, call: Mapping[str, Any]) -> WireEvent | None:
        """The next piece of a tool call's `arguments`: with the `index` of the part, the number of the `call` in the
        answer and its `id`."""
        return None

    def part_end(self, part: Mapping[str, Any]) -> WireEvent | None:
        """A part that came in pieces is complete; a tool call with all its `arguments`."""
        return None

    def step(self) -> WireEvent | None:
        """A call of the model begins."""
        return None

    def step_end(self) -> WireEvent | None:
        return None

    def transient(self, note: Mapping[str, Any]) -> WireEvent | None:
        """A note that is no part of the answer: `name` and `data`, and its `id` where it has one."""
        return self.note(note["name"], json_data(note["data"]))

    def note(self, kind: str, data: str) -> WireEvent | None:
        """An application's note: its type, and its data as JSON."""
        return None

    @abstractmethod
    def finish(self, outcome: Outcome) -> WireEvent | None:
        """How the answer ended."""

    @abstractmethod
    def end(self, outcome: Outcome) -> WireEvent | None:
        """The end marker, or what stands before it."""

    def last(self, outcome: Outcome) -> WireEvent | None:
        """What follows the end marker's event, where one event is too few."""
        return None
