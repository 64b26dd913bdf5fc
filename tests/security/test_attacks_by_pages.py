"""Pages of others in the browser of somebody who is logged in: the cookie comes along, whoever made the browser ask."""

from __future__ import annotations

import pytest

from support.reader import ask
from support.tickets import cookie_of
from support.tokens import bearer, make_jwt
from support.upstream import Upstream

EVIL = "https://evil.example"

# What a browser says of requests that a page of another site, or of another port of this machine, makes it send.
PAGES = {
    "a form": {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    "a form of a sandbox": {"Origin": "null", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    "a script": {"Origin": EVIL, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    "an image": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    "another port": {"Origin": "http://127.0.0.1:1", "Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    "an image of another port": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    "a frame": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    "an old browser": {"Origin": EVIL, "Referer": f"{EVIL}/page"},
    "a name that begins like ours": {"Origin": "http://127.0.0.1.evil.example"},
}

LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

CHANGES = [
    ("POST", "/topics/news", {"data": "x"}),
    ("POST", "/chat/send", {"roomId": "a", "message": "x"}),
    ("POST", "/chat/typing", {"roomId": "a"}),
    ("POST", "/notifications/send", {"title": "t", "message": "m"}),
    ("POST", "/realtime/update", {"entityType": "a", "entityId": "b", "action": "c"}),
    ("POST", "/auth/tickets", None),
    ("POST", "/auth/revocations", {"userId": "bob"}),
    ("DELETE", "/auth/revocations/bob", None),
    ("DELETE", "/admin/connections?user=bob", None),
    ("DELETE", "/admin/topics/news", None),
    ("POST", "/generations", {"prompt": "x"}),
    ("POST", "/ask", {"question": "x"}),
    ("POST", "/recipes", {"title": "t", "ingredients": ["a"], "body": "b"}),
    ("DELETE", "/recipes/1", None),
]

# GETs that have a model paid for.
WORK = [
    "/sse/chat?message=x",
    "/sse/chat-normal?message=x",
    "/sse/countdown",
    "/ask?question=x",
    "/ai/chatbot/recommendation/free-text?message=x",
    "/recipes/generate-ai-stream?ingredients=%5B%22a%22%5D",
]


async def session(port: int) -> dict[str, str]:
    token = make_jwt("root", roles=["admin"])
    return cookie_of(await ask(port, "/auth/session", method="POST", headers=bearer(token)))


async def test_no_page_of_others_changes_anything_or_starts_work(port: int, upstream: Upstream) -> None:
    cookie = await session(port)
    for name, page in PAGES.items():
        for method, path, body in (*CHANGES, *(("GET", path, None) for path in WORK)):
            answer = await ask(port, path, method=method, headers={**cookie, **page}, json_body=body)
            assert answer.status == 403, (name, method, path)
            assert "access-control-allow-origin" not in answer.headers, (name, path)
    assert upstream.requests == []


async def test_without_evidence_of_its_page_the_cookie_neither_changes_anything_nor_starts_work(
    port: int, upstream: Upstream
) -> None:
    cookie = await session(port)
    for method, path, body in (*CHANGES, *(("GET", path, None) for path in WORK)):
        answer = await ask(port, path, method=method, headers=cookie, json_body=body)
        assert answer.status == 403, path
    assert upstream.requests == []


async def test_a_link_opens_pages_and_starts_no_work(port: int, upstream: Upstream) -> None:
    cookie = await session(port)
    assert (await ask(port, "/", headers={**cookie, **LINK})).status == 200
    for path in WORK:
        for headers in (LINK, {**cookie, **LINK}, {**cookie, **LINK, "Sec-Fetch-Site": "same-site"}):
            assert (await ask(port, path, headers=headers)).status in (401, 403), path
    for headers in ({**cookie, **LINK}, cookie):
        for path in ("/auth/session", "/generations"):
            override = {**headers, "X-HTTP-Method-Override": "POST", "X-Method-Override": "DELETE"}
            answer = await ask(port, f"{path}?_method=DELETE", headers=override)
            assert answer.status in (200, 405)
    assert upstream.requests == []


@pytest.mark.settings(cors_origins=["https://app.example.com"])
async def test_no_origin_is_reflected_but_the_ones_that_are_named(port: int) -> None:
    cookie = await session(port)
    origins = [
        EVIL,
        "null",
        "https://app.example.com.evil.example",
        "https://evilapp.example.com",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com/",
        "HTTPS://APP.EXAMPLE.COM",
        "https://app.example.com, https://evil.example",
        "https://user@app.example.com",
        "*",
    ]
    for origin in origins:
        for method in ("GET", "OPTIONS"):
            sent = {**cookie, "Origin": origin, "Access-Control-Request-Method": "POST"}
            answer = await ask(port, "/auth/me", method=method, headers=sent)
            assert answer.status == 403, origin
            assert not [name for name in answer.headers if name.startswith("access-control")], origin
    named = {**cookie, "Origin": "https://app.example.com"}
    assert (await ask(port, "/auth/me", headers=named)).json()["user"] == "root"


async def test_a_name_that_was_made_to_point_here_reads_nothing(port: int) -> None:
    cookie = await session(port)
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "localhost.evil.example", "[::1"):
        own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin", **cookie}
        forwarded = {**own, "X-Forwarded-Host": "127.0.0.1", "Forwarded": "host=localhost"}
        for headers in (own, forwarded):
            assert (await ask(port, "/auth/me", headers=headers)).status in (400, 421), host
            assert (await ask(port, "/topics/chat/a", headers=headers)).status in (400, 421), host


async def test_the_page_cannot_be_framed(port: int) -> None:
    policy = (await ask(port, "/")).headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
