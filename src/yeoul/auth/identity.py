"""The sender of a request, and what it may do. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..stream.pattern import TopicPattern

__all__ = ["ADMIN", "ANONYMOUS", "OPERATOR", "Grants", "Identity", "Way", "topic_part"]

# Stands as it is in a topic's name, beside the letters and digits of other scripts.
_PLAIN = frozenset("-_.:@+=,")
_ALL_PLAIN = re.compile(r"[A-Za-z0-9\-_:@+=,][A-Za-z0-9\-_.:@+=,]*")


def topic_part(text: str) -> str:
    """Letters and digits of any script and ``- _ . : @ + = ,`` stand as they are, every other character as `~` and two
    hexadecimal digits for each of its UTF-8 bytes: `auth0|42` is `auth0~7C42`. Two texts never share a part.

    Raises ValueError for an empty text.
    """
    if _ALL_PLAIN.fullmatch(text):
        return text  # most of them; looking at each character's category costs more than the signature
    if not text:
        raise ValueError("a part of a topic's name must not be empty")
    if text in (".", ".."):
        return text.replace(".", "~2E")
    return "".join(char if _is_plain(char) else _escaped(char) for char in text)


def _is_plain(char: str) -> bool:
    return char in _PLAIN or unicodedata.category(char)[0] in "LN"


def _escaped(char: str) -> str:
    return "".join(f"~{byte:02X}" for byte in char.encode(errors="surrogatepass"))


# The role that may do everything: publish as any user, list and close connections, revoke tokens.
ADMIN = "admin"

_USER = "user:"

# How the request was authenticated. "pass": by a ticket that was used before and the cookie of the browser that used
# it. "own": this server's own request to itself, for one of its users.
Way = Literal["none", "bearer", "cookie", "ticket", "pass", "query", "own"]


@dataclass(frozen=True, slots=True)
class Grants:
    """Topics by exact name or pattern (`*` stands for any characters)."""

    subscribe: tuple[TopicPattern, ...] = ()
    publish: tuple[TopicPattern, ...] = ()

    @classmethod
    def of(cls, subscribe: Sequence[str] = (), publish: Sequence[str] = ()) -> Grants:
        """Raises ValueError for an invalid pattern."""
        return cls(tuple(map(TopicPattern, subscribe)), tuple(map(TopicPattern, publish)))


@dataclass(frozen=True, slots=True)
class Identity:
    """`user` is the token's `sub`, None for an anonymous request. `issued` (the token's `iat`, None where it has none)
    and `expires` (None for never) in Unix seconds. `topics`: those that a ticket is bound to, None for no such bound.
    `refused`: why a credential that the browser sends by itself (a cookie) was refused, for routes that need one."""

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
        """The key of what belongs to this identity; None for an anonymous one. No two users share it, and no user has
        the operator's, whatever its name."""
        if self.user is not None:
            return f"{_USER}{self.user}"
        return "local" if self.is_admin else None

    def may_read(self, owner: str | None) -> bool:
        """Whether what belongs to `owner` may be read. What belongs to no user may be read by every client that has its
        id."""
        return owner is None or not owner.startswith(_USER) or owner == self.owner or self.is_admin

    def may_subscribe(self, topic: str) -> bool:
        if self.topics is not None and topic not in self.topics:
            return False
        return self.is_admin or _fits(self.grants.subscribe, topic)

    def may_publish(self, topic: str) -> bool:
        return self.topics is None and (self.is_admin or _fits(self.grants.publish, topic))


ANONYMOUS = Identity()

# Demo mode: every user of this machine is the operator.
OPERATOR = Identity(roles=frozenset({ADMIN}))


def _fits(patterns: Collection[TopicPattern], topic: str) -> bool:
    return any(pattern.fits(topic) for pattern in patterns)
