"""What responses of many routes have in common: headers, and a class that costs less than Starlette's general one."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

__all__ = ["NO_STORE", "JsonBytes"]

# For responses to one user: no cache may keep them.
NO_STORE = {"Cache-Control": "no-store"}

_JSON = (b"content-type", b"application/json")


class JsonBytes(Response):
    """JSON that is encoded already. `headers`: further ones, names in lower case."""

    def __init__(self, body: bytes, status: int = 200, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = [(b"content-length", b"%d" % len(body)), _JSON, *headers]
