"""Who asks, as much as is known without authentication."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from yeoul.asgi.caller import caller_of


def request(host: str | None, **headers: str) -> Request:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": sent, "client": None if host is None else (host, 1)})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_a_client_on_this_machine_is_local(host: str) -> None:
    assert caller_of(request(host)) == "local"


@pytest.mark.parametrize("host", ["10.0.0.1", "203.0.113.5", "2001:db8::1", "testclient", "", None])
def test_anybody_else_is_nobody(host: str | None) -> None:
    assert caller_of(request(host)) is None


@pytest.mark.parametrize("header", ["forwarded", "x_forwarded_for", "x_real_ip", "via"])
def test_a_proxy_on_this_machine_speaks_for_somebody_unknown(header: str) -> None:
    assert caller_of(request("127.0.0.1", **{header: "127.0.0.1"})) is None
