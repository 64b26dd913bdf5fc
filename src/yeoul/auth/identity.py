"""Whom a request comes from, and what that one may do. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..stream.pattern import TopicPattern

__all__ = ["ADMIN", "ANONYMOUS", "OPERATOR", "Grants", "Identity", "Way"]

# The role that may do everything: publish under anybody's name, see and end connections, revoke.
ADMIN = "admin"

_USER = "user:"

# How the request said who it is. "pass": by a ticket that was used before, and the cookie of a browser in which this
# user has used one. "own": this server asks itself, on behalf of somebody.
Way = Literal["none", "bearer", "cookie", "ticket", "pass", "query", "own"]


@dataclass(frozen=True, slots=True)
class Grants:
    """Topics by exact name or pattern (`*` stands for any characters)."""

    subscribe: tuple[TopicPattern, ...] = ()
    publish: tuple[TopicPattern, ...] = ()

    @classmethod
    def of(cls, subscribe: Sequence[str] = (), publish: Sequence[str] = ()) -> Grants:
        """Raises ValueError for what is no pattern."""
        return cls(tuple(map(TopicPattern, subscribe)), tuple(map(TopicPattern, publish)))


@dataclass(frozen=True, slots=True)
class Identity:
    """`user` is the token's `sub`, None for somebody unknown. `issued` (the token's `iat`, None where it has none) and
    `expires` (None for never) in Unix seconds. `topics`: those that a ticket was bound to, None where it was bound to
    none. `refused`: why a credential that the browser sends by itself was not taken, for those who need one."""

    user: str | None = None
    name: str | None = None
    email: str | None = None
    roles: frozenset[str] = frozenset()
    grants: Grants = field(default_factory=Grants)
    expires: float | None = None
    way: Way = "none"
    topics: frozenset[str] | None = None
    issued: float | None = None
    refused: str | None = None

    @property
    def known(self) -> bool:
        return self.user is not None

    @property
    def is_admin(self) -> bool:
        return ADMIN in self.roles

    @property
    def owner(self) -> str | None:
        """What things of this identity are kept under; None for nobody in particular. Two users never share it, nor
        does a user share the operator's, whatever they are called."""
        if self.user is not None:
            return f"{_USER}{self.user}"
        return "local" if self.is_admin else None

    def may_read(self, owner: str | None) -> bool:
        """Whether things that are kept under `owner` are for this one. What no user owns is for whoever knows of it."""
        return owner is None or not owner.startswith(_USER) or owner == self.owner or self.is_admin

    def may_subscribe(self, topic: str) -> bool:
        if self.topics is not None and topic not in self.topics:
            return False
        return self.is_admin or _fits(self.grants.subscribe, topic)

    def may_publish(self, topic: str) -> bool:
        return self.topics is None and (self.is_admin or _fits(self.grants.publish, topic))


ANONYMOUS = Identity()

# Demo mode: whoever uses this machine runs the server, too.
OPERATOR = Identity(roles=frozenset({ADMIN}))


def _fits(patterns: Collection[TopicPattern], topic: str) -> bool:
    return any(pattern.fits(topic) for pattern in patterns)
