"""The proxy that a URL is reached through, as `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_network
from urllib.request import getproxies_environment

from yarl import URL

from ..addresses import is_loopback, parse_address
from ..errors import UpstreamRefused

__all__ = ["proxy_for"]


def proxy_for(url: URL, proxies: Mapping[str, str] | None = None) -> URL | None:
    """The proxy's URL, None where the upstream is reached directly.

    `proxies`: a proxy's address by scheme (`http`, `https`, `all`), and under `no` the hosts that need none; by default
    what the environment says, read as the standard library does: a variable in lower case wins, and `HTTP_PROXY` is not
    read in a CGI program (CVE-2016-5385). `NO_PROXY` lists hosts (their subdomains are included), `host:port`,
    addresses, networks (CIDR), or `*`.

    As in Go, this machine itself is never reached through a proxy: a model server on 127.0.0.1 must work where the
    proxy of a company is set.

    Raises UpstreamRefused for a proxy that is not an HTTP proxy.
    """
    if proxies is None:
        proxies = getproxies_environment()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or url.host is None or _is_direct(url.host, url.port, proxies.get("no", "")):
        return None
    with suppress(ValueError):
        proxy = URL(address if "://" in address else f"http://{address}")
        if proxy.scheme in ("http", "https") and proxy.host:
            return proxy
    # Not shown: proxies have passwords.
    raise UpstreamRefused(
        "the proxy that this server is to use cannot be used",
        detail=f"{url.scheme.upper()}_PROXY or ALL_PROXY is not the URL of an HTTP proxy (http://host:port): "
        f"change it, or list {url.host} in NO_PROXY",
        retryable=False,
    )


def _is_direct(host: str, port: int | None, listed: str) -> bool:
    host = host.rstrip(".").lower()
    if is_loopback(host) or host.endswith(".localhost"):
        return True
    address = parse_address(host)
    return any(_matches(entry.strip().lower(), host, address, port) for entry in listed.split(","))


def _matches(entry: str, host: str, address: IPv4Address | IPv6Address | None, port: int | None) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    if address is not None:
        with suppress(ValueError):
            return address in ip_network(entry.removeprefix("[").removesuffix("]"), strict=False)
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit():
        if int(number) != port:
            return False
        entry = name.removeprefix("[").removesuffix("]")
    entry = entry.removeprefix("*").removeprefix(".")
    return host == entry or host.endswith(f".{entry}")
