"""The client's address and scheme as trusted proxies report them (`X-Forwarded-For`, `X-Forwarded-Proto`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from ..addresses import parse_address

__all__ = ["TrustedProxies"]

_SCHEMES = frozenset({b"http", b"https"})
# The longest textual form of an address has 45 characters; longer texts are not worth an entry in a cache.
_MAX_ADDRESS = 64


class TrustedProxies:
    """`networks`: addresses and networks, such as `10.0.0.5` and `10.0.0.0/8`. Raises ValueError for anything else.

    IPv4 addresses in IPv6 form (`::ffff:10.0.0.5`, which a socket that listens on `::` reports) are compared as IPv4
    addresses.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(text) for text in networks]
        self._trusts = lru_cache(maxsize=4_096)(self._compare)

    def __contains__(self, address: str) -> bool:
        return len(address) <= _MAX_ADDRESS and self._trusts(address)

    def _compare(self, text: str) -> bool:
        address = parse_address(text)
        return address is not None and any(
            address in network for network in self._networks if network.version == address.version
        )

    def client(self, headers: Sequence[tuple[bytes, bytes]]) -> tuple[str, int] | None:
        """The last address in `X-Forwarded-For` that is not a trusted proxy's: what stands before it may be written by
        the client itself. None without such a header."""
        values = [value for name, value in headers if name == b"x-forwarded-for"]
        hops = [hop for value in values for hop in value.decode("latin-1").replace(" ", "").split(",") if hop]
        address = None
        for hop in reversed(hops):
            address = _without_port(hop)
            if address[0] not in self:
                break
        return address

    @staticmethod
    def scheme(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
        """The last `X-Forwarded-Proto`, where it is `http` or `https`."""
        for name, value in reversed(headers):
            if name == b"x-forwarded-proto":
                scheme = value.strip().lower()
                return scheme.decode() if scheme in _SCHEMES else None
        return None


def _without_port(hop: str) -> tuple[str, int]:
    """Some proxies add the port: `192.0.2.1:4711`, `[2001:db8::1]:4711`."""
    if hop.startswith("["):
        host, closed, rest = hop[1:].partition("]")
        if not closed:
            return hop, 0
        port = rest.removeprefix(":")
    elif hop.count(":") == 1:
        host, _, port = hop.partition(":")
    else:
        return hop, 0
    return host, int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
