"""Whom a stream is for, as far as the hub has to know."""

from __future__ import annotations

from dataclasses import dataclass

from ..addresses import is_loopback, network_of
from ..errors import TooManyConnections

__all__ = ["ANONYMOUS", "ConnectionLimits", "Principal", "Reservation"]


@dataclass(frozen=True, slots=True)
class Principal:
    """`user` and `name` as the application knows them, None for somebody unknown; `address` of the client; `expires`:
    until when it may read, in Unix seconds, None for as long as it likes."""

    user: str | None = None
    name: str | None = None
    address: str | None = None
    expires: float | None = None


ANONYMOUS = Principal()


class ConnectionLimits:
    """Counts places. None: no bound. The address of a Principal is counted as it is, one of IPv6 by its /64; without
    `limit_loopback` this machine's own addresses have no bound.

    Each `enter` that did not raise is matched by one `leave` with the same principal.
    """

    def __init__(
        self,
        most: int | None = None,
        per_user: int | None = None,
        per_address: int | None = None,
        *,
        limit_loopback: bool = True,
    ) -> None:
        if any(bound is not None and bound < 1 for bound in (most, per_user, per_address)):
            raise ValueError("bounds on connections are 1 and more, or None for no bound")
        self._most = most
        self._per_user = per_user
        self._per_address = per_address
        self._limit_loopback = limit_loopback
        self.taken = 0
        # As many entries as places that are taken, at most.
        self.by_user: dict[str, int] = {}
        self.by_address: dict[str, int] = {}

    def reserve(self, principal: Principal) -> Reservation:
        """Takes a place for a connection that is still to be opened. Raises TooManyConnections."""
        self.enter(principal)
        return Reservation(self, principal)

    def enter(self, principal: Principal) -> None:
        """Takes a place. Raises TooManyConnections, and has taken none."""
        self.check(principal)
        self._count(principal, 1)

    def leave(self, principal: Principal) -> None:
        self._count(principal, -1)

    def check(self, principal: Principal) -> None:
        """Raises TooManyConnections where there is no place, as things are."""
        user, address = self._user(principal), self._address(principal)
        if self._per_user is not None and user is not None and self.by_user.get(user, 0) >= self._per_user:
            raise TooManyConnections(
                f"you have as many streams open as one user may, {self._per_user}: close one, or follow several topics "
                "with one stream",
                "user",
            )
        if (
            self._per_address is not None
            and address is not None
            and self.by_address.get(address, 0) >= self._per_address
        ):
            raise TooManyConnections(
                f"as many streams are open from your address as may be, {self._per_address}: close one, or follow "
                "several topics with one stream",
                "address",
            )
        if self._most is not None and self.taken >= self._most:
            raise TooManyConnections(
                f"as many streams are open as this server takes, {self._most}: come back a little later", "all"
            )

    def _count(self, principal: Principal, number: int) -> None:
        self.taken += number
        _add(self.by_user, self._user(principal), number)
        _add(self.by_address, self._address(principal), number)

    def _user(self, principal: Principal) -> str | None:
        return principal.user if self._per_user is not None else None

    def _address(self, principal: Principal) -> str | None:
        """What its address is counted under; None where that is not counted."""
        if self._per_address is None or principal.address is None:
            return None
        if not self._limit_loopback and is_loopback(principal.address):
            return None
        return network_of(principal.address)


class Reservation:
    """A place for a connection that is still to be opened. It is used once or released, at the latest when nothing
    refers to it any more: a response that holds it may never be sent."""

    __slots__ = ("_limits", "principal")

    def __init__(self, limits: ConnectionLimits, principal: Principal) -> None:
        self._limits: ConnectionLimits | None = limits
        self.principal = principal

    def use(self) -> None:
        """The connection has the place now, and leaves it. Raises RuntimeError where it was used or released before."""
        if self._limits is None:
            raise RuntimeError("this reservation was used or released before")
        self._limits = None

    def release(self) -> None:
        if self._limits is not None:
            self._limits.leave(self.principal)
            self._limits = None

    __del__ = release


def _add(counts: dict[str, int], key: str | None, number: int) -> None:
    if key is None:
        return
    count = counts.get(key, 0) + number
    if count:
        counts[key] = count
    else:
        del counts[key]
