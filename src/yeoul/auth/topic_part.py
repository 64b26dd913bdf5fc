"""A user's id, or any other text, as one part of a topic's name."""

from __future__ import annotations

import unicodedata

__all__ = ["topic_part"]

_PLAIN = frozenset("-_.:@+=,")


def topic_part(text: str) -> str:
    """Letters and digits of any script and ``- _ . : @ + = ,`` stand as they are, every other character as `~` and two
    hexadecimal digits for each of its UTF-8 bytes: `auth0|42` is `auth0~7C42`. Two texts never share a part.

    Raises ValueError for an empty text.
    """
    if not text:
        raise ValueError("a part of a topic's name is not empty")
    if text in (".", ".."):
        return text.replace(".", "~2E")
    return "".join(char if _is_plain(char) else _escaped(char) for char in text)


def _is_plain(char: str) -> bool:
    return char in _PLAIN or unicodedata.category(char)[0] in "LN"


def _escaped(char: str) -> str:
    return "".join(f"~{byte:02X}" for byte in char.encode(errors="surrogatepass"))
