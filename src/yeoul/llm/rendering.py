"""Events of a generation's topic → the wire, in one dialect. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

from ..sse import Event, encode, json_data
from ..sse.encoder import encode_fields
from ..stream import END_EVENT, FINAL_MARK, Frame
from .answer import Answer
from .dialect import Dialect, WireEvent
from .outcome import Outcome, State, outcome_of

__all__ = ["control_encoder", "renderer", "snapshot"]

_Show = Callable[[str], WireEvent | None]


def renderer(
    dialect: Dialect, id_prefix: str = "", *, announce: bool = False, end_event: bool = False
) -> Callable[[Frame], bytes]:
    """Frames of a generation's topic → bytes. `announce`: show `start` too, whose id names the work before its first
    token comes. `end_event`: show `last` as `stream.end`, where the dialect's clients can bear it."""
    end_event = end_event and dialect.bears_control
    shows = _shows(dialect, announce=announce, end_event=end_event)
    pieces: dict[str, _Show] = {}  # of the parts so far, by the type of their events

    def is_last(event: Event) -> bool:
        """Whether nothing is shown after it."""
        if end_event or event.type == "last":
            return event.type == "last"
        if event.type not in ("finish", "end"):
            return False
        outcome = outcome_of(event.data)
        ended = event.type == "end" or dialect.end(outcome) is None
        return ended and dialect.last(outcome) is None

    def render(frame: Frame) -> bytes:
        event = frame.event
        kind = event.type
        show = pieces.get(kind)
        mark = ""
        if show is None:
            show = shows.get(kind)
            if show is None:
                show = pieces[kind] = _piece(dialect, kind)
            elif is_last(event):
                mark = FINAL_MARK
        shown = show(event.data)
        if shown is None:
            return b""
        return encode_fields(shown[1], shown[0], id=f"{id_prefix}{frame.epoch}-{frame.offset}{mark}")

    return render


def snapshot(dialect: Dialect, answer: Answer) -> list[WireEvent]:
    """The answer so far in as few events as possible. What follows in the topic goes on from there."""
    shows = _shows(dialect, announce=False, end_event=False)
    events = [Event("", "start"), *answer.compacted()]
    shown = ((shows.get(event.type) or _piece(dialect, event.type))(event.data) for event in events)
    return [event for event in shown if event is not None]


def _shows(dialect: Dialect, *, announce: bool, end_event: bool) -> dict[str, _Show]:
    """By type of event: all but the pieces of text."""
    begins = announce or dialect.always_starts

    def last(data: str) -> WireEvent | None:
        outcome = outcome_of(data)
        return (END_EVENT, json_data({"state": outcome.state})) if end_event else dialect.last(outcome)

    return {
        "start": lambda data: dialect.start() if begins else None,
        "step": lambda data: dialect.step(),
        "part": lambda data: dialect.part(json.loads(data)),
        "arguments": lambda data: dialect.arguments(json.loads(data)),
        "part.end": lambda data: dialect.part_end(json.loads(data)),
        "step.end": lambda data: dialect.step_end(),
        "transient": lambda data: dialect.transient(json.loads(data)),
        "usage": _nothing,
        "finish": lambda data: dialect.finish(outcome_of(data)),
        "end": lambda data: dialect.end(outcome_of(data)),
        "last": last,
    }


def _piece(dialect: Dialect, type: str) -> _Show:
    kind, _, index = type.rpartition(".")
    if kind not in ("text", "reasoning", "refusal") or not index.isdecimal():
        return _nothing
    return dialect.pieces(kind, int(index)) or _nothing


def _nothing(data: str) -> WireEvent | None:
    return None


# Events about the stream that a reader must hear of in any dialect, in words. Its clients take a stream that just ends
# for a whole answer.
_TROUBLE = {
    "stream.gap": "part of this answer is no longer kept: ask for the answer's full text",
    "stream.bye": "the server ended this stream before the answer's end: send its last id to read on",
}


def control_encoder(dialect: Dialect) -> Callable[[Event], bytes]:
    """How this dialect shows events about the stream itself. One that cannot show them still reports trouble, as an
    error."""
    if dialect.bears_control:
        return encode

    def control(event: Event) -> bytes:
        if not event.type.startswith("stream."):
            return encode(event)
        if event.type not in _TROUBLE:
            return b""
        shown = dialect.finish(Outcome(State.INCOMPLETE, error=_TROUBLE[event.type], retryable=True))
        return b"" if shown is None else encode(replace(event, data=shown[1], type=shown[0]))

    return control
