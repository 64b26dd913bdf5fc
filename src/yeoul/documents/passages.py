"""Splitting a document into passages: the units that are found, given to the model and cited. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["OVERLAP_CHARS", "PASSAGE_CHARS", "Piece", "Section", "cut"]

# A few paragraphs: enough to answer from, and twenty passages fit a context window of 16 000 tokens.
PASSAGE_CHARS = 900
# A sentence or two are repeated, so that a sentence at a cut is whole in one of the two passages.
OVERLAP_CHARS = 120

# Where a paragraph that is too long is split, best first: between lines (of a table, of code), sentences, words.
_CUTS = ("\n", ". ", "? ", "! ", "。", " ")


@dataclass(frozen=True, slots=True)
class Section:
    """The text below one heading. `heading` is its path, such as `Answers › Dialects`; "" above the first heading."""

    heading: str
    paragraphs: Sequence[str]


@dataclass(frozen=True, slots=True)
class Piece:
    """One passage: its section's heading, and its text."""

    heading: str
    text: str


def cut(sections: Iterable[Section]) -> list[Piece]:
    """The passages, in order. None crosses a heading, none is longer than PASSAGE_CHARS."""
    return [Piece(section.heading, text) for section in sections for text in _pack(section.paragraphs)]


def _pack(paragraphs: Sequence[str]) -> Iterator[str]:
    """Paragraphs joined while they fit; each passage after the first begins with the end of the one before."""
    text, fresh = "", False
    for part in (part for paragraph in paragraphs for part in _split(paragraph.strip())):
        joined = f"{text}\n\n{part}" if text else part
        if len(joined) <= PASSAGE_CHARS:
            text, fresh = joined, True
            continue
        if fresh:
            yield text
        tail = _tail(text)
        text = f"{tail}\n\n{part}" if tail and len(tail) + 2 + len(part) <= PASSAGE_CHARS else part
        fresh = True
    if fresh:
        yield text


def _split(paragraph: str) -> Iterator[str]:
    """The paragraph in parts that leave room for an overlap before them."""
    longest = PASSAGE_CHARS - OVERLAP_CHARS - 2
    start = 0
    while len(paragraph) - start > longest:
        end = _cut_before(paragraph, start + longest // 2, start + longest)
        yield paragraph[start:end].strip()
        start = end
    if paragraph[start:].strip():
        yield paragraph[start:].strip()


def _cut_before(text: str, earliest: int, latest: int) -> int:
    for mark in _CUTS:
        at = text.rfind(mark, earliest, latest)
        if at >= 0:
            return at + len(mark)
    return latest


def _tail(text: str) -> str:
    """The end of the text, at most OVERLAP_CHARS long, starting with a line, a sentence or a word."""
    start = len(text) - OVERLAP_CHARS
    if start <= 0:
        return text
    for mark in _CUTS:
        at = text.find(mark, start)
        if 0 <= at < len(text) - OVERLAP_CHARS // 4:
            return text[at + len(mark) :].strip()
    return text[start:].strip()
