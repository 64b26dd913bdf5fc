"""Messages of the AI SDK: what its clients send, and what an answer becomes as one. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .answer import Answer, Part
from .provider import Message

__all__ = ["messages_of", "ui_message"]

_ROLES: Mapping[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
}


def ui_message(answer: Answer, id: str) -> dict[str, Any]:
    """The answer as the `UIMessage` that a client has of it. A tool call that has no complete arguments is left out:
    nothing can be done with it."""
    parts, step = list[dict[str, Any]](), 0
    tools: dict[str, dict[str, Any]] = {}
    for part in answer.parts:
        parts += [{"type": "step-start"} for _ in range(part.step - step)]
        step = max(step, part.step)
        if part.kind == "tool_result":
            tools[part.about["id"]].update(_result(part))
        else:
            shown = _ui_part(part)
            parts += [] if shown is None else [shown]
            if part.kind == "tool_call":
                tools[part.about["id"]] = {} if shown is None else shown
    return {"id": id, "role": "assistant", "parts": parts}


def messages_of(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The texts of a conversation of UI messages, as a provider is asked. Messages without text are left out."""
    found = []
    for message in messages:
        parts = message.get("parts")
        texts = [part.get("text") for part in parts if _is_text(part)] if isinstance(parts, list) else []
        text = "".join(text for text in texts if isinstance(text, str))
        role = _ROLES.get(str(message.get("role")))
        if text and role is not None:
            found.append(Message(role, text))
    return found


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text"


def _ui_part(part: Part) -> dict[str, Any] | None:
    about = part.about
    match part.kind:
        case "text" | "refusal":
            return {"type": "text", "text": part.text, "state": "done"}
        case "reasoning":
            return {"type": "reasoning", "id": str(part.index), "text": part.text, "state": "done"}
        case "tool_call":
            return _tool(part)
        case "source_url":
            named = {"title": about["title"]} if "title" in about else {}
            return {"type": "source-url", "sourceId": about["id"], "url": about["url"], **named}
        case "source_document":
            named = {"filename": about["filename"]} if "filename" in about else {}
            document = {"sourceId": about["id"], "mediaType": about["media_type"], "title": about["title"]}
            return {"type": "source-document", **document, **named}
        case "file":
            return {"type": "file", "mediaType": about["media_type"], "url": about["url"]}
    named = {"id": about["id"]} if "id" in about else {}
    return {"type": f"data-{about['name']}", **named, "data": about["data"]}


def _tool(call: Part) -> dict[str, Any] | None:
    if not call.ended:
        return None
    tool = {"type": f"tool-{call.about['name']}", "toolCallId": call.about["id"]}
    try:
        return {**tool, "state": "input-available", "input": json.loads(call.text or "{}")}
    except (ValueError, RecursionError):
        return {**tool, "state": "output-error", "rawInput": call.text, "errorText": "invalid arguments"}


def _result(result: Part) -> dict[str, Any]:
    if "error" in result.about:
        return {"state": "output-error", "errorText": result.about["error"]}
    return {"state": "output-available", "output": result.about["output"]}
