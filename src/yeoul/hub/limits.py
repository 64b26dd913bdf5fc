"""Whom a stream is for, and how many streams may be open."""

from __future__ import annotations

from dataclasses import dataclass

from ..addresses import is_loopback, network_of
from ..errors import TooManyConnections

__all__ = ["ANONYMOUS", "ConnectionLimits", "Principal", "Reservation"]


@dataclass(frozen=True, slots=True)
class Principal:
    """`user` and `name` as the application knows them, None where the user is not known; `address` of the client;
    `expires`: until when it may read, in Unix seconds, None for no limit."""

    user: str | None = None
    name: str | None = None
    address: str | None = None
    expires: float | None = None


ANONYMOUS = Principal()


class ConnectionLimits:
    """How many streams may be open: `total`, `per_user` and `per_address`; None for no limit. An IPv6 address counts as
    its /64. Without `limit_loopback` the addresses of this machine have no limit.

    Each `acquire` that did not raise is matched by one `release` with the same principal.
    """

    def __init__(
        self,
        total: int | None = None,
        per_user: int | None = None,
        per_address: int | None = None,
        *,
        limit_loopback: bool = True,
    ) -> None:
        if any(limit is not None and limit < 1 for limit in (total, per_user, per_address)):
            raise ValueError("connection limits must be 1 or more, or None for no limit")
        self._total = total
        self._per_user = per_user
        self._per_address = per_address
        self._limit_loopback = limit_loopback
        self.taken = 0
        # At most as many entries as streams that are open.
        self.by_user: dict[str, int] = {}
        self.by_address: dict[str, int] = {}

    def acquire(self, principal: Principal) -> None:
        """Counts one more stream. Raises TooManyConnections, and has counted none."""
        self.check(principal)
        self._count(principal, 1)

    def release(self, principal: Principal) -> None:
        self._count(principal, -1)

    def reserve(self, principal: Principal) -> Reservation:
        """Counts a stream that is still to be opened. Raises TooManyConnections."""
        self.acquire(principal)
        return Reservation(self, principal)

    def check(self, principal: Principal) -> None:
        """Raises TooManyConnections where one more stream is over a limit at the moment."""
        user = principal.user
        if self._per_user is not None and user is not None and self.by_user.get(user, 0) >= self._per_user:
            raise TooManyConnections(
                f"connection limit reached: {self._per_user} streams of one user; close one, or follow several topics "
                "with one stream",
                "user",
            )
        if self._per_address is not None:
            address = self._address(principal)
            if address is not None and self.by_address.get(address, 0) >= self._per_address:
                raise TooManyConnections(
                    f"connection limit reached: {self._per_address} streams from one address; close one, or follow "
                    "several topics with one stream",
                    "address",
                )
        if self._total is not None and self.taken >= self._total:
            raise TooManyConnections(
                f"connection limit reached: {self._total} streams on this server; try again a little later", "all"
            )

    def _count(self, principal: Principal, number: int) -> None:
        self.taken += number
        if self._per_user is not None and principal.user is not None:
            _add(self.by_user, principal.user, number)
        if self._per_address is not None:
            address = self._address(principal)
            if address is not None:
                _add(self.by_address, address, number)

    def _address(self, principal: Principal) -> str | None:
        """What its address is counted as; None where that is not counted."""
        if principal.address is None or (not self._limit_loopback and is_loopback(principal.address)):
            return None
        return network_of(principal.address)


class Reservation:
    """A place for a stream that is still to be opened. It is used once or released, at the latest when nothing refers
    to it any more: a response that holds it may never be sent."""

    __slots__ = ("_limits", "principal")

    def __init__(self, limits: ConnectionLimits, principal: Principal) -> None:
        self._limits: ConnectionLimits | None = limits
        self.principal = principal

    def use(self) -> None:
        """The stream has the place now, and gives it back. Raises RuntimeError where it was used or released before."""
        if self._limits is None:
            raise RuntimeError("this reservation was used or released before")
        self._limits = None

    def release(self) -> None:
        if self._limits is not None:
            self._limits.release(self.principal)
            self._limits = None

    __del__ = release


def _add(counts: dict[str, int], key: str, number: int) -> None:
    count = counts.get(key, 0) + number
    if count:
        counts[key] = count
    else:
        del counts[key]
