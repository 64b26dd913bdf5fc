"""The cookies of this server: what they say to the browser."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection

from yeoul.asgi.authentication import cookie_text, pass_cookie, passes_of
from yeoul.asgi.origins import TRUSTED_PAGE
from yeoul.auth.tickets import Pass


def request(
    cookie: str = "", *, scheme: str = "http", site: str = "", own: bool | None = None, root_path: str = ""
) -> HTTPConnection:
    sent = {"cookie": cookie, "sec-fetch-site": site}
    headers = [(name.encode(), value.encode()) for name, value in sent.items() if value]
    scope = {"type": "http", "path": "/", "query_string": b"", "headers": headers, "scheme": scheme, TRUSTED_PAGE: own}
    scope["root_path"] = root_path
    return HTTPConnection(scope)


def given(request: HTTPConnection, text: str = "new", seconds: float = 60.9) -> str:
    return pass_cookie(request, Pass(text, seconds), other_seconds=500)


def test_no_script_reads_it_and_no_other_site_sends_it() -> None:
    assert given(request()) == "yeoul_pass=new; Path=/; Max-Age=60; HttpOnly; SameSite=Strict"


def test_over_tls_it_stays_there() -> None:
    assert given(request(scheme="https")).endswith("SameSite=Strict; Secure")


def test_an_allowed_page_of_another_site_gets_one_that_its_browser_sends() -> None:
    assert given(request(site="cross-site", own=True)).endswith("SameSite=None; Secure")
    assert given(request(site="same-site", own=True)).endswith("SameSite=Strict")
    assert given(request(site="cross-site", own=None)).endswith("SameSite=Strict"), "a link is no allowed page"


def test_passes_of_several_users_share_the_cookie() -> None:
    """Two tabs, two users: neither takes the other's way back."""
    asked = request("a=1; yeoul_pass=one.two")
    assert passes_of(asked) == ["one", "two"]
    assert given(asked).startswith("yeoul_pass=new.one.two; Path=/; Max-Age=500;")
    assert given(asked, "two").startswith("yeoul_pass=two.one; ")
    many = request("yeoul_pass=1.2.3.4.5.6.7")
    assert passes_of(many) == ["1", "2", "3", "4"]
    assert given(many).startswith("yeoul_pass=new.1.2.3; ")


def test_without_a_cookie_there_is_no_pass() -> None:
    assert list(passes_of(request())) == []
    assert list(passes_of(request("yeoul_pass="))) == []


def test_a_cookie_is_sent_back_to_every_path_and_by_links() -> None:
    assert cookie_text(request(), "c", "v==", seconds=9, same_site="Lax", secure=False) == (
        "c=v==; Path=/; Max-Age=9; HttpOnly; SameSite=Lax"
    )


@pytest.mark.parametrize(
    ("root_path", "path"),
    [
        ("", "/"),
        ("/yeoul", "/yeoul"),
        ("/여울/a", "/%EC%97%AC%EC%9A%B8/a"),
        ("/a; Domain=example.com\r\nx: y", "/a%3B%20Domain=example.com%0D%0Ax:%20y"),
    ],
)
def test_below_a_path_other_applications_of_the_host_are_not_sent_it(root_path: str, path: str) -> None:
    assert given(request(root_path=root_path)) == f"yeoul_pass=new; Path={path}; Max-Age=60; HttpOnly; SameSite=Strict"


@pytest.mark.parametrize(("name", "path"), [("__Host-c", "/"), ("__host-c", "/"), ("__Secure-c", "/yeoul")])
def test_a_cookie_that_must_be_the_whole_hosts_is(name: str, path: str) -> None:
    text = cookie_text(request(root_path="/yeoul"), name, "v", seconds=9, same_site="Lax", secure=True)
    assert text == f"{name}=v; Path={path}; Max-Age=9; HttpOnly; SameSite=Lax; Secure"
