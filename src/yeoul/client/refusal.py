"""What an upstream says of an error: made short, readable and free of secrets, for logs and operators."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

import msgspec

__all__ = ["REDACTED", "complaint", "error_message", "readable", "redact"]

REDACTED = "[redacted]"

# The usual forms of keys. They are wider than what we send: servers echo keys in part, or masked with stars.
_KEYS = re.compile(r"\b(?:sk|pk|rk|hf|gsk|xai|key)[-_][\w*.…-]{4,}|\bBearer\s+[^\s\"',;<>]+", re.IGNORECASE)

# Shorter values are placeholders ("x", "-") that local servers are given: replacing them would garble every message.
_SHORTEST_SECRET = 4

# `message` first: beside it `error` is often only the status in words.
_MESSAGE_KEYS = ("message", "error", "detail", "error_description", "msg", "title", "code")

# `[^<>]`, not `[^>]`: a page of many `<` must not cost the square of its length.
_TITLE = re.compile(r"<title[^<>]*>([^<]*)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def redact(text: str, secrets: Sequence[str] = ()) -> str:
    """The text without these secrets and without anything that looks like an API key."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, REDACTED)
    return _KEYS.sub(REDACTED, text)


def readable(text: str, secrets: Sequence[str] = (), limit: int = 300) -> str:
    """One printable line of at most `limit` characters, redacted.

    Redacted before it is cut: half a key is a secret too. Control characters go, since the text ends up in
    terminals and logs.
    """
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    line = redact(line, secrets)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def complaint(body: bytes, content_type: str = "", charset: str | None = None, secrets: Sequence[str] = ()) -> str:
    """What the body of an error response says: JSON of any usual shape, also as the first event of an event stream,
    HTML or plain text; "" where it says nothing."""
    text = _without_framing(_decode(body, charset))
    try:
        message = error_message(msgspec.json.decode(text))
    except (msgspec.DecodeError, RecursionError):
        message = _text_of(text) if "html" in content_type or text.lstrip()[:1] == "<" else text
    return readable(message or "", secrets)


def error_message(value: object, depth: int = 4) -> str:
    """The message in a decoded error value; "" where there is none.

    Servers nest it differently: OpenAI `{"error": {"message"}}`, TGI and Ollama `{"error": "…"}`, FastAPI
    `{"detail": "…" | [{"msg"}]}`, Google `[{"error": {"message"}}]`, RFC 9457 `{"title", "detail"}`.
    """
    if isinstance(value, str):
        return value
    if depth == 0:
        return ""
    if isinstance(value, list):
        return "; ".join(filter(None, (error_message(item, depth - 1) for item in value[:3])))
    if isinstance(value, dict):
        return next(filter(None, (error_message(value.get(key), depth - 1) for key in _MESSAGE_KEYS)), "")
    return ""


def _without_framing(text: str) -> str:
    """The data of the first event, where the text is an event stream."""
    if not text.lstrip("\ufeff").startswith(("data:", "event:")):
        return text
    block = text.replace("\r\n", "\n").partition("\n\n")[0]
    lines = [line.removeprefix("data:") for line in block.split("\n") if line.startswith("data:")]
    return "\n".join(line.removeprefix(" ") for line in lines)


def _decode(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(charset or "utf-8", "replace")
    except (LookupError, UnicodeError):  # an unknown charset, or a codec that is not one
        return body.decode("utf-8", "replace")


def _text_of(page: str) -> str:
    title = _TITLE.search(page)
    return html.unescape(title[1] if title and title[1].strip() else _TAG.sub(" ", page))
