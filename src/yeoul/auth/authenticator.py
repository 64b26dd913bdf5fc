"""From a credential to an identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .demo import read_demo_token
from .identity import ANONYMOUS, OPERATOR, Grants, Identity, Way
from .topic_part import topic_part

__all__ = ["Authenticator"]


class Authenticator:
    """`demo`: no real key is configured; whoever is on this machine is the operator, and demo tokens are taken.
    `subscribe` and `publish`: what users are granted whose token says nothing about it, `{user}` standing for the user;
    `open_topics`: what everybody may follow."""

    def __init__(
        self,
        *,
        demo: bool,
        subscribe: Sequence[str] = (),
        publish: Sequence[str] = (),
        open_topics: Sequence[str] = (),
    ) -> None:
        self.demo = demo
        self._subscribe = tuple(subscribe)
        self._publish = tuple(publish)
        self._open = tuple(open_topics)
        self.anonymous = replace(ANONYMOUS, grants=Grants.of(self._open))
        self.operator = replace(OPERATOR, grants=Grants.of(self._open))

    async def token(self, text: str, way: Way) -> Identity:
        """Whose token this is. Raises InvalidToken, saying why it is not taken, never what it is."""
        demo = read_demo_token(text)
        return Identity(
            user=demo.user,
            name=demo.name,
            email=demo.email,
            roles=demo.roles,
            grants=self.granted(demo.user, None, None),
            way=way,
        )

    def granted(self, user: str, subscribe: Sequence[str] | None, publish: Sequence[str] | None) -> Grants:
        """A token's own grants, where it has some, else those of every user. Raises ValueError for bad patterns."""
        part = topic_part(user)
        chosen = subscribe if subscribe is not None else [text.replace("{user}", part) for text in self._subscribe]
        written = publish if publish is not None else [text.replace("{user}", part) for text in self._publish]
        return Grants.of((*chosen, *self._open), tuple(written))
