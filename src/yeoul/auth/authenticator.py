"""Authenticates tokens: from their text to an identity."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from ..errors import InvalidToken
from ..stream.pattern import TopicPattern
from .demo import read_demo_token
from .identity import ANONYMOUS, OPERATOR, Grants, Identity, Way, topic_part
from .tokens import Claims, Tokens, looks_like_jwt

__all__ = ["Authenticator"]


_Key = tuple[bytes, Way]

_KEYS = "YEOUL_JWT_SECRET, YEOUL_JWT_PUBLIC_KEY or YEOUL_JWT_JWKS_URL"

# The example is `u1:::` in Base64.
_DEMO = (
    "this server runs in demo mode, where a token is Base64 of the four fields `id:name:email:role,role`, for example "
    "dTE6Ojo=. Send one (clients of OpenAI's API: as the API key), or no Authorization header; to have JWTs verified, "
    f"set {_KEYS}"
)

# What the keys of OpenAI and of those who imitate it begin with.
_API_KEY = "sk-"
_NOT_OURS = "this is an API key, not a token of this server"

# Verified tokens that are remembered: about 1 KB each. A wave of readers that reconnect is verified once.
_MAX_REMEMBERED = 10_000


class _Verified(NamedTuple):
    """A token's identity, and the keys that it was verified with."""

    identity: Identity
    keys: object


class Authenticator:
    """`demo`: no key is configured; every user of this machine is the operator, and demo tokens are accepted. Otherwise
    `tokens` verifies JWTs. `revoked` is asked on every request with a valid token: whether tokens of this user
    that were issued at that time (Unix seconds, None where the token does not say) have been revoked since.
    `subscribe` and `publish`: what users are granted whose token has no claim `yeoul`; `{user}` stands for the user.
    `open_topics`: what may be followed without a token."""

    def __init__(
        self,
        *,
        demo: bool,
        tokens: Tokens | None = None,
        revoked: Callable[[str, float | None], bool] | None = None,
        subscribe: Sequence[str] = (),
        publish: Sequence[str] = (),
        open_topics: Sequence[str] = (),
    ) -> None:
        self.demo = demo
        self.tokens = tokens
        self._revoked = revoked
        self._subscribe = tuple(map(_default_grant, subscribe))
        self._publish = tuple(map(_default_grant, publish))
        self._open = tuple(map(TopicPattern, open_topics))
        # By a digest with a key of this process: the cache holds no token, and no client can make digests collide.
        self._verified: dict[_Key, _Verified] = {}
        self._digest_key = secrets.token_bytes(16)
        self.anonymous = replace(ANONYMOUS, grants=Grants(self._open))
        self.operator = replace(OPERATOR, grants=Grants(self._open))

    async def token(self, text: str, way: Way) -> Identity:
        """The identity of a token. A token that was verified a short while ago is not verified again.

        Raises InvalidToken, which says why it is refused and never quotes it, and KeysUnavailable where it cannot be
        checked at the moment.
        """
        key = self._key(text, way)
        remembered = self._look_up(key)
        if remembered is not None:
            return remembered
        claims = self._read_demo(text) if self.demo else await self._read(text)
        self._check_revoked(claims.user, claims.issued)
        identity = Identity(
            user=claims.user,
            name=claims.name,
            email=claims.email,
            roles=claims.roles,
            grants=self._granted(claims.user, claims.subscribe, claims.publish),
            expires=claims.expires,
            issued=claims.issued,
            way=way,
        )
        # The keys that it was verified with: nothing was awaited since, and they are None while others are fetched.
        keys = self._key_set()
        if keys is not None:
            self._remember(key, _Verified(identity, keys))
        return identity

    def remembered(self, text: str, way: Way) -> Identity | None:
        """The identity of a token that was verified with the keys of this moment and has not expired; None for any
        other, which `token` has to verify. Takes a few microseconds.

        Raises InvalidToken where the token has been revoked.
        """
        return self._look_up(self._key(text, way))

    def _look_up(self, key: _Key) -> Identity | None:
        verified = self._verified.get(key)
        if verified is None:
            return None
        identity = verified.identity
        if verified.keys is not self._key_set() or (
            identity.expires is not None and self.tokens is not None and self.tokens.now() >= identity.expires
        ):
            del self._verified[key]
            return None
        self._check_revoked(identity.user, identity.issued)
        return identity

    def open(self) -> None:
        """Starts to fetch the keys of a JWKS: a failure should be logged when the server starts, not when the first
        user comes."""
        if self.tokens is not None:
            self.tokens.open()

    async def close(self) -> None:
        if self.tokens is not None:
            await self.tokens.close()

    def _remember(self, key: _Key, verified: _Verified) -> None:
        if len(self._verified) >= _MAX_REMEMBERED:
            del self._verified[next(iter(self._verified))]  # the one that was verified first
        self._verified[key] = verified

    def _key(self, text: str, way: Way) -> _Key:
        data = text.encode(errors="surrogatepass")
        return hashlib.blake2b(data, digest_size=16, key=self._digest_key).digest(), way

    def _key_set(self) -> object | None:
        """See `Tokens.key_set`. In demo mode nothing is verified: a demo token is always read."""
        return None if self.tokens is None else self.tokens.key_set

    def _check_revoked(self, user: str | None, issued: float | None) -> None:
        if user is not None and self._revoked is not None and self._revoked(user, issued):
            raise InvalidToken("the token has been revoked: log in again")

    def _granted(self, user: str, subscribe: Sequence[str] | None, publish: Sequence[str] | None) -> Grants:
        """A token's own grants, where it has some, else those of every user."""
        part = topic_part(user)
        follow = _patterns(self._subscribe, part) if subscribe is None else map(TopicPattern, subscribe)
        send = _patterns(self._publish, part) if publish is None else map(TopicPattern, publish)
        return Grants((*follow, *self._open), tuple(send))

    def _read_demo(self, text: str) -> Claims:
        try:
            demo = read_demo_token(text)
        except InvalidToken as error:
            wrong = "this is not a demo token"
            if text.startswith(_API_KEY):
                wrong = _NOT_OURS
            elif looks_like_jwt(text):
                wrong = "this is a JWT, not a demo token"
            raise InvalidToken(f"{wrong}: {_DEMO}") from error
        return Claims(user=demo.user, expires=None, name=demo.name, email=demo.email, roles=demo.roles)

    async def _read(self, text: str) -> Claims:
        if self.tokens is None:
            raise InvalidToken(f"this server has no key to verify tokens with: set {_KEYS}")
        if text.startswith(_API_KEY):
            raise InvalidToken(f"{_NOT_OURS}: send a JWT (clients of OpenAI's API: as the API key)")
        if not looks_like_jwt(text) and _is_demo_token(text):
            raise InvalidToken(
                "this is a demo token, which only demo mode accepts, since it proves nothing: send a JWT"
            )
        return await self.tokens.read(text)


def _default_grant(text: str) -> str | TopicPattern:
    """A pattern that all users share, or the text of one that differs by user."""
    return text if "{user}" in text else TopicPattern(text)


def _patterns(grants: Iterable[str | TopicPattern], part: str) -> list[TopicPattern]:
    return [TopicPattern(grant.replace("{user}", part)) if isinstance(grant, str) else grant for grant in grants]


def _is_demo_token(text: str) -> bool:
    try:
        read_demo_token(text)
    except InvalidToken:
        return False
    return True
