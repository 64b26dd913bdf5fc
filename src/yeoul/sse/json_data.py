"""JSON text for a `data` line."""

from __future__ import annotations

import json
from json.encoder import encode_basestring

__all__ = ["json_data"]

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def json_data(value: object) -> str:
    """The value as JSON on one line, in UTF-8 rather than `\\uXXXX`, `, ` and `: ` as separators.

    U+2028, U+2029 and U+0085 are escaped all the same: readers that split with `str.splitlines()` cut the line there.
    Raises TypeError or ValueError for what JSON cannot hold (NaN and the infinities too: browsers refuse them).
    """
    text = encode_basestring(value) if type(value) is str else _encode(value)
    if not text.isascii():
        text = text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", "\\u0085")
    return text
