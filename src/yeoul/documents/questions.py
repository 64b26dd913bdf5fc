"""The keywords of a question, and the part of a passage to show. Pure.

Most words of a question occur in every text: `how do I`, `무엇인가요`. They are ignored, and a passage is found only if
it contains enough of the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from .words import match_any, plain_text, terms

__all__ = ["MOST_KEYWORDS", "Keyword", "enough", "keywords", "snippet"]

# The first words of a longer question are enough: each word costs a query of the index.
MOST_KEYWORDS = 32
# Terms of one word: a sentence in Chinese or Japanese is one run without spaces.
_MOST_TERMS = 16
# The share of a question's keywords that a passage must contain. A third: people ask in more words than texts use.
_SHARE = 1 / 3

SNIPPET_CHARS = 200
# Characters of a snippet before the first keyword.
_LEAD_CHARS = 40

_ENGLISH_WORDS = """
    a about all also am an and any are as at be been but by can could did do does doing done else for from get gets give
    had has have how i if in into is it its just like make many may me more most much must my need no not of on one or
    other our please should so some such tell than that the their them then there these they this those to us use used
    using very was we were what when where which while who whom whose why will with would you your explain describe mean
    means happen happens possible work works
"""
_ENGLISH = frozenset(_ENGLISH_WORDS.split())
# Beginnings of common words, which have many endings: question words, to be, to do, to exist, to know, please.
_KOREAN_STEMS = """
    무엇 무슨 뭐 뭔 뭘 어떻 어떤 어떠 어디 어느 언제 누구 누가 얼마 왜 있는 있나 있습 있어 있을 있다 있으
    없나 없는 없으 없을 없다 하는 하나 하면 하려 하고 해야 해줘 합니 할까 할수 한다 했을 되나 되는 되면 됩니 된다 될까
    돼 알려 설명 말해 가르 쓰나 쓰는 쓰면 쓰려 써야 씁니 주세 주나 대해 대한 관해 관한 인가 이란 란 입니 인지 나요 까요
    그리 그런 이런 저런 그것 이것 저것 우리 당신 때문 경우
"""
_KOREAN = tuple(_KOREAN_STEMS.split())
_PARTICLES = "은는이가을를의에와과도로만"
# Common words of one syllable, and particles after a Latin word (`SSE를`).
_KOREAN_SYLLABLES = frozenset(_PARTICLES + "수것거그저제내네니나요좀할한된될등및더또게께란든데지고면서쓸쓴")

_WORD = re.compile(r"[^\W_]+")
_HANGUL = re.compile(r"[\uac00-\ud7a3]+")


@dataclass(frozen=True, slots=True)
class Keyword:
    """One keyword. `query` finds passages with any of its terms, `stem` those that contain the word: a CJK word by its
    first pairs, since endings follow."""

    word: str
    query: str
    stem: str


def keywords(question: str) -> list[Keyword]:
    """The question's words without the common ones; all of them if all are common."""
    words = dict.fromkeys(part for word in _WORD.findall(plain_text(question)) for part in _by_script(word))
    telling = [word for word in words if not _is_common(word)]
    return [_keyword(word) for word in (telling or list(words))[:MOST_KEYWORDS]]


def enough(found: int, asked: int) -> bool:
    """Whether a passage with `found` of `asked` keywords fits the question."""
    return found >= max(1, ceil(asked * _SHARE - 1e-9))


def snippet(text: str, question: Sequence[Keyword]) -> str:
    """The part of the text around the first keyword, on one line, at most SNIPPET_CHARS long."""
    line = " ".join(text.split())
    if len(line) <= SNIPPET_CHARS:
        return line
    lower = line.lower()
    places = [at for keyword in question if (at := lower.find(_beginning(keyword.word))) >= 0]
    start = max(0, min(min(places, default=0) - _LEAD_CHARS, len(line) - SNIPPET_CHARS))
    if start:
        space = line.find(" ", start)
        start = space + 1 if 0 <= space < start + _LEAD_CHARS else start
    end = min(len(line), start + SNIPPET_CHARS - 2)
    if end < len(line):
        space = line.rfind(" ", start + SNIPPET_CHARS // 2, end)
        end = space if space > 0 else end
    return ("…" if start else "") + line[start:end].strip() + ("…" if end < len(line) else "")


def _by_script(word: str) -> list[str]:
    """`SSE를` is two words: `terms` splits where the script changes."""
    if word.isascii() or _HANGUL.fullmatch(word):
        return [word.lower()]
    return [part.lower() for part in re.findall(r"[\uac00-\ud7a3]+|[^\uac00-\ud7a3]+", word)]


def _is_common(word: str) -> bool:
    if _HANGUL.match(word):
        return word in _KOREAN_SYLLABLES or word.startswith(_KOREAN)
    return word in _ENGLISH or (len(word) == 1 and word.isascii() and word.isalpha())


def _keyword(word: str) -> Keyword:
    parts = list(dict.fromkeys(terms(word)))[:_MOST_TERMS]
    if _HANGUL.match(word) and len(word) == 2 and word[1] in _PARTICLES:
        # A noun of one syllable and its particle (`키가`), which has other particles elsewhere (`키를`).
        query = match_any(" ".join([word, *(word[0] + particle for particle in _PARTICLES)])) + f' OR "{word[0]}"'
        return Keyword(word, query, query)
    if _HANGUL.match(word):
        return Keyword(word, match_any(" ".join(parts)), match_any(" ".join(parts[: ceil(len(parts) / 2)])))
    query = match_any(" ".join(parts))
    return Keyword(word, query, query)


def _beginning(word: str) -> str:
    """Roughly the part that a word shares with its inflected forms."""
    return word[:2] if _HANGUL.match(word) else word[: max(4, len(word) - 3)]
