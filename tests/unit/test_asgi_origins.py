"""Which pages may use the server, told by what browsers say of themselves."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from yeoul.asgi.origins import OWN_PAGE, Origins, check_origin, led_here

ALLOWED = ("https://app.example.com", "http://localhost:5173", "capacitor://localhost")


async def run(
    headers: list[tuple[str, str]], *, method: str = "GET", scheme: str = "http", fails: bool = False
) -> tuple[int, list[tuple[str, str]], Any]:
    """Status, headers, and what the application found in the scope: `...` where it was not asked."""
    found: Any = ...
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal found
        found = scope[OWN_PAGE]
        if fails:
            raise RuntimeError("a secret")
        await send({"type": "http.response.start", "status": 204, "headers": [(b"vary", b"Accept")]})

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    if not any(name == b"host" for name, _ in raw):
        raw.append((b"host", b"localhost:8000"))
    scope = {"type": "http", "method": method, "scheme": scheme, "headers": raw, "path": "/", "query_string": b""}
    try:
        await Origins(app, ALLOWED)(scope, None, send)  # type: ignore[arg-type]
    except RuntimeError:
        assert fails
    assert not any(b"a secret" in message.get("body", b"") for message in sent)
    return sent[0]["status"], [(name.decode(), value.decode()) for name, value in sent[0]["headers"]], found


@pytest.mark.parametrize("origin", [*ALLOWED, "http://localhost:8000", "https://localhost:8000"])
async def test_own_pages_and_those_named_may(origin: str) -> None:
    status, headers, found = await run([("Origin", origin), ("Sec-Fetch-Site", "cross-site")], method="POST")
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
async def test_what_only_looks_like_one_may_not(origin: str, method: str) -> None:
    fetch = [("Sec-Fetch-Site", "same-origin"), ("Access-Control-Request-Method", "POST")]
    status, headers, found = await run([("Origin", origin), *fetch], method=method)
    assert (status, found) == (403, ...)
    assert not any(name.startswith("access-control") for name, _ in headers)
    assert ("vary", "Origin") in headers


@pytest.mark.parametrize("pair", [("null", ALLOWED[0]), (ALLOWED[0], "https://evil.example"), (ALLOWED[0], ALLOWED[0])])
async def test_no_browser_sends_two_origins(pair: tuple[str, str]) -> None:
    assert (await run([("Origin", pair[0]), ("Origin", pair[1])]))[0] == 403


async def test_a_page_without_tls_is_not_ours_where_the_server_is_known_to_have_it() -> None:
    host = ("Host", "app.yeoul.example")
    for origin, scheme, status in [
        ("https://app.yeoul.example", "https", 204),
        ("https://app.yeoul.example", "http", 204),
        ("http://app.yeoul.example", "http", 204),
        ("http://app.yeoul.example", "https", 403),
    ]:
        assert (await run([host, ("Origin", origin)], scheme=scheme))[0] == status, (origin, scheme)


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
async def test_own_is_the_origin_that_the_request_was_sent_to(origin: str, host: str, status: int) -> None:
    assert (await run([("Host", host), ("Origin", origin)]))[0] == status


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything-else"])
async def test_without_an_origin_others_may_link_and_no_more(site: str) -> None:
    def fetch(mode: str, dest: str) -> list[tuple[str, str]]:
        return [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", dest)]

    link = fetch("navigate", "document")
    for method in ("GET", "HEAD"):
        status, headers, found = await run(link, method=method)
        assert (status, found) == (204, None)
        assert ("vary", "Accept, Origin") in headers
    assert (await run(link, method="POST"))[0] == 403
    for mode, dest in [("navigate", "iframe"), ("navigate", "embed"), ("no-cors", "image"), ("no-cors", "document")]:
        status, headers, found = await run(fetch(mode, dest))
        assert (status, found) == (403, ...)
        assert ("vary", "Origin") in headers
    assert (await run([("Sec-Fetch-Site", site)]))[0] == 403


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
async def test_programs_go_on_and_what_is_known_of_the_page_is_noted(
    headers: list[tuple[str, str]], found: bool | None
) -> None:
    assert (await run(headers, method="POST"))[::2] == (204, found)


async def test_a_preflight_says_what_may_be_sent() -> None:
    asked = [
        ("Origin", ALLOWED[0]),
        ("Access-Control-Request-Method", "DELETE"),
        ("Access-Control-Request-Headers", "authorization,content-type,last-event-id,idempotency-key,cache-control"),
        ("Access-Control-Request-Private-Network", "true"),
    ]
    status, raw, found = await run(asked, method="OPTIONS")
    headers = dict(raw)
    assert (status, found) == (200, ...), "the application is not asked"
    assert headers["access-control-allow-origin"] == ALLOWED[0]
    assert headers["access-control-allow-credentials"] == "true"
    assert headers["access-control-allow-private-network"] == "true"
    assert set(headers["access-control-allow-methods"].split(", ")) == {"GET", "POST", "PATCH", "DELETE", "HEAD"}
    assert int(headers["access-control-max-age"]) > 60
    assert "origin" in headers["vary"].lower()
    put = [asked[0], ("Access-Control-Request-Method", "PUT")]
    assert (await run(put, method="OPTIONS"))[0] == 400
    other = [*asked[:2], ("Access-Control-Request-Headers", "x-other")]
    assert (await run(other, method="OPTIONS"))[0] == 400


async def test_a_failure_can_be_read_by_a_page_that_is_named() -> None:
    status, headers, _ = await run([("Origin", ALLOWED[0])], fails=True)
    assert status == 500
    assert ("access-control-allow-origin", ALLOWED[0]) in headers


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
        ("https://app.example.com/", "no slash at its end"),
        ("https://app.example.com/page", "no path"),
        ("https://user@app.example.com", "is no origin"),
        ("https://*.example.com", "is no origin"),
        ("https://여울.kr", "xn--"),
        ("https://", "is no origin"),
        ("https://app.example.com:", "is no origin"),
        ("https://app.example.com:x", "is no origin"),
        ("https://[::1", "is no origin"),
        ("https://APP.example.com", "use 'https://app.example.com'"),
        ("https://app.example.com:443", "leave out the port 443"),
        ("http://app.example.com:80", "leave out the port 80"),
    ],
)
def test_what_is_no_origin_is_refused_with_what_would_be_right(text: str, told: str) -> None:
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
        scope[OWN_PAGE] = own
    assert led_here(Request(scope)) is led


async def test_other_scopes_are_left_alone() -> None:
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    await Origins(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
