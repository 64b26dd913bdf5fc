"""From a credential to an identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import InvalidToken
from .claims import Claims
from .compact import looks_like_jwt
from .demo import read_demo_token
from .identity import ANONYMOUS, OPERATOR, Grants, Identity, Way
from .tokens import Tokens
from .topic_part import topic_part

__all__ = ["Authenticator"]


_KEYS = "YEOUL_JWT_SECRET, YEOUL_JWT_PUBLIC_KEY or YEOUL_JWT_JWKS_URL"
_DEMO_FORM = "Base64 of `id:name:email:role,role`"


class Authenticator:
    """`demo`: no real key is configured; whoever is on this machine is the operator, and demo tokens are taken.
    Otherwise `tokens` checks JWTs. `revoked` is asked of each token that is good: whether what this user was given at
    that time (Unix seconds, None where the token does not say) has been taken back since.
    `subscribe` and `publish`: what users are granted whose token says nothing about it, `{user}` standing for the user;
    `open_topics`: what everybody may follow."""

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
        self._subscribe = tuple(subscribe)
        self._publish = tuple(publish)
        self._open = tuple(open_topics)
        self.anonymous = replace(ANONYMOUS, grants=Grants.of(self._open))
        self.operator = replace(OPERATOR, grants=Grants.of(self._open))

    async def token(self, text: str, way: Way) -> Identity:
        """Whose token this is. Raises InvalidToken, saying why it is not taken, never what it is, and KeysUnavailable
        where that cannot be known at the moment."""
        claims = self._read_demo(text) if self.demo else await self._read(text)
        if self._revoked is not None and self._revoked(claims.user, claims.issued):
            raise InvalidToken("the token has been revoked: log in again")
        return Identity(
            user=claims.user,
            name=claims.name,
            email=claims.email,
            roles=claims.roles,
            grants=self._granted(claims.user, claims.subscribe, claims.publish),
            expires=claims.expires,
            issued=claims.issued,
            way=way,
        )

    def open(self) -> None:
        """Begins to fetch keys, if any are to be fetched: who runs the server should hear at its start, not of the
        first user, that they cannot be had."""
        if self.tokens is not None:
            self.tokens.open()

    async def close(self) -> None:
        if self.tokens is not None:
            await self.tokens.close()

    def _granted(self, user: str, subscribe: Sequence[str] | None, publish: Sequence[str] | None) -> Grants:
        """A token's own grants, where it has some, else those of every user."""
        part = topic_part(user)
        follow = subscribe if subscribe is not None else [text.replace("{user}", part) for text in self._subscribe]
        send = publish if publish is not None else [text.replace("{user}", part) for text in self._publish]
        return Grants.of((*follow, *self._open), send)

    def _read_demo(self, text: str) -> Claims:
        if looks_like_jwt(text):
            right = f"to have JWTs checked, set {_KEYS}"
            raise InvalidToken(f"this server runs in demo mode, where a token is {_DEMO_FORM}: {right}")
        demo = read_demo_token(text)
        return Claims(user=demo.user, expires=None, name=demo.name, email=demo.email, roles=demo.roles)

    async def _read(self, text: str) -> Claims:
        if self.tokens is None:
            raise InvalidToken(f"this server has no key to check tokens with: set {_KEYS}")
        if not looks_like_jwt(text) and _is_demo_token(text):
            raise InvalidToken("this is a demo token, which proves nothing: it is taken in demo mode alone; send a JWT")
        return await self.tokens.read(text)


def _is_demo_token(text: str) -> bool:
    try:
        read_demo_token(text)
    except InvalidToken:
        return False
    return True
