"""The cookie: what it is set with, what it is good for, and what it is not."""

from __future__ import annotations

import aiohttp
import pytest

from support.reader import ask, open_stream
from support.tickets import cookie_of, issue_ticket
from support.tokens import SECRET, bearer, demo_token, make_jwt
from support.upstream import Upstream

pytestmark = [pytest.mark.parametrize("port", ["direct"], indirect=True)]
with_key = pytest.mark.settings(jwt_secret=SECRET)

OWN = {"Sec-Fetch-Site": "same-origin"}


async def log_out(port: int, headers: dict[str, str]) -> list[str]:
    """What the browser is told of its cookies."""
    address = f"http://127.0.0.1:{port}/auth/session"
    async with aiohttp.ClientSession() as session, session.delete(address, headers=headers) as answer:
        assert answer.status == 204
        return answer.headers.getall("Set-Cookie")


async def log_in(port: int, token: str) -> dict[str, str]:
    answer = await ask(port, "/auth/session", method="POST", headers=bearer(token))
    assert answer.status == 200, answer
    return cookie_of(answer)


@with_key
async def test_a_token_becomes_a_cookie_that_no_script_reads(port: int) -> None:
    answer = await ask(port, "/auth/session", method="POST", headers=bearer(make_jwt("u1", seconds=600)))
    assert answer.status == 200
    assert answer.json()["user"] == "u1"
    assert answer.headers["cache-control"] == "no-store"
    attributes = answer.headers["set-cookie"].split("; ")
    assert attributes[0].startswith("yeoul_token=eyJ")
    assert attributes[1] == "Path=/"
    assert 590 <= int(attributes[2].removeprefix("Max-Age=")) <= 605
    assert attributes[3:] == ["HttpOnly", "SameSite=Lax"]
    cookie = cookie_of(answer)
    me = (await ask(port, "/auth/me", headers=cookie)).json()
    assert (me["user"], me["way"]) == ("u1", "cookie")
    async with await open_stream(port, "/topics/chat/a", headers=cookie) as stream:
        assert stream.status == 200


@pytest.mark.settings(jwt_secret=SECRET, cookie="sid")
async def test_over_tls_it_is_secure_and_its_name_is_a_setting(port: int) -> None:
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "1.2.3.4"}
    headers = {**bearer(make_jwt()), **forwarded}
    answer = await ask(port, "/auth/session", method="POST", headers=headers)
    assert answer.headers["set-cookie"].startswith("sid=")
    assert answer.headers["set-cookie"].endswith("; Secure")
    sid = (await log_out(port, forwarded))[0]
    assert sid.startswith("sid=;")
    assert sid.endswith("; Secure"), "browsers forget no `__Host-` cookie otherwise"


async def test_a_demo_token_is_kept_for_a_day(port: int) -> None:
    token = demo_token("u1", "앤")
    answer = await ask(port, "/auth/session", method="POST", headers=bearer(token))
    assert "; Max-Age=86400; " in answer.headers["set-cookie"]
    assert (await ask(port, "/auth/me", headers=cookie_of(answer))).json()["name"] == "앤"


@with_key
async def test_only_a_token_that_was_sent_as_bearer_becomes_one(port: int, upstream: Upstream) -> None:
    cookie = await log_in(port, make_jwt())
    for headers in ({}, {**cookie, **OWN}, bearer("nonsense")):
        answer = await ask(port, "/auth/session", method="POST", headers=headers)
        assert answer.status == 401
        assert "set-cookie" not in answer.headers


@with_key
async def test_one_that_browsers_would_not_keep_is_refused(port: int) -> None:
    token = make_jwt(note="x" * 4_000)
    answer = await ask(port, "/auth/session", method="POST", headers=bearer(token))
    assert answer.status == 422
    assert "too large for a cookie" in answer.json()["detail"]


@with_key
async def test_the_end_of_a_session_forgets_the_cookie_and_the_pass(port: int) -> None:
    token = make_jwt()
    cookie = await log_in(port, token)
    path = f"/topics/chat/a?ticket={await issue_ticket(port, token)}"
    async with await open_stream(port, path) as stream:
        its_pass = cookie_of(stream)
    async with await open_stream(port, path, headers=its_pass) as stream:
        assert stream.status == 200
    both = {"Cookie": f"{cookie['Cookie']}; {its_pass['Cookie']}", **OWN}
    assert await log_out(port, both) == [
        "yeoul_token=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
        "yeoul_pass=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax",
    ]
    assert (await ask(port, path, headers=its_pass)).status == 401, "the pass is void, wherever it was copied to"


@with_key
async def test_the_cookie_changes_nothing_without_evidence_of_an_own_page(port: int, upstream: Upstream) -> None:
    cookie = {**await log_in(port, make_jwt(yeoul={"publish": ["news/*"]})), "Content-Type": "text/plain"}
    for method, path in (
        ("POST", "/topics/news/a"),
        ("POST", "/auth/tickets"),
        ("DELETE", "/auth/session"),
        ("GET", "/sse/chat?message=hi"),
    ):
        answer = await ask(port, path, method=method, headers=cookie, body=b"x" if "topics" in path else b"")
        assert answer.status == 403, (method, path)
        assert "Authorization: Bearer" in answer.json()["detail"]
    assert upstream.requests == []
    own = [OWN, {"Origin": f"http://127.0.0.1:{port}"}, {"Referer": f"http://127.0.0.1:{port}/page?x=1"}]
    for evidence in own:
        answer = await ask(port, "/topics/news/a", method="POST", headers={**cookie, **evidence}, body=b"x")
        assert answer.status == 202, evidence
    async with await open_stream(port, "/sse/chat?message=hi", headers={**cookie, **OWN}) as stream:
        assert stream.status == 200
        await stream.rest()


@with_key
async def test_a_cookie_that_is_not_taken_hides_nothing_that_is_open_and_is_told_where_a_user_is_needed(
    port: int,
) -> None:
    cookie = {"Cookie": f"yeoul_token={make_jwt(seconds=-60)}"}
    assert (await ask(port, "/", headers=cookie)).status == 200
    async with await open_stream(port, "/topics/system/status", headers=cookie) as stream:
        assert stream.status == 200
    answer = await ask(port, "/topics/chat/a", headers=cookie)
    assert answer.status == 401
    assert "the cookie 'yeoul_token' is not accepted" in answer.json()["detail"]
    assert "expired" in answer.json()["detail"]
    assert "expired" in (await ask(port, "/auth/me", headers=cookie)).json()["refused"]


@with_key
async def test_a_bearer_token_counts_before_the_cookie(port: int) -> None:
    cookie = await log_in(port, make_jwt("u1"))
    me = (await ask(port, "/auth/me", headers={**cookie, **bearer(make_jwt("u2"))})).json()
    assert (me["user"], me["way"]) == ("u2", "bearer")


@with_key
async def test_every_caller_can_read_its_own_identity(port: int) -> None:
    token = make_jwt("auth0|7", name="Ann", roles=["b", "a"], yeoul={"subscribe": ["chat/*"], "publish": []})
    me = (await ask(port, "/auth/me", headers=bearer(token))).json()
    assert me == {
        "user": "auth0|7",
        "name": "Ann",
        "email": None,
        "roles": ["a", "b"],
        "subscribe": ["chat/*", "system/status"],
        "publish": [],
        "topics": ["notifications/auth0~7C7"],
        "expires": pytest.approx(me["expires"]),
        "way": "bearer",
        "demo": False,
        "refused": None,
    }
    nobody = (await ask(port, "/auth/me")).json()
    assert (nobody["user"], nobody["roles"], nobody["way"]) == (None, [], "none")


async def test_in_demo_mode_the_operator_is_an_admin_without_a_name(port: int) -> None:
    me = (await ask(port, "/auth/me")).json()
    assert (me["user"], me["roles"], me["demo"]) == (None, ["admin"], True)
    answer = await ask(port, "/auth/session", method="POST")
    assert answer.status == 401
    assert "demo token" in answer.json()["detail"]
