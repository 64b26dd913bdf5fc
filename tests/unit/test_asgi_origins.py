"""Which pages may use the server, told by what browsers say of themselves."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.requests import Request

from support.gate import http_scope
from yeoul.asgi.errors import Problem, problem_of
from yeoul.asgi.headers import RawHeaders
from yeoul.asgi.origins import TRUSTED_PAGE, Origins, check_origin, is_cross_site

ALLOWED = ("https://app.example.com", "http://localhost:5173", "capacitor://localhost")


def run(
    headers: list[tuple[str, str]], *, method: str = "GET", scheme: str = "http"
) -> tuple[int, list[tuple[str, str]], Any]:
    """Status, headers, and what is noted in the scope for the application: `...` where it is not asked."""
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    if not any(name == b"host" for name, _ in raw):
        raw.append((b"host", b"localhost:8000"))
    scope = http_scope(method, scheme=scheme, headers=raw)
    origins, fields = Origins(ALLOWED), RawHeaders(raw)
    status, sent = 204, [(b"vary", b"Accept")]
    found: Any = ...
    try:
        origins.check(scope, fields)
        if method == "OPTIONS" and origins.is_preflight(fields):
            answer = origins.preflight(fields)
            status, sent = answer.status_code, answer.raw_headers
        else:
            found = scope[TRUSTED_PAGE]
        sent = origins.allow(fields, sent)
    except Problem as problem:
        status, sent = problem.status, problem_of(problem).raw_headers
    return status, [(name.decode(), value.decode()) for name, value in sent], found


@pytest.mark.parametrize("origin", [*ALLOWED, "http://localhost:8000", "https://localhost:8000"])
def test_own_pages_and_those_named_may(origin: str) -> None:
    status, headers, found = run([("Origin", origin), ("Sec-Fetch-Site", "cross-site")], method="POST")
    assert (status, found) == (204, True)
    assert (("access-control-allow-origin", origin) in headers) == (origin in ALLOWED)
    assert ("vary", "Accept, Origin") in headers


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com.evil",
        "https://evil-app.example.com",
        "https://sub.app.example.com",
        "https://example.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com:443",
        "https://app.example.com/",
        "https://app.example.com.",
        "https://APP.example.com",
        "https://app.example.com@evil.example",
        "https://user@app.example.com",
        "https://app.example.com, https://evil.example",
        "https://app.example.com https://evil.example",
        "https://appxexample.com",
        "http://localhost:5173.evil.example",
        "http://localhost:51730",
        "http://localhost",
        "http://localhost:8000.evil.example",
        "http://localhost:8000/",
        "http://localhost:08000",
        "http://localhost:8000@evil.example",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
        "ftp://localhost:8000",
        "file://localhost:8000",
        "capacitor://localhost:8000",
        "chrome-extension://localhost:8000",
        "localhost:8000",
        "//localhost:8000",
        "://localhost:8000",
        "http://",
        "null",
        "",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_what_only_looks_like_one_may_not(origin: str, method: str) -> None:
    fetch = [("Sec-Fetch-Site", "same-origin"), ("Access-Control-Request-Method", "POST")]
    status, headers, found = run([("Origin", origin), *fetch], method=method)
    assert (status, found) == (403, ...)
    assert not any(name.startswith("access-control") for name, _ in headers)
    assert ("vary", "Origin") in headers


@pytest.mark.parametrize("pair", [("null", ALLOWED[0]), (ALLOWED[0], "https://evil.example"), (ALLOWED[0], ALLOWED[0])])
def test_no_browser_sends_two_origins(pair: tuple[str, str]) -> None:
    assert (run([("Origin", pair[0]), ("Origin", pair[1])]))[0] == 403


def test_a_page_without_tls_is_not_ours_where_the_server_is_known_to_have_it() -> None:
    host = ("Host", "app.yeoul.example")
    for origin, scheme, status in [
        ("https://app.yeoul.example", "https", 204),
        ("https://app.yeoul.example", "http", 204),
        ("http://app.yeoul.example", "http", 204),
        ("http://app.yeoul.example", "https", 403),
    ]:
        assert (run([host, ("Origin", origin)], scheme=scheme))[0] == status, (origin, scheme)


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("https://app.yeoul.example", "app.yeoul.example:443", 204),
        ("http://app.yeoul.example", "app.yeoul.example:80", 204),
        ("http://app.yeoul.example", "APP.yeoul.example", 204),
        ("http://app.yeoul.example", "app.yeoul.example:443", 403),
        ("http://app.yeoul.example:8080", "app.yeoul.example", 403),
        ("http://app.yeoul.example", "app.yeoul.example:8080", 403),
        ("http://", "", 403),
    ],
)
def test_own_is_the_origin_that_the_request_was_sent_to(origin: str, host: str, status: int) -> None:
    assert (run([("Host", host), ("Origin", origin)]))[0] == status


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything-else"])
def test_without_an_origin_others_may_link_and_no_more(site: str) -> None:
    def fetch(mode: str, dest: str) -> list[tuple[str, str]]:
        return [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", dest)]

    link = fetch("navigate", "document")
    for method in ("GET", "HEAD"):
        status, headers, found = run(link, method=method)
        assert (status, found) == (204, None)
        assert ("vary", "Accept, Origin") in headers
    assert (run(link, method="POST"))[0] == 403
    for mode, dest in [("navigate", "iframe"), ("navigate", "embed"), ("no-cors", "image"), ("no-cors", "document")]:
        status, headers, found = run(fetch(mode, dest))
        assert (status, found) == (403, ...)
        assert ("vary", "Origin") in headers
    assert (run([("Sec-Fetch-Site", site)]))[0] == 403


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("Sec-Fetch-Site", "same-origin")], True),
        ([("Sec-Fetch-Site", "none")], True),
        ([("Referer", "http://localhost:8000/page?x=1")], True),
        ([("Referer", "http://localhost:8000.evil.example/")], None),
        ([("Referer", "http://localhost:8000@evil.example/")], None),
        ([("Referer", "https://evil.example/http://localhost:8000/")], None),
        ([("Referer", "http://[")], None),
        ([], None),
    ],
)
def test_programs_go_on_and_what_is_known_of_the_page_is_noted(
    headers: list[tuple[str, str]], found: bool | None
) -> None:
    assert (run(headers, method="POST"))[::2] == (204, found)


def test_a_preflight_says_what_may_be_sent() -> None:
    asked = [
        ("Origin", ALLOWED[0]),
        ("Access-Control-Request-Method", "DELETE"),
        ("Access-Control-Request-Headers", "authorization,content-type,last-event-id,idempotency-key,cache-control"),
        ("Access-Control-Request-Private-Network", "true"),
    ]
    status, raw, found = run(asked, method="OPTIONS")
    headers = dict(raw)
    assert (status, found) == (200, ...), "the application is not asked"
    assert headers["access-control-allow-origin"] == ALLOWED[0]
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-allow-private-network"] == "true"
    assert set(headers["access-control-allow-headers"].split(", ")) == set(asked[2][1].split(","))
    assert "DELETE" in headers["access-control-allow-methods"].split(", ")
    assert int(headers["access-control-max-age"]) > 60
    assert "origin" in headers["vary"].lower()


@pytest.mark.parametrize("names", ["baggage, sentry-trace", "x-requested-with", "traceparent,tracestate", "X-Anything"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_named_page_may_send_what_its_libraries_add(names: str, method: str) -> None:
    asked = [("Access-Control-Request-Method", method), ("Access-Control-Request-Headers", names)]
    status, raw, _ = run([("Origin", ALLOWED[0]), *asked], method="OPTIONS")
    assert status == 200
    assert dict(raw)["access-control-allow-headers"].replace(" ", "") == names.replace(" ", "")
    assert method in dict(raw)["access-control-allow-methods"].split(", ")


@pytest.mark.parametrize(("method", "names"), [("P OST", "x-a"), ("", "x-a"), ("POST", "x-a: b"), ("POST", "x\x00")])
def test_a_preflight_with_invalid_names_is_refused(method: str, names: str) -> None:
    asked = [("Access-Control-Request-Method", method), ("Access-Control-Request-Headers", names)]
    assert run([("Origin", ALLOWED[0]), *asked], method="OPTIONS")[0] == 400


@pytest.mark.parametrize("text", [*ALLOWED, "http://127.0.0.1:3000", "http://[::1]:3000", "https://xn--9t4b11y.kr"])
def test_an_origin_as_browsers_write_it_is_taken(text: str) -> None:
    assert check_origin(text) == text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("*", "name each origin"),
        ("null", "serve the page over HTTP"),
        ("app.example.com", "has no scheme"),
        ("localhost:5173", "has no scheme"),
        ("", "has no scheme"),
        ("https://app.example.com/", "no slash at the end"),
        ("https://app.example.com/page", "no path"),
        ("https://user@app.example.com", "is not a valid origin"),
        ("https://*.example.com", "is not a valid origin"),
        ("https://여울.kr", "xn--"),
        ("https://", "is not a valid origin"),
        ("https://app.example.com:", "is not a valid origin"),
        ("https://app.example.com:x", "is not a valid origin"),
        ("https://[::1", "is not a valid origin"),
        ("https://APP.example.com", "use 'https://app.example.com'"),
        ("https://app.example.com:443", "leave out 443"),
        ("http://app.example.com:80", "leave out 80"),
    ],
)
def test_an_invalid_origin_is_refused_with_what_would_be_right(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        check_origin(text)


@pytest.mark.parametrize(
    ("site", "own", "led"),
    [
        ("cross-site", None, True),
        ("same-site", None, True),
        ("cross-site", True, False),  # with an Origin that is named
        ("same-origin", True, False),
        (None, None, False),
        ("cross-site", ..., True),
        ("same-site", ..., False),
        (None, ..., False),
    ],
)
def test_work_is_not_started_by_links_from_elsewhere(site: str | None, own: Any, led: bool) -> None:
    headers = [] if site is None else [(b"sec-fetch-site", site.encode())]
    scope = {"type": "http", "path": "/", "query_string": b"", "headers": headers}
    if own is not ...:
        scope[TRUSTED_PAGE] = own
    assert is_cross_site(Request(scope)) is led
