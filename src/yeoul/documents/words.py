"""Text as search terms, for SQLite's FTS5. Pure.

Korean, Japanese and Chinese words are mostly two characters long and carry endings (`양파를`), so neither whole words
nor FTS5's trigrams find them: runs of such characters become overlapping pairs (`양파 파를`). Everything else is left
to FTS5's `porter unicode61` tokenizer, which folds case and accents and stems English.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

__all__ = ["has_hangul", "index_text", "match_all", "match_any", "plain_text", "terms"]

# Hangul syllables and Jamo, Kana, CJK ideographs with their extensions.
_CJK = (
    "\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U000323af"
)
_RUN = re.compile(f"[{_CJK}]+|[^\\W_{_CJK}]+")
_IS_CJK = re.compile(f"[{_CJK}]")
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")

_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# Control characters except tab and line feed, overrides of the writing direction, lone surrogates, private use.
_UNFIT = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ue000-\uf8ff]")


def plain_text(text: str) -> str:
    """The text in NFC with LF as line ends, without characters that cannot be stored, sent or displayed."""
    return unicodedata.normalize("NFC", _UNFIT.sub("", _BREAKS.sub("\n", text)))


def has_hangul(text: str) -> bool:
    """Whether the text contains Hangul. Such questions are answered in Korean."""
    return _HANGUL.search(text) is not None


def terms(text: str) -> Iterator[str]:
    """The terms of a text, in order: pairs of CJK characters (a single one stays single), other words in lower case."""
    for run in _RUN.findall(unicodedata.normalize("NFC", text)):
        if _IS_CJK.match(run) and len(run) > 2:
            yield from (run[at : at + 2] for at in range(len(run) - 1))
        else:
            yield run.lower()


def index_text(text: str) -> str:
    """The text to store in an FTS5 column so that the queries of `match_any` and `match_all` find it."""
    return " ".join(terms(text))


def match_any(text: str) -> str:
    """An FTS5 query for rows with any of the text's terms, best first by `bm25()`; "" where it has none."""
    return " OR ".join(_quoted(dict.fromkeys(terms(text))))


def match_all(text: str) -> str:
    """An FTS5 query for rows with all of the text's terms; "" where it has none."""
    return " AND ".join(_quoted(dict.fromkeys(terms(text))))


def _quoted(words: dict[str, None]) -> list[str]:
    # In double quotes AND, NEAR, column names and * have no special meaning.
    # A single CJK character (파) is the first of a pair in words that begin with it.
    return [f'"{word}"*' if len(word) == 1 and _IS_CJK.match(word) else f'"{word}"' for word in words]
