"""Under which names a server is asked for."""

from __future__ import annotations

import pytest

from yeoul.asgi.errors import Problem
from yeoul.asgi.headers import RawHeaders
from yeoul.asgi.hosts import Hosts, check_host


def status(
    *hosts: str,
    server: tuple[str, int | None] = ("127.0.0.1", 8000),
    allowed: tuple[str, ...] = (),
    version: str = "1.1",
) -> int:
    """Of the refusal; 204 where there is none."""
    headers = [(b"x-forwarded-host", b"localhost"), *((b"host", host.encode("latin-1")) for host in hosts)]
    scope = {"type": "http", "method": "GET", "http_version": version, "headers": headers, "server": server}
    rule = Hosts(allowed)
    try:
        for _ in range(2):  # what is remembered is judged alike
            rule.check(scope, RawHeaders(headers))
    except Problem as problem:
        return problem.status
    return 204


@pytest.mark.parametrize("server", ["127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LocalHost:8000",
        "localhost.:8000",
        "127.0.0.1:8000",
        "127.1.2.3",
        "[::1]:8000",
        "[::1]",
        "[::ffff:127.0.0.1]:8000",
        "app.localhost:8000",
        "localhost:9",  # a forwarded port
    ],
)
def test_on_loopback_this_machines_own_names_are_taken(host: str, server: str) -> None:
    assert status(host, server=(server, 8000)) == 204


@pytest.mark.parametrize("allowed", [(), ("app.example.com",)])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "localhost.com:8000",
        "127.0.0.1.nip.io",
        "127.0.0.1.nip.io:8000",
        "10.0.0.1",
        "[2001:db8::1]:8000",
        "2130706433",
        "127.1",
        "0.0.0.0:8000",  # reaches this machine, from pages of other sites too
        "[::]:8000",
        "0x7f000001",
        "app.example.com.evil.example",
        "sub.app.example.com",
        "xapp.example.com",
    ],
)
def test_other_names_are_misdirected(host: str, allowed: tuple[str, ...]) -> None:
    assert status(host, allowed=allowed) == 421


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        ("",),
        (" ",),
        ("localhost", "localhost"),
        ("localhost", "evil.example"),
        ("[::1",),
        ("::1",),
        ("localhost:8000@evil",),
        ("evil@localhost",),
        ("localhost:80x",),
        ("localhost:",),
        ("localhost:123456",),
        ("http://localhost",),
        ("localhost/",),
        ("localhost, evil.example",),
        ("local host",),
        ("localhost\x00",),
        (".localhost",),
        ("*",),
        ("여울".encode().decode("latin-1"),),
        ("a" * 300,),
    ],
)
def test_no_host_several_hosts_and_invalid_ones_are_refused(hosts: tuple[str, ...]) -> None:
    assert status(*hosts) == 400
    assert status(*hosts, server=("10.0.0.1", 80)) == 400


def test_http_1_0_needs_no_host_except_on_loopback() -> None:
    assert status(version="1.0") == 400
    assert status(version="1.0", server=("10.0.0.1", 80)) == 204
    assert status(version="1.0", server=("10.0.0.1", 80), allowed=("app.example.com",)) == 204
    assert status("evil.example", version="1.0") == 421
    assert status("localhost", "localhost", version="1.0") == 400


def test_a_name_that_is_allowed_is_taken_everywhere_with_any_port() -> None:
    for server in ("127.0.0.1", "10.0.0.1"):
        for host in ("app.example.com", "App.Example.com:8443", "app.example.com."):
            assert status(host, server=(server, 80), allowed=("APP.example.com",)) == 204


def test_elsewhere_all_names_are_taken_unless_some_are_allowed() -> None:
    elsewhere = ("10.0.0.1", 80)
    assert status("app.example.com", server=elsewhere) == 204
    assert status("evil.example", server=elsewhere, allowed=("app.example.com",)) == 421
    assert status("10.0.0.1:80", server=elsewhere, allowed=("app.example.com",)) == 204, "a health check"
    assert status("10.0.0.2", server=elsewhere, allowed=("app.example.com",)) == 421
    assert status("[fd00::1]", server=("fd00::1", 80), allowed=("app.example.com",)) == 204
    assert status("[fd00:0::1]", server=("fd00::1", 80), allowed=("app.example.com",)) == 204
    assert status("whatever", server=("/run/yeoul.sock", None)) == 204


@pytest.mark.parametrize(
    "text", ["*", "*.example.com", "app.example.com:443", "https://app.example.com", "a/b", "", "a b"]
)
def test_an_invalid_name_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it as 'app\.example\.com'"):
        check_host(text)
