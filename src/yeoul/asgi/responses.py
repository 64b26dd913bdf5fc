"""What responses of many routes have in common: headers, and a class that costs less than Starlette's general one."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

__all__ = ["NO_STORE", "JsonBytes"]

# For responses to one user: no cache may keep them.
NO_STORE = {"Cache-Control": "no-store"}

_JSON = (b"content-type", b"application/json")
_ONLY_JSON = (_JSON,)


class JsonBytes(Response):
    """JSON that is encoded already. `headers`: further ones, names in lower case."""

    def __init__(self, body: bytes, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.status_code = status
        self.background = None
        self.body: bytes = body
        self._fixed = (_JSON, *headers) if headers else _ONLY_JSON
        self._raw: list[tuple[bytes, bytes]] | None = None

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]
        if self._raw is None:
            self._raw = [(b"content-length", b"%d" % len(self.body)), *self._fixed]
        return self._raw

    def given_headers(self) -> Sequence[tuple[bytes, bytes]]:
        """The headers without Content-Length, as a tuple, where none have been changed since; else all of them."""
        return self._fixed if self._raw is None else self._raw
