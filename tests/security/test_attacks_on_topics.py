"""Names of topics, users and things that try to be, or to fit, others."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import pytest

from support.attacks import exchange
from support.reader import Answer, ask, open_stream
from support.tickets import issue_ticket
from support.tokens import bearer, make_jwt

GENERAL = make_jwt("ann", yeoul={"subscribe": ["chat/general"], "publish": ["chat/general", "news/a"]})
ROOMS = make_jwt("ann", yeoul={"subscribe": ["chat/*"], "publish": ["chat/*", "realtime/order/*"]})

# As they stand in a request's target, byte for byte: no client has tidied them up.
LOOK_LIKE = [
    "chat",
    "chat/",
    "/chat/general",
    "chat//general",
    "chat/general/",
    "chat/general/..",
    "chat/./general",
    "chat/../notifications",
    "chat/general/../../notifications",
    "chat%2F..%2Fnotifications",
    "chat%2f%2e%2e%2fnotifications",
    "chat%252Fgeneral",
    "chat%252e%252e",
    "chat\\general",
    "chat%5Cgeneral",
    "CHAT/general",
    "chat/General",
    "chat/genera%6C%00",
    "%00chat/general",
    "chat/general%0d%0aX:%20y",
    "chat/general%20",
    "chat/general%E2%80%8B",
    "chat/gen%EF%BB%BFeral",
    "chat/g%D0%B5neral",  # a Cyrillic letter
    "chat/%EF%BD%87eneral",  # of full width
    "chat%E2%88%95general",  # a slash of mathematics
    "chat%EF%BC%8Fgeneral",  # one of full width
    "chat%C0%AFgeneral",  # one in overlong UTF-8
    "chat/%C0%AE%C0%AE/notifications",
    "*",
    "%2A",
    "chat/*",
    "chat/%2A",
    "chat/{user}",
    "chat/general;x=y",
    "chat/general%3Fx",
    "chat/general%23x",
    "chat/" + "x" * 196,
    "notifications",
    "notifications/ann",
    "system/status/x",
    "stream.probe",
    "generations/x",
    "relays/x",
    "relays%2Fx",
]


async def target(port: int, method: str, path: str, token: str, body: bytes = b"") -> int:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return int((await exchange(port, head.encode() + body, most=12)).split(b" ")[1])


async def test_what_looks_like_a_granted_topic_is_neither_followed_nor_published_to(port: int) -> None:
    for name in LOOK_LIKE:
        for method, path in (("GET", f"/topics/{name}"), ("POST", f"/topics/{name}")):
            status = await target(port, method, path, GENERAL, b"x" if method == "POST" else b"")
            assert status in (400, 403, 404, 405, 415, 422), (method, name, status)
        assert await target(port, "GET", f"/stream?topic={name}", GENERAL) in (400, 403, 422), name
    assert (await ask(port, "/topics/chat/general", method="HEAD", headers=bearer(GENERAL))).status == 200


async def test_a_pattern_fits_what_is_below_it_and_leads_nowhere_else(port: int) -> None:
    for name in LOOK_LIKE:
        if name.startswith("chat/"):
            continue  # below it, or no topic
        assert await target(port, "GET", f"/topics/{name}", ROOMS) in (400, 403, 404, 422), name
    assert (await ask(port, "/topics/chat", headers=bearer(ROOMS))).status == 403


async def test_every_topic_of_several_must_be_granted_and_for_the_ticket_too(port: int) -> None:
    for token, names, status in (
        (GENERAL, ["chat/general", "chat/other"], 403),
        (GENERAL, ["chat/general", "notifications/bob"], 403),
        (ROOMS, ["chat/a", "chat/b"], 201),
        (ROOMS, ["chat/a", "chat/*"], 422),
        (ROOMS, ["*"], 422),
        (ROOMS, ["chat/a", "chat/../notifications"], 422),
    ):
        answer = await ask(port, "/auth/tickets", method="POST", headers=bearer(token), json_body={"topics": names})
        assert answer.status == status, names
        joined = "&".join(f"topic={quote(name)}" for name in names)
        async with await open_stream(port, f"/stream?{joined}", headers=bearer(token)) as stream:
            assert (stream.status == 200) == (status == 201), names


USERS = [
    "*",
    "{user}",
    "../bob",
    "..",
    ".",
    "all",
    "bob/x",
    "bob~2F",
    "~2A",
    "bob*",
    "bo%62",
    "BOB",
    "b\u00f6b",
    "bo\u0308b",
    "ｂｏｂ",
    "bоb",
    "bob ",
    "bob?",
    "bob#x",
    "/",
    "notifications/bob",
    "u" * 200,
]


async def test_no_users_name_makes_one_another_user_or_all_of_them(port: int) -> None:
    bob = make_jwt("bob")
    admin = bearer(make_jwt("root", roles=["admin"]))
    async with await open_stream(port, "/notifications/stream", headers=bearer(bob)) as stream:
        assert stream.status == 200
        await stream.take(1)
        seen = set()
        for user in USERS:
            token = bearer(make_jwt(user))
            me = await ask(port, "/auth/me", headers=token)
            (mine,) = me.json()["topics"]
            assert mine.count("/") == 1
            assert "*" not in mine
            seen.add(unicodedata.normalize("NFC", mine))
            assert (await ask(port, "/topics/notifications/bob", headers=token)).status == 403, user
            to_bob = {"title": "t", "message": user[:9], "userId": "bob"}
            sent = await ask(port, "/notifications/send", method="POST", headers=token, json_body=to_bob)
            assert sent.status == 403, user
            to_that_one = {"title": "t", "message": "for somebody else", "userId": user}
            sent = await ask(port, "/notifications/send", method="POST", headers=admin, json_body=to_that_one)
            assert sent.status in (202, 422), user
        assert len(seen) == len(USERS), "no two of them share a topic"
        to_bob = {"title": "t", "message": "the only one", "userId": "bob"}
        assert (await ask(port, "/notifications/send", method="POST", headers=admin, json_body=to_bob)).status == 202
        await stream.take(2)
        assert '"the only one"' in stream.events[1].data


async def test_no_thing_is_another_thing_or_all_of_its_kind(port: int) -> None:
    token = bearer(make_jwt("ann", yeoul={"publish": ["realtime/order/7", "realtime/a/b"]}))

    async def update(kind: str, id: str) -> Answer:
        body = {"entityType": kind, "entityId": id, "action": "x"}
        return await ask(port, "/realtime/update", method="POST", headers=token, json_body=body)

    assert (await update("order", "7")).status == 202
    for kind, id in (("order/7", "x"), ("order", "7/"), ("order", "*"), ("a/b", "c"), ("..", "order"), ("a", "b/../7")):
        assert (await update(kind, id)).status == 403, (kind, id)


@pytest.mark.parametrize("room", ["../system", "a/presence", "a b", "*", "..", "a\u200bb", "a\nb", "", "x" * 65, "a/b"])
async def test_no_room_is_another_topic(port: int, room: str) -> None:
    token = bearer(make_jwt("ann"))
    for path in ("/chat/send", "/chat/typing"):
        body = {"roomId": room, **({"message": "x"} if path == "/chat/send" else {})}
        assert (await ask(port, path, method="POST", headers=token, json_body=body)).status == 422
    assert (await ask(port, f"/chat/stream?room={quote(room, safe='')}", headers=token)).status == 422


async def test_users_forge_no_sender_and_no_admin_is_made_by_a_ticket(port: int) -> None:
    token = make_jwt("ann")
    for topic in ("chat/a", "chat/a/presence", "notifications", "notifications/ann", "realtime/a", "system/status"):
        body = {"data": '{"sender": {"id": "bob"}}'}
        answer = await ask(port, f"/topics/{topic}", method="POST", headers=bearer(token), json_body=body)
        assert answer.status == 403, topic
    for kind in ("stream.bye", "stream.hello", "error"):
        admin = bearer(make_jwt("root", roles=["admin"]))
        body = {"data": "x", "type": kind}
        assert (await ask(port, "/topics/a", method="POST", headers=admin, json_body=body)).status == 422
    ticket = await issue_ticket(port, make_jwt("root", roles=["admin"]), ["chat/a"])
    assert (await ask(port, f"/admin/connections?ticket={ticket}")).status == 403


async def test_a_user_is_no_admin(port: int) -> None:
    users = [bearer(make_jwt("ann", **extra)) for extra in ({}, {"roles": ["Admin", "administrator", "admin "]})]
    users.append(bearer(make_jwt("admin")))
    users.append(bearer(make_jwt("ann", yeoul={"subscribe": ["*"], "publish": ["*"]})))
    asked = [
        ("GET", "/admin/overview"),
        ("GET", "/admin/connections"),
        ("DELETE", "/admin/connections?user=bob"),
        ("DELETE", "/admin/connections/x"),
        ("GET", "/admin/topics"),
        ("DELETE", "/admin/topics/chat/a"),
        ("GET", "/auth/revocations"),
        ("POST", "/auth/revocations"),
        ("DELETE", "/auth/revocations/bob"),
    ]
    for headers in users:
        for method, path in asked:
            body = {"userId": "bob"} if method == "POST" else None
            assert (await ask(port, path, method=method, headers=headers, json_body=body)).status == 403, path
    for method, path in asked:
        assert (await ask(port, path, method=method)).status == 401, path
    broadcast = {"title": "t", "message": "m"}
    answer = await ask(port, "/notifications/send", method="POST", headers=users[0], json_body=broadcast)
    assert answer.status == 403
