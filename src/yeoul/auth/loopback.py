"""Which addresses are this machine's own, and no other can reach."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

__all__ = ["is_loopback", "plain_address"]


def is_loopback(host: str) -> bool:
    """`localhost`, 127.0.0.0/8 and ::1."""
    address = plain_address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def plain_address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host is written as, in brackets or without; None for a name. ::ffff:127.0.0.1, as a socket for
    both families shows it, is 127.0.0.1."""
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address
