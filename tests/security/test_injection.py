"""Everything that a client chooses, with line ends, NUL and marks in it: none of it writes another field, header, event
or line of a log."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest

from support.attacks import exchange
from support.reader import Answer, RawStream, ask, open_stream
from support.tickets import issue_ticket
from support.tokens import bearer, make_jwt
from yeoul.server.logs import configure_logs
from yeoul.sse import Decoder

ADMIN = make_jwt("root", roles=["admin"])

# Ends of lines as anybody counts them, and what a field of the wire, of HTTP or a record of a log would look like.
BREAKS = ["\r", "\n", "\r\n", "\0", "\x0b", "\x0c", "\x1b[2J", "\x85", "\u2028", "\u2029", "\u202e", "\ud800"]
FORGED = "id: 9\nevent: stream.bye\ndata: forged\n\n2026-01-01T00:00:00Z ERROR yeoul: forged\r\nSet-Cookie: forged=1"
TEXTS = [f"before{mark}{FORGED}" for mark in BREAKS]


async def post(port: int, path: str, body: object, token: str = ADMIN) -> Answer:
    return await ask(port, path, method="POST", headers=bearer(token), json_body=body)


def fields_of(stream: RawStream) -> set[str]:
    """The names that stand at the beginnings of lines, as the standard ends lines."""
    text = stream.raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    return {line.partition(":")[0] for line in text.split("\n") if line}


@pytest.mark.settings(publish_rate="10000/second")
async def test_nothing_that_is_sent_writes_a_field_or_an_event_of_its_own(port: int) -> None:
    path = "/stream?topic=news&topic=notifications&topic=realtime&topic=chat/a"
    async with await open_stream(port, path, headers=bearer(ADMIN)) as stream:
        await stream.take(1)
        taken = 0
        for text in TEXTS:
            for sent_to, body in (
                ("/topics/news", {"data": text}),
                ("/topics/news", {"data": {"x": text}}),
                ("/topics/news", {"data": "x", "type": text}),
                ("/notifications/send", {"title": text[:200], "message": text}),
                ("/notifications/send", {"title": "t", "message": "m", "type": text}),
                ("/realtime/update", {"entityType": text[:60], "entityId": text[:99], "action": "x", "data": text}),
                ("/realtime/update", {"entityType": "a", "entityId": "b", "action": text}),
                ("/chat/send", {"roomId": "a", "message": text}),
                ("/chat/send", {"roomId": text[:60], "message": "x"}),
            ):
                answer = await post(port, sent_to, body)
                assert answer.status in (202, 400, 422), (sent_to, text)
                assert "set-cookie" not in answer.headers
                taken += answer.status == 202
        assert taken > len(TEXTS) * 3
        await post(port, "/topics/news", {"data": "last"})
        await stream.until(lambda events: events[-1].data == "last")
        assert {event.type for event in stream.events} <= {"stream.hello", "message"}
        assert len(stream.events) == taken + 2
        assert fields_of(stream) <= {"", "id", "event", "data", "retry"}
        ids = [event.id for event in stream.events]
        assert len(set(ids)) == len(ids)
        assert Decoder().feed(bytes(stream.raw)) == stream.events, "in one piece, too"


@pytest.mark.parametrize("mark", ["\r", "\n", "\r\n", "\0", "\x85", "\u2028", "\x1b[2J"])
async def test_no_name_in_a_token_does(port: int, mark: str) -> None:
    for claim in ("sub", "name", "email"):
        token = make_jwt(**{"user": "ann", claim: f"ann{mark}event: forged"})
        async with await open_stream(port, "/chat/stream?room=a", headers=bearer(token)) as stream:
            if stream.status == 200:  # marks that no line is ended by
                await stream.take(2)
                assert fields_of(stream) <= {"", "id", "event", "data", "retry"}
                (shown,) = json.loads(stream.events[1].data)["users"]
                assert shown["name"] == f"ann{mark}event: forged"
            else:
                assert stream.status == 401


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\0", b"%0d%0aX-Forged:%20y", b'"\\015\\012X-Forged: y'])
async def test_no_header_or_query_writes_a_header(port: int, end: bytes) -> None:
    who = b"Authorization: Bearer " + ADMIN.encode()
    for name in (
        b"User-Agent",
        b"X-Forwarded-For",
        b"X-Forwarded-Proto",
        b"Origin",
        b"Referer",
        b"Last-Event-ID",
        b"Idempotency-Key",
        b"Cookie",
        b"Accept",
        b"Via",
        b"Access-Control-Request-Headers",
    ):
        head = b"GET /topics/news HTTP/1.1\r\nHost: 127.0.0.1\r\n" + who + b"\r\nConnection: close\r\n"
        told = await exchange(port, head + name + b": yeoul_pass=a" + end + b"X-Forged: 1\r\n\r\n", most=200)
        assert told.startswith(b"HTTP/1.1 "), name
        assert b"\nX-Forged" not in told, name
        assert not told.startswith(b"HTTP/1.1 5"), name
    for query in (b"lastEventId=", b"newest=", b"topic=", b"x="):
        target = (
            b"/stream?topic=news&" + query + end.replace(b"\r", b"%0D").replace(b"\n", b"%0A").replace(b"\0", b"%00")
        )
        head = b"GET " + target.replace(b" ", b"") + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + who
        told = await exchange(port, head + b"\r\nConnection: close\r\n\r\n", most=200)
        assert b"\nX-Forged" not in told, query
        assert not told.startswith(b"HTTP/1.1 5"), query


@pytest.mark.parametrize(
    "planted", ['"x\\073 Domain=example.com"', '"x\\015\\012X-Forged: y"', "x y", '"x\\054y"', "ü"]
)
async def test_a_cookie_that_a_neighbour_has_planted_writes_nothing_into_the_pass(port: int, planted: str) -> None:
    """A name of the same domain can set cookies for this one. An attribute in the answer would hand the pass over."""
    path = f"/topics/chat/a?ticket={await issue_ticket(port, make_jwt('ann'))}"
    cookie = {"Cookie": f"yeoul_pass={planted}"}
    async with await open_stream(port, path, headers=cookie) as stream:
        assert stream.status == 200
        name, *attributes = stream.headers["set-cookie"].split("; ")
        assert name.startswith("yeoul_pass=")
        assert re.fullmatch(r"yeoul_pass=[A-Za-z0-9_-]{43}(\.[A-Za-z0-9_-]+)*", name)
        assert sorted(attribute.partition("=")[0] for attribute in attributes) == [
            "HttpOnly",
            "Max-Age",
            "Path",
            "SameSite",
        ]


async def test_what_is_told_back_is_never_a_page(port: int) -> None:
    script = "%3Cscript%3Ealert(1)%3C/script%3E"
    for path in (
        f"/{script}",
        f"/topics/{script}",
        f"/sse/chat?message=x&lastEventId={script}",
        f"/stream?topic={script}",
        f"/chat/stream?room={script}",
        f"/generations/{script}",
        f"/recipes/{script}",
        f"/admin/connections?after={script}",
        f"/sse/chat?provider={script}",
    ):
        answer = await ask(port, path, headers=bearer(ADMIN))
        assert answer.headers["content-type"].partition(";")[0] in ("application/problem+json", "application/json"), (
            path
        )


@pytest.mark.parametrize("form", ["text", "json"])
async def test_no_word_of_a_client_is_a_line_of_the_log(port: int, form: str) -> None:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    written = io.StringIO()
    configure_logs(form, "debug", written)
    try:
        for mark in ("\x85", "\u2028", "\x1b[2J", "\u202e", "\xa0"):
            name = f"ann{mark}2026-01-01T00:00:00Z ERROR yeoul: forged"
            for token in (make_jwt("ann", name=name, email=name), make_jwt("ann forged=1 reason=x", name=name)):
                forwarded = {"X-Forwarded-For": "192.0.2.1\t2026 forged", "User-Agent": name.encode().decode("latin-1")}
                sent = {**bearer(token), **forwarded}
                async with await open_stream(port, "/topics/chat/일반", headers=sent) as stream:
                    if stream.status == 200:
                        await stream.take(1)
                await ask(port, "/topics/chat/a%0A2026-01-01%20ERROR%20yeoul:%20forged", headers=sent)
                await ask(port, "/admin/connections", headers=bearer(ADMIN))
    finally:
        for handler in list(root.handlers):
            root.removeHandler(handler)
        for handler in handlers:
            root.addHandler(handler)
        root.setLevel(level)
        logging.captureWarnings(False)
    for line in written.getvalue().splitlines():
        if form == "json":
            assert set(json.loads(line)) >= {"time", "level", "event"}
        else:
            assert line[:1] in ("2", " "), line
            assert "ERROR yeoul" not in line[:60], line
        assert ADMIN not in line
