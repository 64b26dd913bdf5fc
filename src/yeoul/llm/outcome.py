"""How a generation ends, and the last events of its topic. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from ..sse import Event, json_data
from .items import Usage

__all__ = ["Outcome", "State", "outcome_events", "outcome_of"]


class State(StrEnum):
    """`incomplete`: the provider's stream ended without its terminal marker. `interrupted`: this server went away."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended.

    `reason`: the provider's finish reason, where it is done. Where it is not: `error` says why, for readers; `kind` is
    the class of failure (`UpstreamError.kind`, or the state), `retryable` whether the same request may succeed later,
    and `retry_after` after how many seconds, where that is known.
    """

    state: State
    reason: str | None = None
    error: str | None = None
    usage: Usage | None = None
    kind: str | None = None
    retryable: bool = False
    retry_after: float | None = None

    @property
    def whole(self) -> bool:
        """Whether the text is all that the model had to say: neither cut at a bound, nor withheld, nor a tool call."""
        return self.state is State.DONE and self.reason in (None, "stop")

    def failure(self) -> dict[str, object]:
        """What error events say beside their message."""
        said: dict[str, object] = {"kind": self.kind or str(self.state), "retryable": self.retryable}
        if self.retry_after is not None:
            said["retry_after"] = self.retry_after
        return said


def outcome_events(outcome: Outcome) -> tuple[Event, Event, Event]:
    """The `finish`, `end` and `last` events of a topic."""
    usage = outcome.usage
    data = {
        "state": outcome.state,
        "reason": outcome.reason,
        "error": outcome.error,
        "usage": None if usage is None else {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        "kind": outcome.kind,
        "retryable": outcome.retryable,
        "retry_after": outcome.retry_after,
    }
    text = json_data(data)
    return Event(text, "finish"), Event(text, "end"), Event(text, "last")


def outcome_of(data: str) -> Outcome:
    """The outcome that the data of a `finish`, `end` or `last` event says."""
    said = json.loads(data)
    usage = said.pop("usage")
    return Outcome(State(said.pop("state")), usage=None if usage is None else Usage(**usage), **said)
