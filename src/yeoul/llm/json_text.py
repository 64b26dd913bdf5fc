"""The JSON in a model's answer, extracted while it streams. Pure.

Models that are asked for JSON put it in a code fence, write something before it, or leave a comma before a closing
bracket. What has been sent to a reader cannot be taken back, so this is corrected in the stream, not at the end.
"""

from __future__ import annotations

import re

__all__ = ["JsonText"]

# Where something may change: a bracket, a string's delimiter, a comma, and what can follow a comma.
_OUTSIDE = re.compile(r'[{}\[\]",]')
_IN_STRING = re.compile(r'["\\]')


class JsonText:
    """Passes on the first JSON object of a text that comes in pieces: nothing before its `{`, nothing after the
    matching `}`, no comma right before a closing bracket."""

    __slots__ = ("_depth", "_escaped", "_held", "_in_string", "over")

    def __init__(self) -> None:
        self.over = False  # the object is complete
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._held = ""  # a comma and the white space after it, until what follows is known

    def feed(self, piece: str) -> str:
        """What of this piece belongs to the object."""
        passed: list[str] = []
        at = 0
        while at < len(piece) and not self.over:
            if self._depth == 0:
                at = self._find_start(piece, at, passed)
            elif self._in_string:
                at = self._pass_string(piece, at, passed)
            else:
                at = self._pass_structure(piece, at, passed)
        return "".join(passed)

    def _find_start(self, piece: str, at: int, passed: list[str]) -> int:
        start = piece.find("{", at)
        if start < 0:
            return len(piece)
        self._depth = 1
        passed.append("{")
        return start + 1

    def _pass_string(self, piece: str, at: int, passed: list[str]) -> int:
        if self._escaped:
            self._escaped = False
            passed.append(piece[at])
            return at + 1
        found = _IN_STRING.search(piece, at)
        end = len(piece) if found is None else found.end()
        passed.append(piece[at:end])
        if found is not None:
            self._escaped = found[0] == "\\"
            self._in_string = self._escaped
        return end

    def _pass_structure(self, piece: str, at: int, passed: list[str]) -> int:
        if self._held:
            return self._settle(piece, at, passed)
        found = _OUTSIDE.search(piece, at)
        if found is None:
            passed.append(piece[at:])
            return len(piece)
        passed.append(piece[at : found.start()])
        match found[0]:
            case ",":
                self._held = ","
                return found.end()
            case '"':
                self._in_string = True
            case "{" | "[":
                self._depth += 1
            case _:
                self._depth -= 1
                self.over = self._depth == 0
        passed.append(found[0])
        return found.end()

    def _settle(self, piece: str, at: int, passed: list[str]) -> int:
        rest = piece[at:].lstrip()
        self._held += piece[at : len(piece) - len(rest)]
        if rest:
            passed.append(self._held.lstrip(",") if rest[0] in "}]" else self._held)
            self._held = ""
        return len(piece) - len(rest)
