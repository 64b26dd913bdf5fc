"""Tickets: authentication for clients that cannot set headers (`EventSource`), without a token in the URL."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Generic, NamedTuple, TypeVar

from ..errors import InvalidToken, TooManyTickets
from .identity import ADMIN, Grants, Identity

__all__ = ["Admitted", "ExpiringStore", "Pass", "Tickets"]

_T = TypeVar("_T")

# Seconds between two sweeps for expired entries: while there is room, and while there is none (a sweep of fifty
# thousand entries takes milliseconds, and would otherwise come with each new one).
_SWEEP_S = 30.0
_SWEEP_FULL_S = 1.0


class _Entry(NamedTuple, Generic[_T]):
    user: str | None
    expires: float
    value: _T


class ExpiringStore(Generic[_T]):
    """A bounded store of entries that expire. Each has a key, its user (None: counted for no user) and the time at
    which it expires. Beyond `max_per_user` the user's oldest entry is removed; `put` and `touch` make an entry the
    newest. The caller passes the time, in seconds of one clock."""

    def __init__(self, *, max_all: int, max_per_user: int) -> None:
        self._max_all = max_all
        self._max_per_user = max_per_user
        self._all: dict[bytes, _Entry[_T]] = {}
        self._of_user: dict[str, dict[bytes, None]] = {}
        self._swept = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def is_full(self, now: float) -> bool:
        """Whether another `put` would remove an entry. Expired entries may be counted for a second longer."""
        pause = _SWEEP_FULL_S if len(self._all) >= self._max_all else _SWEEP_S
        if not 0 <= now - self._swept < pause:
            self._sweep(now)
        return len(self._all) >= self._max_all

    def put(self, key: bytes, user: str | None, expires: float, value: _T, now: float) -> None:
        """Where the store is full, the oldest entry of all is removed."""
        self._remove(key)
        if user is not None:
            own = self._of_user.setdefault(user, {})
            if len(own) >= self._max_per_user:
                self._remove(next(iter(own)))
            self._of_user.setdefault(user, {})[key] = None
        if self.is_full(now):
            self._remove(next(iter(self._all)))
        self._all[key] = _Entry(user, expires, value)

    def get(self, key: bytes, now: float) -> _T | None:
        entry = self._all.get(key)
        return entry.value if entry is not None and now < entry.expires else None

    def touch(self, key: bytes) -> None:
        """Makes it the newest."""
        entry = self._all.pop(key)
        self._all[key] = entry
        if entry.user is not None:
            own = self._of_user[entry.user]
            own[key] = own.pop(key)

    def pop(self, key: bytes, now: float) -> _T | None:
        entry = self._remove(key)
        return entry.value if entry is not None and now < entry.expires else None

    def drop(self, user: str) -> None:
        """Removes all entries of this user."""
        for key in list(self._of_user.get(user, ())):
            self._remove(key)

    def _remove(self, key: bytes) -> _Entry[_T] | None:
        entry = self._all.pop(key, None)
        if entry is not None and entry.user is not None:
            own = self._of_user[entry.user]
            own.pop(key)
            if not own:
                del self._of_user[entry.user]
        return entry

    def _sweep(self, now: float) -> None:
        self._swept = now
        for key in [key for key, entry in self._all.items() if entry.expires <= now]:
            self._remove(key)


# 256 bits: 43 characters of Base64url.
_BYTES = 32

# Longer texts are not ours, and are not worth a digest.
_MAX_LENGTH = 200

_ANEW = "get a new one from POST /auth/tickets"


@dataclass(frozen=True, slots=True)
class Pass:
    """A secret that the browser which used a ticket keeps as a cookie: its text, and its life in seconds."""

    text: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Admitted:
    """The ticket's identity. `new_pass`: where the browser has no pass of this user, or one that expires sooner."""

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
    """In memory, for one process; only digests of the secrets are kept. The methods are coroutines because a store
    shared by several processes would have to wait; here none does, so each is atomic.

    A ticket is valid for `ticket_seconds` and for one use. That is not enough for `EventSource`, which reconnects to
    the same URL, ticket included. So the use creates a *pass*, which the browser keeps as an HttpOnly cookie: a used
    ticket together with a pass of its user is accepted again, until the token that the ticket was issued for expires
    (after `pass_seconds` where that never does). A used ticket found in a history or a log comes without the pass.

    Bounds, per user (the oldest are removed) and in all: unused tickets (more are refused), used tickets and passes
    (the least recently seen are removed; their readers need a new ticket). `revoked`: whether a token of this user that
    was issued at that time (Unix seconds, None: unknown) has been revoked. `clock`: Unix seconds."""

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
        # "again": used tickets that came with a pass.
        self.counts: dict[str, int] = {"issued": 0, "used": 0, "again": 0}
        self._unused: ExpiringStore[_Ticket] = ExpiringStore(max_all=max_unused, max_per_user=max_unused_per_user)
        self._used: ExpiringStore[Identity] = ExpiringStore(max_all=max_used, max_per_user=max_used_per_user)
        self._passes: ExpiringStore[_Pass] = ExpiringStore(max_all=max_passes, max_per_user=max_passes_per_user)

    async def issue(self, identity: Identity, topics: Collection[str] | None = None, *, internal: bool = False) -> str:
        """A ticket for this user, limited to these topics where they are given. `internal`: for one request of this
        server to itself, with any method, also for an anonymous identity. Raises TooManyTickets."""
        now = self._clock()
        if self._unused.is_full(now):
            raise TooManyTickets("too many tickets are unused: try again shortly")
        text = secrets.token_urlsafe(_BYTES)
        bound = replace(identity, way="own") if internal else _for_topics(identity, topics)
        ticket = _Ticket(bound, internal)
        user = None if internal else identity.user
        self._unused.put(_digest(text), user, now + self.ticket_seconds, ticket, now)
        self.counts["issued"] += 1
        return text

    async def admit(self, text: str, passes: Sequence[str] = ()) -> Admitted:
        """Uses a ticket, or accepts a used one again from a browser that has a pass of its user. `passes`: those that
        the browser sent. Raises InvalidToken."""
        now = self._clock()
        key = _digest(text)
        ticket = self._unused.get(key, now)
        if ticket is not None and not ticket.internal:
            self._unused.pop(key, now)
            return self._first_use(key, ticket.identity, passes, now)
        identity = self._used.get(key, now)
        if identity is None:
            raise InvalidToken(
                f"the ticket is unknown or has expired (it is valid for {self.ticket_seconds:g} s): {_ANEW}"
            )
        if self._shown(identity, passes, now) is None:
            raise InvalidToken(f"the ticket has been used, and not by this browser: {_ANEW}")
        self._check(identity)
        self._used.touch(key)
        self.counts["again"] += 1
        return Admitted(replace(identity, way="pass"))

    async def redeem(self, text: str, method: str) -> Identity:
        """The ticket's identity, for one request and without a pass, which clients that send headers do not need.
        Raises InvalidToken."""
        now = self._clock()
        ticket = self._unused.get(_digest(text), now)
        if ticket is None:
            raise InvalidToken(f"the ticket is unknown, used or expired: {_ANEW}")
        if method != "GET" and not ticket.internal:
            raise InvalidToken("a ticket is accepted for GET only: send `Authorization: Bearer <token>`")
        self._unused.pop(_digest(text), now)
        self._check(ticket.identity)
        self.counts["used"] += 1
        return ticket.identity

    async def end_passes(self, passes: Sequence[str]) -> None:
        now = self._clock()
        for text in passes:
            self._passes.pop(_digest(text), now)

    async def drop(self, user: str) -> None:
        """Removes all tickets and passes of this user."""
        for store in (self._unused, self._used, self._passes):
            store.drop(user)

    def _first_use(self, key: bytes, identity: Identity, passes: Sequence[str], now: float) -> Admitted:
        self._check(identity)
        assert identity.user is not None
        expires = identity.expires if identity.expires is not None else now + self.pass_seconds
        if expires <= now:
            raise InvalidToken("the token that the ticket was issued for has expired: get a new one, then a new ticket")
        self._used.put(key, identity.user, expires, identity, now)
        self.counts["used"] += 1
        shown = self._shown(identity, passes, now)
        # Where the token never expires, a pass that lasts long enough is not prolonged with each ticket.
        needed = expires if identity.expires is not None else now + self.pass_seconds / 2
        if shown is not None and shown[1] >= needed:
            return Admitted(identity)
        # Several tabs share one cookie, so a prolonged pass keeps its text.
        text = shown[0] if shown is not None else secrets.token_urlsafe(_BYTES)
        self._passes.put(_digest(text), identity.user, expires, _Pass(identity.user, expires), now)
        return Admitted(identity, Pass(text, expires - now))

    def _check(self, identity: Identity) -> None:
        if self._revoked is not None and identity.user is not None and self._revoked(identity.user, identity.issued):
            raise InvalidToken("the token that the ticket was issued for has been revoked: log in again")

    def _shown(self, identity: Identity, passes: Sequence[str], now: float) -> tuple[str, float] | None:
        """The pass of this user among those that the browser sent, and its end."""
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
    # Limited to what was asked for: an admin's ticket for one topic follows that one only.
    return replace(
        identity,
        way="ticket",
        topics=frozenset(topics),
        grants=Grants.of(tuple(topics)),
        roles=identity.roles - {ADMIN},
    )


def _digest(text: str) -> bytes:
    return sha256(text[:_MAX_LENGTH].encode(errors="replace")).digest()
