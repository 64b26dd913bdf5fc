"""Who asks, as much as is known without authentication."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from yeoul.asgi.caller import caller_of


def request(address: str | None, **headers: str) -> Request:
    headers = {"host": "127.0.0.1:8000", **headers}
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    client = None if address is None else (address, 1)
    return Request({"type": "http", "path": "/", "query_string": b"", "headers": sent, "client": client})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_a_client_on_this_machine_is_local(host: str) -> None:
    assert caller_of(request(host)) == "local"


@pytest.mark.parametrize("host", ["10.0.0.1", "203.0.113.5", "2001:db8::1", "testclient", "", None])
def test_anybody_else_is_nobody(host: str | None) -> None:
    assert caller_of(request(host)) is None


@pytest.mark.parametrize("header", ["forwarded", "x_forwarded_for", "x_real_ip", "via"])
def test_a_proxy_on_this_machine_speaks_for_somebody_unknown(header: str) -> None:
    assert caller_of(request("127.0.0.1", **{header: "127.0.0.1"})) is None


@pytest.mark.parametrize("name", ["localhost", "localhost:8000", "127.0.0.1", "[::1]:8000"])
def test_this_machine_has_these_names(name: str) -> None:
    assert caller_of(request("127.0.0.1", host=name)) == "local"


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8000", "localhost.evil.example", "10.0.0.1", ""])
def test_a_page_whose_name_was_made_to_lead_here_is_nobody(name: str) -> None:
    assert caller_of(request("127.0.0.1", host=name)) is None
