"""Revoking the tokens of a user: at once, permanently, and of no other user."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest

from support.machine import budget
from support.reader import RawStream, ask, open_stream, publish
from support.serving import one_outlet, serving, yeoul_serve
from support.settings import make_settings
from support.tickets import cookie_of, issue_ticket, revoke
from support.tokens import SECRET, bearer, demo_token, make_jwt
from yeoul.app import create_app
from yeoul.errors import DatabaseUnavailable
from yeoul.storage.revocations import Revocations

with_key = pytest.mark.settings(jwt_secret=SECRET)


def admin() -> str:
    return make_jwt("root", roles=["admin"])


async def follow(port: int, headers: dict[str, str], path: str = "/topics/chat/a") -> RawStream:
    stream = await open_stream(port, path, headers=headers)
    assert stream.status == 200
    await stream.take(1)
    return stream


@with_key
async def test_all_credentials_of_the_user_are_refused_at_once_and_no_other_users(port: int) -> None:
    token = make_jwt("u1")
    ticket_path = f"/topics/chat/a?ticket={await issue_ticket(port, token)}"
    unused_path = f"/topics/chat/a?ticket={await issue_ticket(port, token)}"
    session = cookie_of(await ask(port, "/auth/session", method="POST", headers=bearer(token)))
    mine = [await follow(port, bearer(token)), await follow(port, session), await follow(port, {}, ticket_path)]
    other = await follow(port, bearer(make_jwt("u2")))
    began = time.monotonic()
    answer = await revoke(port, "u1", by=admin())
    assert answer.status == 201
    assert answer.json()["closed"] == 3
    for stream in mine:
        events = await stream.rest()
        assert events[-1].type == "stream.bye"
        assert json.loads(events[-1].data) == {"reason": "revoked", "reconnect": False}
        await stream.close()
    assert time.monotonic() - began < budget(1)
    assert (await ask(port, "/topics/chat/a", headers=bearer(token))).status == 401
    assert "revoked" in (await ask(port, "/auth/me", headers=session)).json()["refused"]
    assert (await ask(port, "/topics/chat/a", headers=session)).status == 401
    assert (await ask(port, ticket_path, headers=cookie_of(mine[2]))).status == 401
    assert (await ask(port, unused_path)).status == 401
    await publish(port, "chat/a", "on", headers=bearer(admin()))
    assert (await other.take(2))[1].data == "on"
    await other.close()


@with_key
@one_outlet
async def test_a_token_of_a_later_time_is_taken_and_one_that_does_not_say_is_not(port: int) -> None:
    at = (await revoke(port, "u1", by=admin())).json()["at"]
    assert (await ask(port, "/auth/me", headers=bearer(make_jwt("u1", iat=at + 1)))).status == 200
    assert (await ask(port, "/auth/me", headers=bearer(make_jwt("u1", iat=at)))).status == 401
    assert (await ask(port, "/auth/me", headers=bearer(make_jwt("u1", iat=at - 60)))).status == 401


@one_outlet
async def test_a_demo_token_is_refused_until_the_revocation_is_taken_back(port: int) -> None:
    token = bearer(demo_token("a/b c"))
    assert (await ask(port, "/auth/me", headers=token)).json()["user"] == "a/b c"
    assert (await revoke(port, "a/b c")).status == 201
    assert (await ask(port, "/auth/me", headers=token)).status == 401
    listed = (await ask(port, "/auth/revocations")).json()["revocations"]
    assert [entry["userId"] for entry in listed] == ["a/b c"]
    for status in (204, 404):
        assert (await ask(port, "/auth/revocations/a%2Fb%20c", method="DELETE")).status == status
    assert (await ask(port, "/auth/me", headers=token)).status == 200


@with_key
@one_outlet
async def test_only_admins_revoke(port: int) -> None:
    for token, status in ((make_jwt("u1"), 403), (None, 401)):
        headers = {} if token is None else bearer(token)
        for method, path in (("POST", ""), ("GET", ""), ("DELETE", "/u2")):
            body = {"userId": "u2"} if method == "POST" else None
            answer = await ask(port, f"/auth/revocations{path}", method=method, headers=headers, json_body=body)
            assert answer.status == status
    assert (await ask(port, "/auth/me", headers=bearer(make_jwt("u2")))).status == 200


@with_key
@one_outlet
async def test_an_admin_can_revoke_their_own_tokens_and_gets_the_response(port: int) -> None:
    token = admin()
    assert (await revoke(port, "root", by=token)).status == 201
    assert (await revoke(port, "root", by=token)).status == 401


@one_outlet
@pytest.mark.parametrize("body", [{}, {"userId": ""}, {"userId": 7}, {"user": "x"}, {"userId": "x" * 1_001}, [], "x"])
async def test_what_names_no_user_is_refused(port: int, body: object) -> None:
    headers = bearer(demo_token("root", roles="admin"))
    answer = await ask(port, "/auth/revocations", method="POST", headers=headers, json_body=body)
    assert answer.status == 422


@one_outlet
async def test_half_of_a_surrogate_pair_is_no_user(port: int) -> None:
    headers = {**bearer(demo_token("root", roles="admin")), "Content-Type": "application/json"}
    answer = await ask(port, "/auth/revocations", method="POST", headers=headers, body=b'{"userId": "\\ud800"}')
    assert answer.status == 422


@pytest.mark.parametrize("direct", [True, False])
async def test_a_user_who_is_revoked_while_streams_open_has_none_open(direct: bool) -> None:
    app = create_app(make_settings())
    async with serving(app, direct=direct) as port:
        headers = bearer(demo_token("u1"))
        opening = [asyncio.create_task(open_stream(port, "/topics/chat/a", headers=headers)) for _ in range(100)]
        while not app.state.hub.stats.readers:
            await asyncio.sleep(0)
        answer = await revoke(port, "u1")
        streams = await asyncio.gather(*opening)
        for stream in streams:
            events = await stream.rest() if stream.status == 200 else []
            assert stream.status == 401 or events[-1].type == "stream.bye"
            await stream.close()
        assert answer.json()["closed"] >= 1
        assert app.state.hub.stats.readers == 0


@one_outlet
async def test_where_it_cannot_be_written_nothing_is_claimed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    token = bearer(demo_token("u1"))
    stream = await follow(port, token)

    async def unwritable(self: Revocations, user: str, at: float) -> None:
        raise DatabaseUnavailable("the database cannot be written at the moment: its disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Revocations, "_write", unwritable)
        answer = await revoke(port, "u1")
        assert answer.status == 503
        assert "retry-after" in answer.headers
    assert (await ask(port, "/auth/revocations")).json() == {"revocations": []}
    assert (await ask(port, "/auth/me", headers=token)).status == 200
    assert (await stream.rest())[-1].type == "stream.bye"
    await stream.close()


@pytest.mark.timeout(240)
async def test_a_restart_lifts_no_revocation(tmp_path: Path) -> None:
    env = {"YEOUL_DATA_DIR": str(tmp_path)}
    token = bearer(demo_token("u1"))
    with yeoul_serve(env=env) as served:
        stream = await follow(served.port, token)
        began = time.monotonic()
        assert (await revoke(served.port, "u1")).status == 201
        assert (await stream.rest())[-1].type == "stream.bye"
        assert time.monotonic() - began < budget(1)
        await stream.close()
        # Killed, not ended: what was acknowledged is on the disk.
        served.signal(9)
        await asyncio.to_thread(served.wait)
    with yeoul_serve(env=env) as served:
        assert (await ask(served.port, "/topics/chat/a", headers=token)).status == 401
        assert (await ask(served.port, "/auth/me", headers=bearer(demo_token("u2")))).status == 200
        assert (await ask(served.port, "/auth/revocations/u1", method="DELETE")).status == 204
        assert (await ask(served.port, "/auth/me", headers=token)).status == 200
