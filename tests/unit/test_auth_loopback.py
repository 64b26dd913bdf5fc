"""Which addresses no other machine can reach."""

from __future__ import annotations

import pytest

from yeoul.auth.loopback import is_loopback


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
