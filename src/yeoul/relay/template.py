"""JSON and URL templates, and how values are put into them. Pure.

A JSON template is any JSON value. A string in it that is exactly `$name` is replaced by the value of that name, with
its type; `$$…` is the string `$…`. Where a value is absent its field or list entry is left out. A URL template has
`{name}` in its path and as whole values in its query. Values are data in both: they cannot add a field, a path segment
or a query parameter.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote, urlsplit

from ..errors import InvalidParameters

__all__ = ["NAME", "fill_json", "fill_url", "json_slots", "json_text", "url_mistakes", "url_slots"]

# The names of values: after a `$`, and between braces.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)

_SLOT = re.compile(rf"\$({NAME.pattern})", re.ASCII)
_PLACEHOLDER = re.compile(rf"\{{({NAME.pattern})\}}", re.ASCII)
_URL_TEXT = re.compile(r"[!-~]+")
_SEPARATORS = re.compile(r"[/\\]")

_ABSENT = object()


def json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def json_slots(template: object) -> Iterator[str]:
    """The names in the template. Raises ValueError for a string that begins with `$` and is not `$name`."""
    match template:
        case str():
            slot = _SLOT.fullmatch(template)
            if slot is not None:
                yield slot[1]
            elif template.startswith("$") and not template.startswith("$$"):
                raise ValueError(
                    f"{template!r} begins with $ but is not the name of a parameter: write '$name', or '$$…' for a "
                    "string that begins with $"
                )
        case Mapping():
            for value in template.values():
                yield from json_slots(value)
        case list() | tuple():
            for value in template:
                yield from json_slots(value)


def fill_json(template: object, values: Mapping[str, object]) -> object:
    """The template with its values; None where all of it is absent."""
    filled = _fill(template, values)
    return None if filled is _ABSENT else filled


def _fill(template: object, values: Mapping[str, object]) -> object:
    match template:
        case str():
            slot = _SLOT.fullmatch(template)
            if slot is not None:
                return values.get(slot[1], _ABSENT)
            return template[1:] if template.startswith("$$") else template
        case Mapping():
            filled = ((name, _fill(value, values)) for name, value in template.items())
            return {name: value for name, value in filled if value is not _ABSENT}
        case list() | tuple():
            return [value for value in (_fill(value, values) for value in template) if value is not _ABSENT]
    return template


def url_slots(template: str) -> Iterator[str]:
    return (match[1] for match in _PLACEHOLDER.finditer(template))


def url_mistakes(template: str) -> Iterator[str]:
    """What is wrong with a URL template: `http(s)://host/path…`, or `/path…` on this same server."""
    if not _URL_TEXT.fullmatch(template):
        yield "a URL has neither spaces nor characters outside ASCII: percent-encode them"
        return
    try:
        parts = urlsplit(template)
        port_is_wrong = parts.port is not None and not parts.port
    except ValueError as error:
        yield f"not a valid URL: {error}"
        return
    own = template.startswith("/") and not template.startswith("//")
    if not own and (parts.scheme not in ("http", "https") or not parts.hostname or port_is_wrong):
        yield "not a valid URL: give http://host/path or https://host/path, or /path on this same server"
    if parts.fragment:
        yield "the fragment of a URL (#…) is never sent: leave it out"
    if "@" in parts.netloc:
        yield "a user name or password in a URL ends up in logs: use auth"
    if set("{}") & set(parts.netloc):
        yield "a request must not choose the host: use parameters in the path or in the query"
    if set("{}") & set(_PLACEHOLDER.sub("", parts.path + parts.query)):
        yield "a brace that is not part of {name}: percent-encode it (%7B, %7D)"
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if _PLACEHOLDER.search(name) or (_PLACEHOLDER.search(value) and not _PLACEHOLDER.fullmatch(value)):
            yield f"{pair!r}: in a query a parameter is the whole value, as in lang={{lang}}"


def fill_url(template: str, values: Mapping[str, object]) -> str:
    """The URL with the values, percent-encoded. Raises InvalidParameters for a value that cannot be a path segment."""
    head, mark, query = template.partition("?")
    path = "/".join(_segment(part, values) for part in head.split("/"))
    pairs = [filled for pair in query.split("&") if (filled := _pair(pair, values)) is not None]
    return path + mark + "&".join(pairs) if pairs else path


def _segment(template: str, values: Mapping[str, object]) -> str:
    # Texts at even indexes, names at odd ones.
    pieces = _PLACEHOLDER.split(template)
    if len(pieces) == 1:
        return template
    texts = [_text(values.get(piece, "")) if index % 2 else piece for index, piece in enumerate(pieces)]
    # Values are checked together, since two of them may be a separator or a step only together. A separator that the
    # template itself encodes is meant.
    plain = "".join(text if index % 2 else _SEPARATORS.sub("_", unquote(text)) for index, text in enumerate(texts))
    if any(_is_step(form) or _separates(form) for form in _decoded(plain)):
        said = "it cannot be empty, '.' or '..', or contain '/', '\\' or a control character, encoded or not"
        raise InvalidParameters([(pieces[1], f"{pieces[1]} is a segment of a path: {said}")])
    return "".join(quote(text, safe="") if index % 2 else text for index, text in enumerate(texts))


# How often a value is decoded while it is checked. Proxies and servers decode a path before they look at it, some of
# them twice; a value that is encoded more often than that has no honest use.
_MAX_DECODINGS = 3


def _decoded(text: str) -> Iterator[str]:
    """What servers on the way may make of a text: percent-decoded again and again, and with the look-alikes of ASCII
    characters replaced (NFKC, as some file systems do)."""
    for _ in range(_MAX_DECODINGS + 1):
        yield text
        yield unicodedata.normalize("NFKC", text)
        decoded = unquote(text)
        if decoded == text:
            return
        text = decoded
    yield "/"  # encoded too often: refused like a separator


def _separates(text: str) -> bool:
    """Whether some server takes it for more than one segment, or for its end. U+FFFD: bytes that are not UTF-8, such
    as the overlong form of a dot or a slash."""
    return any(char in "/\\\ufffd" or unicodedata.category(char) == "Cc" for char in text)


def _is_step(text: str) -> bool:
    """Whether it is empty or a step in the path (RFC 3986, 5.2.4), with or without a parameter (`..;x`)."""
    return text.partition(";")[0] in ("", ".", "..")


def _pair(template: str, values: Mapping[str, object]) -> str | None:
    name, _, value = template.partition("=")
    slot = _PLACEHOLDER.fullmatch(value)
    if slot is None:
        return template or None
    return f"{name}={_quoted(values[slot[1]])}" if slot[1] in values else None


def _quoted(value: object) -> str:
    return quote(_text(value), safe="")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json_text(value)
