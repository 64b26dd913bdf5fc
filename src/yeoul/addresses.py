"""IP addresses as text, compared in one form. Pure.

The same few addresses are asked about with every request, so each is parsed once: see `_MAX_CACHED`.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["is_loopback", "network_of", "parse_address"]

# Addresses that are remembered: about 300 bytes each.
_MAX_CACHED = 4_096

# The longest text of an IPv6 address, in brackets and with a zone. A trusted proxy may forward what a client made up.
_MAX_CHARS = 64

# One client of IPv6 has a network of 2**64 addresses (RFC 4291, 2.5.1).
_HOST_BITS = 64


def parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """The address, written with brackets or without; None for anything else, such as a name or the path of a socket. An
    IPv4 address in IPv6 form (`::ffff:127.0.0.1`, which a socket for both families shows) is the IPv4 address."""
    return _parse(text) if len(text) <= _MAX_CHARS else None


def is_loopback(host: str) -> bool:
    """Whether it is `localhost`, in 127.0.0.0/8, or ::1."""
    return len(host) <= _MAX_CHARS and _is_loopback(host)


def network_of(address: str) -> str:
    """The network that one client controls: an IPv4 address itself, the /64 of an IPv6 address, the first characters of
    anything else."""
    return _network_of(address[:_MAX_CHARS])


@lru_cache(_MAX_CACHED)
def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


@lru_cache(_MAX_CACHED)
def _is_loopback(host: str) -> bool:
    address = _parse(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


@lru_cache(_MAX_CACHED)
def _network_of(text: str) -> str:
    address = _parse(text)
    if address is None:
        return text
    return str(address) if isinstance(address, IPv4Address) else f"{int(address) >> _HOST_BITS:x}/{_HOST_BITS}"
