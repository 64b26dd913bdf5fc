from __future__ import annotations

import pytest

from yeoul.server.forwarded import TrustedProxies

PROXIES = TrustedProxies(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"])


def forwarded(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value.encode("latin-1")) for value in values]


@pytest.mark.parametrize(
    ("address", "trusted"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("10.255.0.1", True),
        ("::ffff:10.0.0.1", True),  # how a socket that listens on :: shows an IPv4 address
        ("::ffff:192.0.2.1", False),
        ("2001:DB8::1", True),
        ("2001:db9::1", False),
        ("localhost", False),
        ("", False),
        ("1" * 1_000, False),
    ],
)
def test_addresses_are_compared_and_not_their_text(address: str, trusted: bool) -> None:
    assert (address in PROXIES) is trusted


@pytest.mark.parametrize(
    ("values", "client"),
    [
        (["192.0.2.1"], ("192.0.2.1", 0)),
        (["203.0.113.9, 192.0.2.1"], ("192.0.2.1", 0)),
        (["203.0.113.9,192.0.2.1 , 10.0.0.7,::ffff:10.0.0.8"], ("192.0.2.1", 0)),
        (["203.0.113.9, 192.0.2.1", "10.0.0.7"], ("192.0.2.1", 0)),
        (["10.0.0.1, 10.0.0.2"], ("10.0.0.1", 0)),
        (["192.0.2.1:4711"], ("192.0.2.1", 4711)),
        (["[2001:db9::1]:4711"], ("2001:db9::1", 4711)),
        (["[2001:db9::1]"], ("2001:db9::1", 0)),
        (["2001:db9::1"], ("2001:db9::1", 0)),
        (["192.0.2.1:99999999"], ("192.0.2.1", 0)),
        (["[nonsense"], ("[nonsense", 0)),
        (["unknown"], ("unknown", 0)),
        ([", ,"], None),
        ([""], None),
        ([], None),
    ],
)
def test_the_client_is_the_last_address_that_is_not_a_proxys(values: list[str], client: tuple[str, int] | None) -> None:
    assert PROXIES.client(forwarded(*values)) == client


@pytest.mark.parametrize(
    ("values", "scheme"),
    [
        (["https"], "https"),
        (["HTTP "], "http"),
        (["http", "https"], "https"),
        (["ftp"], None),
        ([""], None),
        ([], None),
    ],
)
def test_the_scheme_is_one_of_two(values: list[str], scheme: str | None) -> None:
    assert TrustedProxies.scheme([(b"x-forwarded-proto", value.encode()) for value in values]) == scheme


@pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "", "*"])
def test_what_is_neither_address_nor_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        TrustedProxies([text])
