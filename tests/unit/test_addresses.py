"""IP addresses as text: this machine's own, and the networks of others."""

from __future__ import annotations

import pytest

from yeoul.addresses import is_loopback, network_of, parse_address


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost", "127.0.0.1", "127.255.0.3", "::1", "[::1]", "::ffff:127.0.0.1"]
)
def test_this_machines_own_addresses(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "0.0.0.0",
        "::",
        "10.0.0.1",
        "::ffff:10.0.0.1",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "example.com",
    ],
)
def test_addresses_that_others_can_reach(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::9", "20010db800010002/64"),
        ("2001:db8:1:2:ffff::", "20010db800010002/64"),
        ("/run/yeoul.sock", "/run/yeoul.sock"),
        ("x" * 100, "x" * 64),
    ],
)
def test_the_network_that_one_client_controls(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.mark.parametrize("text", ["", "name", "1.2.3", "1" * 65, "::1%" + "z" * 61])
def test_other_text_is_no_address(text: str) -> None:
    assert parse_address(text) is None
