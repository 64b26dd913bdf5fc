"""Where a request's values go: JSON and URL templates. Pure.

A JSON template is any JSON value; a text of it that is `$name` and nothing else stands for the value of that name,
with its type. `$$…` is the text `$…`. Where a value is absent its field or list entry is left out. A URL template has
`{name}` in its path and as whole values of its query. Values are data in both: they cannot add a field, a path
segment or a query parameter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlsplit

from ..errors import InvalidParameters

__all__ = ["NAME", "fill_json", "fill_url", "json_slots", "json_text", "url_mistakes", "url_slots"]

# What values may be called: they stand after a `$` and between braces.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)

_SLOT = re.compile(rf"\$({NAME.pattern})", re.ASCII)
_PLACEHOLDER = re.compile(rf"\{{({NAME.pattern})\}}", re.ASCII)
_URL_TEXT = re.compile(r"[!-~]+")

_ABSENT = object()


def json_text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def json_slots(template: object) -> Iterator[str]:
    """The names that the template has. Raises ValueError for a text that begins with `$` and is no name."""
    match template:
        case str():
            slot = _SLOT.fullmatch(template)
            if slot is not None:
                yield slot[1]
            elif template.startswith("$") and not template.startswith("$$"):
                raise ValueError(
                    f"{template!r} begins with $ but is no parameter's name alone: write '$name', or '$$…' for a text "
                    "that begins with $"
                )
        case Mapping():
            for value in template.values():
                yield from json_slots(value)
        case list() | tuple():
            for value in template:
                yield from json_slots(value)


def fill_json(template: object, values: Mapping[str, object]) -> object:
    """The template with the values in it; None where all of it is absent."""
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
    """What is wrong with a URL template: `http(s)://host/path…`, or `/path…` for this same server."""
    if not _URL_TEXT.fullmatch(template):
        yield "a URL has neither spaces nor characters beyond ASCII: percent-encode them"
        return
    try:
        parts = urlsplit(template)
        port_is_wrong = parts.port is not None and not parts.port
    except ValueError as error:
        yield f"not a URL: {error}"
        return
    own = template.startswith("/") and not template.startswith("//")
    if not own and (parts.scheme not in ("http", "https") or not parts.hostname or port_is_wrong):
        yield "not a URL: give http://host/path or https://host/path, or /path for this same server"
    if parts.fragment:
        yield "a URL's fragment (#…) is never sent: leave it out"
    if "@" in parts.netloc:
        yield "a user or a password in a URL ends up in logs: use auth"
    if set("{}") & set(parts.netloc):
        yield "a request must not choose the host: parameters stand in the path or in the query"
    if set("{}") & set(_PLACEHOLDER.sub("", parts.path + parts.query)):
        yield "a brace that is no {name}: percent-encode it (%7B, %7D)"
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if _PLACEHOLDER.search(name) or (_PLACEHOLDER.search(value) and not _PLACEHOLDER.fullmatch(value)):
            yield f"{pair!r}: in a query a parameter is the whole value, as in lang={{lang}}"


def fill_url(template: str, values: Mapping[str, object]) -> str:
    """The URL with the values, percent-encoded. Raises InvalidParameters for one that no path segment can be."""
    head, mark, query = template.partition("?")
    path = "/".join(_segment(part, values) for part in head.split("/"))
    pairs = [filled for pair in query.split("&") if (filled := _pair(pair, values)) is not None]
    return path + mark + "&".join(pairs) if pairs else path


def _segment(template: str, values: Mapping[str, object]) -> str:
    names = list(url_slots(template))
    if not names:
        return template
    filled = _PLACEHOLDER.sub(lambda match: _quoted(values.get(match[1], "")), template)
    # These three would be taken for steps in the path, by us or by anything on the way (RFC 3986, 5.2.4).
    if filled in ("", ".", ".."):
        raise InvalidParameters([(names[0], f"{names[0]} is a part of a path: it cannot be empty, '.' or '..'")])
    return filled


def _pair(template: str, values: Mapping[str, object]) -> str | None:
    name, _, value = template.partition("=")
    slot = _PLACEHOLDER.fullmatch(value)
    if slot is None:
        return template or None
    return f"{name}={_quoted(values[slot[1]])}" if slot[1] in values else None


def _quoted(value: object) -> str:
    return quote(value if isinstance(value, str) else json_text(value), safe="")
