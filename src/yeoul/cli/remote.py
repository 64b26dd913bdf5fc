"""What the commands share that talk to a server which runs: where it is, whom they come from, and what went wrong."""

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
    str, typer.Option("--url", envvar="YEOUL_URL", metavar="URL", help="Where the server is.", show_default=True)
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="YEOUL_TOKEN",
        metavar="TOKEN",
        help="Who you are. Better in the variable: others on this machine see what commands are given.",
        show_default=False,
        show_envvar=True,
    ),
]

# What is read of an answer: pages of the admin API stay far below.
_MAX_ANSWER = 8 * 1024 * 1024


class Unreachable(Exception):
    """There was no answer; the text says why."""


class Refused(Exception):
    """An answer that says no. `retry_after` in seconds, None where it does not say."""

    def __init__(self, status: int, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True)
class Remote:
    """A server, and the token that is sent to it: to this one alone, since redirects are not followed.

    Raises typer.BadParameter for what is no base URL.
    """

    url: str
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or not self.url.partition("://")[2].strip("/"):
            raise typer.BadParameter(f"a server is http://host:port, not {printable(self.url)!r}", param_hint="--url")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise typer.BadParameter("a token is one word of ASCII characters", param_hint="--token")

    @property
    def shown(self) -> str:
        """Its URL, without a password that may be in it."""
        scheme, _, rest = self.url.partition("://")
        return printable(f"{scheme}://{rest.rpartition('@')[2]}".rstrip("/"))

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def secrets(self) -> list[str]:
        return [self.token] if self.token else []

    def address(self, path: str, query: Mapping[str, Any] | None = None) -> str:
        """`path` begins with "/" and is percent-encoded here."""
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
        """The JSON of a good answer. Raises Refused, Unreachable."""
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
            raise Unreachable(f"{self.shown} answers with something that is not JSON: is it a Yeoul server?") from error

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
    """Raises ValueError for one that no server of ours would send."""
    said = bytearray()
    async for piece in response.content.iter_any():
        said += piece
        if len(said) > _MAX_ANSWER:
            raise ValueError("too much")
    return bytes(said)


def _detail(said: bytes) -> bytes:
    """Of a problem document (RFC 9457) its `detail`: the others that `complaint` looks for first say less."""
    try:
        return json.dumps({"message": json.loads(said)["detail"]}).encode()
    except (ValueError, TypeError, KeyError):
        return said


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, socket.gaierror):
        return "its host's name is unknown"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return "the connection was lost" if isinstance(error, aiohttp.ServerDisconnectedError) else type(error).__name__
