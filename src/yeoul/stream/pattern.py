"""Topics by pattern: one language for grants, for retention and for what is open to everybody."""

from __future__ import annotations

__all__ = ["TopicPattern"]


class TopicPattern:
    """`*` stands for any characters, `/` included; everything else for itself. Raises ValueError for an empty one.

    Linear in the name for each piece between stars: a pattern out of a token cannot make matching slow (which a
    regular expression of many `.*` can).
    """

    __slots__ = ("_first", "_last", "_middle", "text")

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("a pattern of topics is not empty: name a topic, or use `*`")
        self.text = text
        first, *rest = text.split("*")
        self._first = first
        self._last = rest.pop() if rest else None  # None: without a star, an exact name
        self._middle = [piece for piece in rest if piece]

    def fits(self, name: str) -> bool:
        if self._last is None:
            return name == self._first
        if not name.startswith(self._first):
            return False
        at = len(self._first)
        for piece in self._middle:
            found = name.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        return len(name) - len(self._last) >= at and name.endswith(self._last)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TopicPattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"TopicPattern({self.text!r})"
