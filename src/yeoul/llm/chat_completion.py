"""An answer as a whole, in the form of OpenAI's Chat Completions API. Pure."""

from __future__ import annotations

from typing import Any

from .answer import Answer
from .dialect import GenerationInfo
from .dialects import usage_counts
from .outcome import Outcome

__all__ = ["chat_completion"]


def chat_completion(info: GenerationInfo, answer: Answer, outcome: Outcome) -> dict[str, Any]:
    """The `chat.completion` of an answer that is done."""
    texts = {
        kind: [part.text for part in answer.parts if part.kind == kind] for kind in ("text", "refusal", "reasoning")
    }
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(texts["text"]) if texts["text"] else None,
        "refusal": "".join(texts["refusal"]) or None,
    }
    if texts["reasoning"]:
        message["reasoning_content"] = "".join(texts["reasoning"])
    calls = [
        {
            "id": part.about["id"],
            "type": "function",
            "function": {"name": part.about["name"], "arguments": part.text},
        }
        for part in answer.parts
        if part.kind == "tool_call"
    ]
    if calls:
        message["tool_calls"] = calls
    completion: dict[str, Any] = {
        "id": f"chatcmpl-{info.id}",
        "object": "chat.completion",
        "created": info.created,
        "model": info.model,
        "choices": [
            {"index": 0, "message": message, "logprobs": None, "finish_reason": outcome.reason or "stop"},
        ],
    }
    if outcome.usage is not None:
        completion["usage"] = usage_counts(outcome.usage)
    return completion
