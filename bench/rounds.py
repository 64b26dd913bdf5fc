"""How much is measured, how often, and the medians."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .drive import Disturbed
from .processes import CannotStart
from .results import Measured, Row, Target, medians
from .servers import YEOUL, Fanout

__all__ = ["FULL", "QUICK", "Bench", "Plan", "against", "as_many_as_files", "present", "value_of"]


@dataclass(frozen=True)
class Plan:
    """How much is done. Times in seconds."""

    rounds: int
    fanout: float  # of publishing
    readers: int
    idle: int
    tokens: int  # of each answer
    stored: int
    idling: float
    connecting: int  # readers that connect at once
    room: int  # users in it
    messages: int


FULL = Plan(
    rounds=3,
    fanout=2.5,
    readers=1_000,
    idle=10_000,
    tokens=200,
    stored=100_000,
    idling=30,
    connecting=3_000,
    room=5_000,
    messages=50,
)
QUICK = Plan(
    rounds=1,
    fanout=1.0,
    readers=1_000,
    idle=2_000,
    tokens=80,
    stored=50_000,
    idling=15,
    connecting=2_000,
    room=5_000,
    messages=20,
)


@dataclass
class Bench:
    """One run: its plan, where it says what it does, and every measurement made."""

    plan: Plan
    say: Callable[[str], None]
    raw: dict[str, list[Measured]] = field(default_factory=dict)

    def measure(
        self, scenario: str, candidates: Mapping[str, Callable[[], Measured]], rounds: int | None = None
    ) -> dict[str, dict[str, float]]:
        """The medians of each candidate. One round measures all of them, one after the other: what disturbs the
        machine for a while disturbs them alike. Candidates that fail twice in a round are left out."""
        left = dict(candidates)
        rounds = rounds or self.plan.rounds
        for number in range(1, rounds + 1):
            for name, candidate in list(left.items()):
                measured = self._attempt(candidate, f"{scenario} {name}")
                if measured is None:
                    del left[name]
                    continue
                self.raw.setdefault(f"{scenario} {name}", []).append(measured)
                shown = ", ".join(f"{key} {value:.6g}" for key, value in measured.items())
                self.say(f"{scenario} {number}/{rounds} {name}: {shown}")
        return {name: medians(self.raw[f"{scenario} {name}"]) for name in left}

    def _attempt(self, candidate: Callable[[], Measured], label: str) -> Measured | None:
        for _ in range(2):
            try:
                return candidate()
            except (Disturbed, CannotStart) as error:
                self.say(f"{label}: {error}")
        return None


def value_of(found: Mapping[str, Measured], name: str, key: str) -> float | None:
    return found[name][key] if name in found else None


def as_many_as_files(count: int) -> int:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(count, files - 200)


def present(*servers: Fanout) -> list[Fanout]:
    """Those that can take part."""
    return [server for server in servers if server.missing is None]


def against(
    scenario: str,
    found: Mapping[str, Measured],
    what: str,
    key: str,
    unit: str,
    targets: Sequence[tuple[Fanout, Target | None]],
) -> list[Row]:
    """Yeoul's figure beside that of each of the others. A target against a server that takes no part is dropped."""
    rows = []
    ours = value_of(found, YEOUL.name, key)
    for server, target in targets:
        if server.missing is None:
            rows.append(Row(scenario, what, ours, unit, server.name, value_of(found, server.name, key), target))
        else:
            rows.append(Row(scenario, what, ours, unit, f"{server.name}: {server.missing}"))
    return rows
