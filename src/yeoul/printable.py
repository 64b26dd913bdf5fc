"""Escapes untrusted text for a terminal or a line of the log.

An event's data, a user's name or a topic can contain escape sequences, which a terminal executes, line breaks, which
forge log lines, and bidirectional control characters, which change how a line reads.
"""

from __future__ import annotations

import json
import re

__all__ = ["json_line", "printable"]

# Joiners of emoji and of letters in some scripts: escaped, an emoji of a family would fall apart.
_JOINERS = "\u200c\u200d"

_QUICK = re.compile(r"[ -~]*")


def printable(text: str, keep: str = "") -> str:
    """The text with each unprintable character (line breaks too) escaped as in JSON: `\\n`, `\\u001b`. Characters in
    `keep` are left alone. A backslash is not escaped."""
    if _QUICK.fullmatch(text) is not None:
        return text
    return "".join(char if char.isprintable() or char in _JOINERS or char in keep else _escaped(char) for char in text)


def json_line(value: object) -> str:
    """The value as JSON on one line, safe for a terminal. Values that JSON cannot represent are written as their
    `repr`."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    # Outside of its strings this JSON has printable characters only, so that it stays JSON.
    return printable(text)


def _escaped(char: str) -> str:
    return (
        json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"
    )  # the one control character that JSON does not escape
