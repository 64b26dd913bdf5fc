"""Tickets: how a client that can set no header (`EventSource`) says who it is, without its token in an address."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from ..errors import InvalidToken, TooManyTickets
from .holdings import Holdings
from .identity import ADMIN, Grants, Identity

__all__ = ["Admission", "Pass", "Tickets"]

# 256 bits: 43 characters of Base64url.
_BYTES = 32

# Longer texts are none of ours, and are not worth a digest.
_MAX_LENGTH = 200

_ANEW = "ask POST /auth/tickets for a new one"


@dataclass(frozen=True, slots=True)
class Pass:
    """What the browser that has used a ticket is given to keep: `text` is secret, `seconds` until it is over."""

    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Admission:
    """`new_pass`: where the browser has none of this user, or one that would be over sooner."""

    identity: Identity
    new_pass: Pass | None = None


@dataclass(frozen=True, slots=True)
class _Ticket:
    """`internal`: for this server's own requests to itself, with any method."""

    identity: Identity
    internal: bool


@dataclass(frozen=True, slots=True)
class _Pass:
    user: str
    expires: float


class Tickets:
    """In memory, for one process; only digests of the secrets are kept. Methods are coroutines because a store that
    several processes share would have to wait; here none of them does, so that each is one step for all the others.

    A ticket is good for `ticket_seconds` and for one use. That would be too little for `EventSource`, which reconnects
    to the address that it was given, ticket included. So the use yields a *pass*, which the browser keeps as an
    HttpOnly cookie: a used ticket together with a pass of its user is taken again, until the token expires from which
    the ticket came (after `pass_seconds` where that never does). Whoever finds a used ticket in a history or a log has
    no pass.

    Bounds, for each user (its oldest go) and in all: tickets not used (more are refused), tickets used and passes
    (those not seen for longest go; their readers need a new ticket). `revoked`: whether what this user was given at
    that time (Unix seconds, None where that is not known) has been taken back since. `clock`: Unix seconds.
    """

    def __init__(
        self,
        *,
        ticket_seconds: float = 30.0,
        pass_seconds: float = 86_400.0,
        max_unused: int = 50_000,
        max_unused_per_user: int = 100,
        max_used: int = 50_000,
        max_used_per_user: int = 1_000,
        max_passes: int = 20_000,
        max_passes_per_user: int = 50,
        revoked: Callable[[str, float | None], bool] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.ticket_seconds = ticket_seconds
        self.pass_seconds = pass_seconds
        self._revoked = revoked
        self._clock = clock
        # "again": used ones that came back with a pass.
        self.counts: dict[str, int] = {"issued": 0, "used": 0, "again": 0}
        self._unused: Holdings[_Ticket] = Holdings(max_all=max_unused, max_per_user=max_unused_per_user)
        self._used: Holdings[Identity] = Holdings(max_all=max_used, max_per_user=max_used_per_user)
        self._passes: Holdings[_Pass] = Holdings(max_all=max_passes, max_per_user=max_passes_per_user)

    async def issue(self, identity: Identity, topics: Collection[str] | None = None, *, internal: bool = False) -> str:
        """A ticket for this user; for these topics and nothing else where they are given. `internal`: for one request
        of this server to itself, which may be of any method, and also for nobody known. Raises TooManyTickets."""
        now = self._clock()
        if self._unused.is_full(now):
            raise TooManyTickets("as many tickets wait for their use as may: try again shortly")
        text = secrets.token_urlsafe(_BYTES)
        bound = replace(identity, way="own") if internal else _for_topics(identity, topics)
        ticket = _Ticket(bound, internal)
        user = None if internal else identity.user
        self._unused.put(_digest(text), user, now + self.ticket_seconds, ticket, now)
        self.counts["issued"] += 1
        return text

    async def admit(self, text: str, passes: Sequence[str] = ()) -> Admission:
        """Uses a ticket up, or takes a used one again for a browser that shows a pass of its user. `passes`: those it
        shows. Raises InvalidToken."""
        now = self._clock()
        key = _digest(text)
        ticket = self._unused.get(key, now)
        if ticket is not None and not ticket.internal:
            self._unused.pop(key, now)
            return self._first_use(key, ticket.identity, passes, now)
        identity = self._used.get(key, now)
        if identity is None:
            raise InvalidToken(f"the ticket is unknown or too old (it is good for {self.ticket_seconds:g} s): {_ANEW}")
        if self._shown(identity, passes, now) is None:
            raise InvalidToken(f"the ticket was used before, and not in this browser: {_ANEW}")
        self._check(identity)
        self._used.touch(key)
        self.counts["again"] += 1
        return Admission(replace(identity, way="pass"))

    async def redeem(self, text: str, method: str) -> Identity:
        """Whose ticket this is, for one request and without a pass: clients that send headers need none. Raises
        InvalidToken."""
        now = self._clock()
        ticket = self._unused.get(_digest(text), now)
        if ticket is None:
            raise InvalidToken(f"the ticket is unknown, used or too old: {_ANEW}")
        if method != "GET" and not ticket.internal:
            raise InvalidToken("a ticket is taken for GET alone: send `Authorization: Bearer <token>`")
        self._unused.pop(_digest(text), now)
        self._check(ticket.identity)
        self.counts["used"] += 1
        return ticket.identity

    async def end_passes(self, passes: Sequence[str]) -> None:
        now = self._clock()
        for text in passes:
            self._passes.pop(_digest(text), now)

    async def drop(self, user: str) -> None:
        """All tickets and passes of this user."""
        for holdings in (self._unused, self._used, self._passes):
            holdings.drop(user)

    def _first_use(self, key: bytes, identity: Identity, passes: Sequence[str], now: float) -> Admission:
        self._check(identity)
        assert identity.user is not None
        expires = identity.expires if identity.expires is not None else now + self.pass_seconds
        if expires <= now:
            raise InvalidToken("the token that the ticket came from has expired: get a new one, then a new ticket")
        self._used.put(key, identity.user, expires, identity, now)
        self.counts["used"] += 1
        shown = self._shown(identity, passes, now)
        # Where the token never expires, a pass that is good for long enough is not prolonged with each ticket.
        needed = expires if identity.expires is not None else now + self.pass_seconds / 2
        if shown is not None and shown[1] >= needed:
            return Admission(identity)
        # Several tabs have one cookie, so a pass that is there keeps its text when it is prolonged.
        text = shown[0] if shown is not None else secrets.token_urlsafe(_BYTES)
        self._passes.put(_digest(text), identity.user, expires, _Pass(identity.user, expires), now)
        return Admission(identity, Pass(text, expires - now))

    def _check(self, identity: Identity) -> None:
        if self._revoked is not None and identity.user is not None and self._revoked(identity.user, identity.issued):
            raise InvalidToken("the token that the ticket came from has been revoked: log in again")

    def _shown(self, identity: Identity, passes: Sequence[str], now: float) -> tuple[str, float] | None:
        """The pass of this user among those that a browser shows, and its end."""
        for text in passes:
            key = _digest(text)
            known = self._passes.get(key, now)
            if known is not None and known.user == identity.user:
                self._passes.touch(key)
                return text, known.expires
        return None


def _for_topics(identity: Identity, topics: Collection[str] | None) -> Identity:
    if topics is None:
        return replace(identity, way="ticket")
    # No more than it was asked for, whoever asked: an admin's ticket for one topic follows that one.
    return replace(
        identity,
        way="ticket",
        topics=frozenset(topics),
        grants=Grants.of(tuple(topics)),
        roles=identity.roles - {ADMIN},
    )


def _digest(text: str) -> bytes:
    return sha256(text[:_MAX_LENGTH].encode(errors="replace")).digest()
