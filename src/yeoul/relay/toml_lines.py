"""Where in a TOML file a value stands: the parser of the standard library does not say. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["Place", "line_of", "toml_lines"]

# Keys and indexes, as in ("routes", 0, "parameters", "lang", "type").
Place = tuple[str | int, ...]

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"""[ \t]*(?:"(?P<basic>(?:[^"\\\n]|\\.)*)"|'(?P<literal>[^'\n]*)'|(?P<bare>[A-Za-z0-9_-]+))[ \t]*""")
_STRING = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL)
_SCALAR = re.compile(r"[^,\]}\n#]*")


def toml_lines(text: str) -> dict[Place, int]:
    """The line (from 1) of every table, key and entry. `text` must be TOML that was read without a mistake."""
    return dict(_Scanner(text).places())


def line_of(place: Place, lines: dict[Place, int]) -> int:
    """The line of this place, or of the nearest that it is in; 1 where none is in the file."""
    return next((lines[place[:length]] for length in range(len(place), 0, -1) if place[:length] in lines), 1)


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = (0, 1)  # up to this position there are so many lines
        self._arrays: dict[Place, int] = {}  # arrays of tables, and the index of the table being read

    def places(self) -> Iterator[tuple[Place, int]]:
        table: Place = ()
        while self._skip():
            line = self._line()
            if self._text[self._at] != "[":
                yield from self._pair(table)
                continue
            is_array = self._text.startswith("[[", self._at)
            self._at += 1 + is_array
            *outer, last = self._keys()
            self._at += 1 + is_array
            table = self._inside((*self._walk(outer), last), begin=is_array)
            if is_array:
                yield table[:-1], line
            yield table, line

    def _walk(self, keys: list[str]) -> Place:
        place: Place = ()
        for key in keys:
            place = self._inside((*place, key))
        return place

    def _inside(self, place: Place, *, begin: bool = False) -> Place:
        """The place, or the table of it that is being read where it is an array of tables."""
        if begin:
            self._arrays[place] = self._arrays.get(place, -1) + 1
        return (*place, self._arrays[place]) if place in self._arrays else place

    def _pair(self, table: Place) -> Iterator[tuple[Place, int]]:
        line = self._line()
        place = table
        for key in self._keys():
            place = (*place, key)
            yield place, line
        self._at += 1  # =
        yield from self._value(place)

    def _keys(self) -> list[str]:
        keys = []
        while True:
            match = _KEY.match(self._text, self._at)
            assert match is not None
            keys.append(next(part for part in match.groups() if part is not None))
            self._at = match.end()
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, place: Place) -> Iterator[tuple[Place, int]]:
        self._skip()
        first = self._text[self._at]
        if first == "[":
            yield from self._array(place)
        elif first == "{":
            self._at += 1
            while self._skip() and self._text[self._at] != "}":
                yield from self._pair(place)
                self._comma()
            self._at += 1
        else:
            match = _STRING.match(self._text, self._at) or _SCALAR.match(self._text, self._at)
            assert match is not None
            self._at = match.end()

    def _array(self, place: Place) -> Iterator[tuple[Place, int]]:
        self._at += 1
        index = 0
        while self._skip() and self._text[self._at] != "]":
            yield (*place, index), self._line()
            yield from self._value((*place, index))
            self._comma()
            index += 1
        self._at += 1

    def _comma(self) -> None:
        if self._skip() and self._text[self._at] == ",":
            self._at += 1

    def _skip(self) -> bool:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        return self._at < len(self._text)

    def _line(self) -> int:
        position, line = self._counted
        self._counted = (self._at, line + self._text.count("\n", position, self._at))
        return self._counted[1]
