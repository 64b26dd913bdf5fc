"""Tokens of real users: JWTs (RFC 7519), checked as RFC 8725 has it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import jwt

from ..errors import InvalidToken
from .claims import Claims, Rules
from .compact import CompactToken, check_header, read_compact, read_object, shown
from .jwks import Jwks
from .keys import ALGORITHMS, Key, candidates

__all__ = ["Tokens"]

# By a key's own algorithm, never by the token's.
_VERIFIERS = {name: jwt.PyJWS().get_algorithm_by_name(name) for name in ALGORITHMS}

# What keys from a URL are for: a secret is never published.
_PUBLISHED = ALGORITHMS[1:]


class Tokens:
    """`keys` are this server's own, `jwks` those that somebody publishes; `clock` says the time in Unix seconds."""

    def __init__(
        self,
        keys: Sequence[Key],
        rules: Rules | None = None,
        *,
        jwks: Jwks | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ValueError where there is nothing to check a token with."""
        if not keys and jwks is None:
            raise ValueError("tokens cannot be checked without a key: give a secret, a public key or a JWKS")
        self.rules = rules or Rules()
        self._keys = tuple(keys)
        self._jwks = jwks
        self._clock = clock

    async def read(self, text: str) -> Claims:
        """What a token says that is taken. Raises InvalidToken, saying why it is not, and KeysUnavailable."""
        token = read_compact(text)
        check_header(token.header)
        await self.check_signature(token)
        return self.rules.read(read_object(token.payload, "payload"), self._clock())

    async def check_signature(self, token: CompactToken) -> None:
        """After `check_header`. Raises InvalidToken where none of the keys has made it, and KeysUnavailable where that
        cannot be known."""
        algorithm = token.algorithm
        if algorithm not in self._algorithms:
            right = " or ".join(self._algorithms)
            raise InvalidToken(f"the token's `alg` is {shown(algorithm)}: this server takes tokens signed with {right}")
        fits = self._fits(token, self._keys)
        if not fits and self._jwks is not None and algorithm in _PUBLISHED:
            fits = self._fits(token, await self._jwks.keys(token.key_id))
        if not fits:
            why = "it was changed on its way, or another key made it"
            raise InvalidToken(f"the token's signature fits no key of this server: {why}")

    @property
    def key_set(self) -> object | None:
        """An object that stands for the keys of this moment: a token verified while it was the same one need not be
        verified again. None where the keys have to be asked for first."""
        return self._keys if self._jwks is None else self._jwks.current

    def now(self) -> float:
        """Unix seconds, by the clock that tokens are checked with."""
        return self._clock()

    def open(self) -> None:
        if self._jwks is not None:
            self._jwks.open()

    async def close(self) -> None:
        if self._jwks is not None:
            await self._jwks.close()

    @property
    def _algorithms(self) -> list[str]:
        own = {key.algorithm for key in self._keys}
        return [name for name in ALGORITHMS if name in own or (self._jwks is not None and name in _PUBLISHED)]

    def _fits(self, token: CompactToken, keys: Sequence[Key]) -> bool:
        return any(
            _VERIFIERS[key.algorithm].verify(token.signed, key.material, token.signature)
            for key in candidates(keys, token.algorithm, token.key_id)
        )
