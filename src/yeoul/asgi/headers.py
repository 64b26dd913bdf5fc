"""The header fields of a request, indexed once, and the structures that RFC 9110 gives their values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from starlette.types import Scope

__all__ = ["RawHeaders", "accepts", "headers_of", "list_members", "media_type", "text_of"]

# Where they are kept in the ASGI scope.
_KEY = "yeoul.headers"


class RawHeaders:
    """Fields as ASGI gives them: names in lower case, both as bytes."""

    __slots__ = ("_all", "_first", "repeated")

    def __init__(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self._all = fields
        self._first = dict(reversed(fields))
        self.repeated = len(self._first) != len(fields)  # whether some field occurs more than once

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field of this name."""
        return self._first.get(name)

    def text(self, name: bytes) -> str | None:
        """The same, decoded as ISO 8859-1 (RFC 9110, 5.5)."""
        value = self._first.get(name)
        return None if value is None else value.decode("latin-1")

    def all(self, name: bytes) -> list[bytes]:
        """The values of all fields of this name, in the order in which they were sent."""
        if name not in self._first:
            return []
        if not self.repeated:
            return [self._first[name]]
        return [value for found, value in self._all if found == name]

    def has_any(self, names: frozenset[bytes]) -> bool:
        return not names.isdisjoint(self._first)

    def __contains__(self, name: bytes) -> bool:
        return name in self._first


def headers_of(scope: Scope) -> RawHeaders:
    """Those of the request, which are indexed at the first call."""
    headers: RawHeaders | None = scope.get(_KEY)
    if headers is None:
        headers = scope[_KEY] = RawHeaders(scope["headers"])
    return headers


def text_of(scope: Scope, name: bytes) -> str:
    """The value of the first field of this name; "" where there is none."""
    return headers_of(scope).text(name) or ""


# --- structured values

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_MEMBER = re.compile(rf"(?:{_QUOTED}|[^,\"])+")
_PARAMETER = re.compile(rf";\s*({_TOKEN})\s*=\s*({_QUOTED}|{_TOKEN})")
_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")

# Values that are remembered with what they mean, and the longest of them: a client may send any.
_MAX_CACHED, _MAX_CACHED_CHARS = 256, 256


def list_members(value: str) -> Iterator[str]:
    """The members of a comma-separated list (RFC 9110, 5.6.1); commas in quoted strings separate nothing."""
    for found in _MEMBER.finditer(value):
        member = found[0].strip()
        if member:
            yield member


def media_type(value: str) -> tuple[str, dict[str, str]]:
    """`type/subtype` and the parameters of a Content-Type (RFC 9110, 8.3.1), names in lower case. Parameters that are
    not well-formed are left out. The dictionary is shared: do not change it."""
    return _media_type(value) if len(value) <= _MAX_CACHED_CHARS else _media_type.__wrapped__(value)


def accepts(accept: str, wanted: str) -> bool:
    """Whether a client that sends this Accept names the media type, and with a weight above 0 (RFC 9110, 12.5.1). A
    range such as `*/*` does not name it."""
    for member in list_members(accept):
        kind, parameters = media_type(member)
        if kind == wanted:
            weight = parameters.get("q", "1")
            return _WEIGHT.fullmatch(weight) is not None and float(weight) > 0
    return False


@lru_cache(_MAX_CACHED)
def _media_type(value: str) -> tuple[str, dict[str, str]]:
    kind, _, rest = value.partition(";")
    parameters = {name.lower(): _unquoted(text) for name, text in _PARAMETER.findall(";" + rest)} if rest else {}
    return kind.strip().lower(), parameters


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
