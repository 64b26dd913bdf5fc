"""Text from outside, made fit for a terminal or one line of a log.

An event's data, a user's name or a topic can hold escape sequences, which a terminal obeys, line ends, which forge
lines of a log, and marks that turn the direction of writing, which make a line read as another one.
"""

from __future__ import annotations

import json
import re

__all__ = ["json_line", "printable"]

# What joins emoji and the letters of some scripts: without it a family falls apart into its members.
_JOINERS = "\u200c\u200d"

_QUICK = re.compile(r"[ -~]*")


def printable(text: str, keep: str = "") -> str:
    """The text with every character that is not printable (line ends too, unless they are in `keep`) written as
    Python and JSON write it: `\\n`, `\\u001b`. A backslash stays as it is."""
    if _QUICK.fullmatch(text) is not None:
        return text
    return "".join(char if char.isprintable() or char in _JOINERS or char in keep else _escaped(char) for char in text)


def json_line(value: object) -> str:
    """The value as JSON on one line that any reader of lines takes for one, and that every terminal can show. What JSON
    has no form for is written as its `repr`."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    # Between strings JSON has only printable characters here, so an escape never stands outside of one.
    return printable(text)


def _escaped(char: str) -> str:
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"  # the one control character that JSON lets pass
