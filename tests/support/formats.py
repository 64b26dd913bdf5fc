"""How a streamed answer is written in OpenAI's two APIs, for the scripted upstream."""

from __future__ import annotations

import json
from typing import Any, Protocol

__all__ = ["CHAT", "INPUT_TOKENS", "RESPONSES", "Format", "usage_of"]

INPUT_TOKENS = 12


class Format(Protocol):
    """How an answer is written in one of the two APIs: each method is what it says, as one event or none."""

    def begin(self) -> bytes: ...
    def token(self, text: str) -> bytes: ...
    def finish(self, reason: str, usage: dict[str, int] | None) -> bytes: ...
    def error(self, message: str) -> bytes: ...
    def whole(self, text: str, usage: dict[str, int]) -> dict[str, Any]: ...

    @property
    def done(self) -> bytes: ...


class _Chat:
    done = b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> bytes:
        return _event({**self._head(), "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    def _head(self, kind: str = "chat.completion.chunk") -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": "scripted-1"}

    def begin(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def token(self, text: str) -> bytes:
        return self._chunk({"content": text})

    def finish(self, reason: str, usage: dict[str, int] | None) -> bytes:
        last = _event({**self._head(), "choices": [], "usage": _chat_usage(usage)}) if usage else b""
        return self._chunk({}, reason) + last

    def error(self, message: str) -> bytes:
        return _event({"error": {"message": message, "type": "server_error", "code": None}})

    def whole(self, text: str, usage: dict[str, int]) -> dict[str, Any]:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {**self._head("chat.completion"), "choices": [choice], "usage": _chat_usage(usage)}


class _Responses:
    done = b""

    def _response(self, status: str, text: str = "", **fields: Any) -> dict[str, Any]:
        part = {"type": "output_text", "text": text, "annotations": []}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        output = [item] if text else []
        return {"id": "resp_1", "object": "response", "status": status, "output": output, "error": None, **fields}

    def begin(self) -> bytes:
        return _event({"type": "response.created", "sequence_number": 0, "response": self._response("in_progress")})

    def token(self, text: str) -> bytes:
        ids = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "sequence_number": 1, "logprobs": []}
        return _event({"type": "response.output_text.delta", "delta": text, **ids})

    def finish(self, reason: str, usage: dict[str, int] | None) -> bytes:
        status = "completed" if reason == "stop" else "incomplete"
        details = {"reason": "max_output_tokens" if reason == "length" else reason} if reason != "stop" else None
        response = self._response(status, usage=usage, incomplete_details=details)
        return _event({"type": f"response.{status}", "sequence_number": 2, "response": response})

    def error(self, message: str) -> bytes:
        return _event({"type": "error", "code": "server_error", "message": message, "sequence_number": 2})

    def whole(self, text: str, usage: dict[str, int]) -> dict[str, Any]:
        return self._response("completed", text, usage=usage)


CHAT, RESPONSES = _Chat(), _Responses()


def _event(value: dict[str, Any]) -> bytes:
    name = f"event: {value['type']}\n" if "type" in value else ""
    return f"{name}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def _chat_usage(usage: dict[str, int] | None) -> dict[str, int] | None:
    if usage is None:
        return None
    names = {"input_tokens": "prompt_tokens", "output_tokens": "completion_tokens", "total_tokens": "total_tokens"}
    return {names[name]: count for name, count in usage.items()}


def usage_of(output: int) -> dict[str, int]:
    return {"input_tokens": INPUT_TOKENS, "output_tokens": output, "total_tokens": INPUT_TOKENS + output}
