"""The dialects of Vercel's AI SDK: its UI message stream, one JSON chunk per event. Pure.

Source: https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol, and the schema of the chunks in the package `ai`. Every
version of the SDK calls the stream `v1`, but releases refuse members that came after them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..sse import json_data
from .answer import DONE
from .dialect import Dialect, GenerationInfo, WireEvent
from .outcome import Outcome, State

__all__ = ["AiSdk5", "AiSdk6", "AiSdk7"]

# What the SDK calls the reasons for which an answer ends.
_REASONS = {"stop": "stop", "length": "length", "content_filter": "content-filter", "tool_calls": "tool-calls"}

_INVALID_ARGUMENTS = "the arguments of this tool call are not valid JSON"


class _UIMessageStream(Dialect):
    """Ends with `finish`, `abort` (it was stopped) or `error`, and then `[DONE]`: without one of these the SDK takes an
    answer that was cut for a whole one.

    A delta may only follow the begin of its part in the same response, so that a client that has lost its connection
    reads the answer again from its `start`; `messageId` says that it is the same message. A refusal is shown as text.
    """

    always_starts: ClassVar[bool] = True
    headers: ClassVar[Mapping[str, str]] = {"x-vercel-ai-ui-message-stream": "v1"}
    # Whether the version knows these members.
    finish_reason: ClassVar[bool]
    abort_reason: ClassVar[bool]

    def __init__(self, info: GenerationInfo) -> None:
        self._message_id = info.message_id or info.id

    def start(self) -> WireEvent | None:
        return _chunk("start", messageId=self._message_id)

    def step(self) -> WireEvent | None:
        return _chunk("start-step")

    def step_end(self) -> WireEvent | None:
        return _chunk("finish-step")

    def delta(self, text: str) -> WireEvent:
        return _chunk("text-delta", id="0", delta=text)

    def pieces(self, kind: str, index: int) -> Callable[[str], WireEvent | None] | None:
        before = f'{{"type": "{_flow(kind)}-delta", "id": "{index}", "delta": '
        return lambda text: ("message", f"{before}{json_data(text)}}}")

    def part(self, part: Mapping[str, Any]) -> WireEvent | None:
        match part["kind"]:
            case "tool_call":
                return _chunk("tool-input-start", toolCallId=part["id"], toolName=part["name"])
            case "tool_result" if "error" in part:
                return _chunk("tool-output-error", toolCallId=part["id"], errorText=part["error"])
            case "tool_result":
                return _chunk("tool-output-available", toolCallId=part["id"], output=part["output"])
            case "source_url":
                return _chunk("source-url", sourceId=part["id"], url=part["url"], **_given(part, "title"))
            case "source_document":
                about = {"sourceId": part["id"], "mediaType": part["media_type"], "title": part["title"]}
                return _chunk("source-document", **about, **_given(part, "filename"))
            case "file":
                return _chunk("file", url=part["url"], mediaType=part["media_type"])
            case "note":
                return _data(part)
            case flow:
                return _chunk(f"{_flow(flow)}-start", id=str(part["index"]))

    def arguments(self, call: Mapping[str, Any]) -> WireEvent | None:
        return _chunk("tool-input-delta", toolCallId=call["id"], inputTextDelta=call["arguments"])

    def part_end(self, part: Mapping[str, Any]) -> WireEvent | None:
        if part["kind"] != "tool_call":
            return _chunk(f"{_flow(part['kind'])}-end", id=str(part["index"]))
        call = {"toolCallId": part["id"], "toolName": part["name"]}
        try:
            # Without arguments: a function that has none.
            value = json.loads(part["arguments"] or "{}", parse_constant=_refuse)
            return _chunk("tool-input-available", **call, input=value)
        except (ValueError, RecursionError):
            return _chunk("tool-input-error", **call, input=part["arguments"], errorText=_INVALID_ARGUMENTS)

    def transient(self, note: Mapping[str, Any]) -> WireEvent | None:
        return _data(note, transient=True)

    def finish(self, outcome: Outcome) -> WireEvent | None:
        if outcome.state is State.CANCELLED:
            return _chunk("abort", **({"reason": outcome.error} if self.abort_reason and outcome.error else {}))
        if outcome.state is not State.DONE:
            return _chunk("error", errorText=outcome.error or str(outcome.state))
        reason = _REASONS.get(outcome.reason or "stop", "other")
        return _chunk("finish", **({"finishReason": reason} if self.finish_reason else {}))

    def end(self, outcome: Outcome) -> WireEvent | None:
        return "message", DONE


class AiSdk7(_UIMessageStream):
    """The UI message stream as version 7 of the AI SDK knows it."""

    finish_reason = True
    abort_reason = True


class AiSdk6(_UIMessageStream):
    """The same for version 6, which knows no reason of an `abort`."""

    finish_reason = True
    abort_reason = False


class AiSdk5(_UIMessageStream):
    """The same for version 5, which knows no reasons at all."""

    finish_reason = False
    abort_reason = False


def _chunk(type: str, **members: Any) -> WireEvent:
    return "message", json_data({"type": type, **members})


def _flow(kind: str) -> str:
    return "reasoning" if kind == "reasoning" else "text"


def _data(note: Mapping[str, Any], **members: Any) -> WireEvent:
    return _chunk(f"data-{note['name']}", **_given(note, "id"), data=note["data"], **members)


def _given(part: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """An optional member is left out: the SDK refuses null."""
    return {name: part[name] for name in names if name in part}


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
