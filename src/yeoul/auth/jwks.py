"""The keys that an identity provider publishes (JWKS, RFC 7517), fetched when they are needed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
import jwt
import msgspec
from aiohttp import hdrs
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from yarl import URL

from ..addresses import is_loopback
from ..client import new_session
from ..client.proxies import proxy_for
from ..errors import KeysUnavailable, UpstreamRefused
from ..observe import logger
from .keys import Key, algorithm_of

__all__ = ["MAX_AGE_S", "PAUSE_S", "Jwks", "read_jwks"]

# Seconds after which keys are fetched again: a key that was withdrawn is accepted for no longer.
MAX_AGE_S = 300.0

# Seconds between two requests, whatever tokens come: random `kid`s must not make this server flood the provider.
PAUSE_S = 10.0

# Seconds that a request may take in all. The client that sent the token is waiting.
_TIMEOUT_S = 5.0

# A provider has a few keys of a few hundred bytes.
_MAX_BYTES = 256 * 1024
_MAX_KEYS = 50

_MAKERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}


class Jwks:
    """While the URL fails, the keys that were fetched before stay in use. Owns its session and its one running fetch,
    which `close` ends."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        make_session: Callable[[], aiohttp.ClientSession] = new_session,
        timeout: float = _TIMEOUT_S,
    ) -> None:
        """Raises ValueError for a URL that is invalid, contains a password, or crosses a network without TLS."""
        self._url = _checked(url)
        self._clock = clock
        self._make_session = make_session
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None
        self._keys: list[Key] = []
        self._asked: float | None = None
        self._failure: str | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._closed = False

    async def keys(self, id: str | None) -> Sequence[Key]:
        """All keys, for a token with this `kid`.

        They are fetched at first use, when they are old, and when none has this `kid`, by one request for all that
        wait. Raises KeysUnavailable where that fails and no known key has this `kid`.
        """
        if self._closed:
            raise KeysUnavailable("the keys of the identity provider cannot be fetched: this server is shutting down")
        known = self._knows(id)
        pause = MAX_AGE_S if known else PAUSE_S
        if self._asked is None or self._clock() - self._asked >= pause:
            self._begin()
            known = False
        if self._fetching is not None and not known:
            # Shielded: a caller that is cancelled must not cancel it for the others.
            await asyncio.shield(self._fetching)
        if self._failure is not None and not self._knows(id):
            raise KeysUnavailable(f"the keys of the identity provider cannot be fetched: {self._failure}")
        return self._keys

    @property
    def current(self) -> object | None:
        """The keys, as an object that is replaced with them; None where they are due to be fetched again, or never
        were. What was verified with the same object holds as long as `current` is still that object."""
        if self._closed or self._asked is None or self._fetching is not None:
            return None
        return self._keys if self._clock() - self._asked < MAX_AGE_S else None

    def open(self) -> None:
        """Starts to fetch the keys in the background."""
        self._begin()

    async def close(self) -> None:
        self._closed = True
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def _knows(self, id: str | None) -> bool:
        return any(id is None or key.id in (None, id) for key in self._keys)

    def _begin(self) -> None:
        if self._fetching is None:
            self._asked = self._clock()
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                self._keys = read_jwks(await self._ask())
            self._failure = None
        except TimeoutError:
            self._fail(f"there was no response within {self._timeout:g} s")
        except ValueError as error:
            self._fail(str(error))
        except UpstreamRefused as error:  # by `proxy_for`
            self._fail(str(error), error.detail)
        except aiohttp.ClientHttpProxyError as error:
            # Its text has the proxy's URL, which may have a password.
            self._fail("the connection failed", f"the proxy responded with status {error.status}")
        except (aiohttp.ClientError, OSError) as error:
            self._fail("the connection failed", str(error))

    def _fail(self, why: str, detail: str = "") -> None:
        # The URL and `detail` are for the log, not for clients.
        kept = f"the {len(self._keys)} keys fetched before stay in use" if self._keys else "no token can be verified"
        full = f"{why}: {detail}" if detail else why
        logger.warning("no keys from %s: %s; %s", self._url.origin(), full, kept)
        self._failure = why

    async def _ask(self) -> bytes:
        """The document. Raises ValueError for any other response."""
        if self._session is None:
            self._session = self._make_session()
        # A redirect could lead to foreign keys, or into the network behind this server.
        headers = {hdrs.ACCEPT: "application/jwk-set+json, application/json", hdrs.ACCEPT_ENCODING: "identity"}
        proxy = proxy_for(self._url)
        async with self._session.get(self._url, headers=headers, allow_redirects=False, proxy=proxy) as response:
            if response.status != 200:
                redirect = ": redirects are not followed" if 300 <= response.status < 400 else ""
                raise ValueError(f"the response has status {response.status}{redirect}")
            body = bytearray()
            while data := await response.content.readany():
                body += data
                if len(body) > _MAX_BYTES:
                    response.close()
                    raise ValueError(f"the response is longer than {_MAX_BYTES // 1024} KiB")
            return bytes(body)


def read_jwks(document: bytes) -> list[Key]:
    """The keys that can verify tokens; others (for encryption, of other algorithms, invalid ones, private ones) are
    ignored, as RFC 7517, 5 says. Raises ValueError where none is left."""
    try:
        parsed = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("the response is not JSON") from error
    entries = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(entries, list):
        raise ValueError('the response is not a JWKS: {"keys": […]}')
    made = [_key(entry) for entry in entries[:_MAX_KEYS] if isinstance(entry, dict)]
    keys = [key for key in made if key is not None]
    if not keys:
        raise ValueError("it contains no key that verifies RS256, ES256 or EdDSA tokens")
    return keys


def _key(entry: Mapping[str, Any]) -> Key | None:
    if entry.get("use", "sig") != "sig" or "verify" not in _operations(entry):
        return None
    make = _MAKERS.get(str(entry.get("kty")))
    # A key with `d` is a private key that is published: anyone can sign with it.
    if make is None or "d" in entry:
        return None
    try:
        material = make(dict(entry))
        algorithm = algorithm_of(material)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, UnsupportedAlgorithm):
        return None
    id = entry.get("kid")
    if entry.get("alg", algorithm) != algorithm or not isinstance(id, str | None):
        return None
    return Key(algorithm, material, id)


def _operations(entry: Mapping[str, Any]) -> Sequence[object]:
    operations = entry.get("key_ops", ["verify"])
    return operations if isinstance(operations, list) else []


def _checked(text: str) -> URL:
    try:
        url = URL(text)
        plain = url.scheme == "http" and is_loopback(url.host or "")
    except ValueError as error:
        raise ValueError("it is not a URL") from error
    if not url.host or not (url.scheme == "https" or plain):
        # An attacker on the way could answer with other keys.
        raise ValueError("it must begin with https:// (http:// is for this machine alone)")
    if url.user is not None or url.password is not None:
        raise ValueError("it must not contain a user name or a password")
    return url
