"""A running server, as the commands address it: its URL, the token, requests and their errors."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import aiohttp
import typer
from yarl import URL

from ..client.proxies import proxy_for
from ..client.refusal import complaint
from ..errors import UpstreamRefused
from ..printable import printable

__all__ = ["BaseUrl", "Refused", "Remote", "Token", "Unreachable"]

DEFAULT_URL = "http://127.0.0.1:8000"

BaseUrl = Annotated[
    str, typer.Option("--url", envvar="YEOUL_URL", metavar="URL", help="The server's URL.", show_default=True)
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="YEOUL_TOKEN",
        metavar="TOKEN",
        help="The token to authenticate with. Prefer the variable: other users of this machine can see arguments.",
        show_default=False,
        show_envvar=True,
    ),
]

# The longest response that is read. Pages of the admin API are much shorter.
_MAX_ANSWER = 8 * 1024 * 1024


class Unreachable(Exception):
    """The server did not respond; the text says why."""


class Refused(Exception):
    """The server refused the request. `retry_after`: in seconds, None where the response has none."""

    def __init__(self, status: int, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True)
class Remote:
    """A server's base URL, and its token. Redirects are not followed, so that the token is sent nowhere else.

    Raises typer.BadParameter for an invalid URL or token.
    """

    url: str
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or not self.url.partition("://")[2].strip("/"):
            raise typer.BadParameter(
                f"{printable(self.url)!r} is not a server's URL: write it as http://host:port", param_hint="--url"
            )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise typer.BadParameter("a token has ASCII characters only, and no spaces", param_hint="--token")

    @property
    def shown(self) -> str:
        """The URL without credentials, for messages."""
        scheme, _, rest = self.url.partition("://")
        return printable(f"{scheme}://{rest.rpartition('@')[2]}".rstrip("/"))

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def secrets(self) -> list[str]:
        return [self.token] if self.token else []

    def address(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        """The URL of a path, which begins with "/" and is not percent-encoded."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return f"{self.url.rstrip('/')}{quote(path)}" + (f"?{urlencode(given, doseq=True)}" if given else "")

    async def ask(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        seconds: float = 10.0,
    ) -> Any:
        """The JSON of a successful response. Raises Refused, Unreachable."""
        address = self.address(path, query)
        try:
            async with session.request(
                method,
                address,
                headers={**self.headers, **(headers or {})},
                data=body,
                allow_redirects=False,
                proxy=_proxy(address),
                timeout=aiohttp.ClientTimeout(total=seconds),
            ) as response:
                said = await _body(response)
                if response.status >= 300:
                    raise self._refused(response, said)
                return json.loads(said) if said else None
        except TimeoutError as error:
            raise Unreachable(f"{self.shown} did not answer within {seconds:g} s") from error
        except UpstreamRefused as error:  # by `proxy_for`
            raise Unreachable(f"{self.shown} cannot be reached: {error.full}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{self.shown} cannot be reached: {_why(error)}") from error
        except ValueError as error:
            raise Unreachable(f"{self.shown} did not respond with JSON: is it a Yeoul server?") from error

    def _refused(self, response: aiohttp.ClientResponse, said: bytes) -> Refused:
        wait = response.headers.get("Retry-After", "")
        seconds = float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else None
        text = complaint(_detail(said), response.content_type, "utf-8", self.secrets)
        return Refused(response.status, f"{response.status} {response.reason}: {text}", seconds)


def _proxy(address: str) -> URL | None:
    try:
        return proxy_for(URL(address))
    except ValueError:  # not a URL: the request will say so
        return None


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Raises ValueError for a body over the limit."""
    said = bytearray()
    async for piece in response.content.iter_any():
        said += piece
        if len(said) > _MAX_ANSWER:
            raise ValueError("the response is too long")
    return bytes(said)


def _detail(said: bytes) -> bytes:
    """The `detail` of a problem document (RFC 9457), which says more than the members that `complaint` prefers."""
    try:
        return json.dumps({"message": json.loads(said)["detail"]}).encode()
    except (ValueError, TypeError, KeyError):
        return said


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, socket.gaierror):
        return "its host name cannot be resolved"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "the connection was lost" if isinstance(error, aiohttp.ServerDisconnectedError) else type(error).__name__
