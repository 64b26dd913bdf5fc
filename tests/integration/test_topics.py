"""Topics over HTTP, over both outlets."""

from __future__ import annotations

import asyncio
import json

import pytest

from support.polling import metrics
from support.reader import ask, open_stream, publish, read_head
from support.serving import one_outlet


async def test_a_reader_gets_what_is_published(port: int) -> None:
    async with await open_stream(port, "/topics/chat/general") as stream:
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["cache-control"] == "no-store, no-transform"
        assert stream.headers["x-accel-buffering"] == "no"
        hello = (await stream.take(1))[0]
        assert hello.type == "stream.hello"
        id = await publish(port, "chat/general", "안녕\n여울 🌊")
        event = (await stream.take(2))[1]
        assert (event.data, event.type, event.id) == ("안녕\n여울 🌊", "message", id)


async def test_a_reader_that_comes_back_gets_exactly_what_it_missed(port: int) -> None:
    first = await publish(port, "a", "1")
    await publish(port, "a", "2")
    await publish(port, "b", "not for a")
    await publish(port, "a", "3")
    async with await open_stream(port, "/topics/a", last_event_id=first) as stream:
        events = await stream.take(3)
        assert [event.data for event in events[1:]] == ["2", "3"]


async def test_a_stream_of_several_topics_resumes_with_one_position(port: int) -> None:
    async with await open_stream(port, "/stream?topic=a&topic=b") as stream:
        await stream.take(1)
        for name, data in [("a", "1"), ("b", "2"), ("a", "3")]:
            await publish(port, name, data)
        events = (await stream.take(4))[1:]
        assert [event.data for event in events] == ["1", "2", "3"]
    async with await open_stream(port, "/stream?topic=a&topic=b", last_event_id=events[0].id or "") as stream:
        assert [event.data for event in (await stream.take(3))[1:]] == ["2", "3"]


async def test_head_answers_headers_only(port: int) -> None:
    answer = await ask(port, "/topics/a", method="HEAD")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.body == b""


# --- publishing


@pytest.mark.parametrize(
    ("content_type", "body", "events"),
    [
        ("text/plain", "안녕 🌊\n둘째 줄".encode(), [("message", "안녕 🌊\n둘째 줄")]),
        ("text/plain; charset=utf-8", b"", [("message", "")]),
        ("TEXT/PLAIN", b"loud", [("message", "loud")]),
        ("application/json", b'{"data": "text"}', [("message", "text")]),
        ("application/json", b'{"data": "", "type": ""}', [("message", "")]),
        ("application/json", b'{"data": {"a": [1, null]}, "type": "news"}', [("news", '{"a": [1, null]}')]),
        ("application/json", '{"data": {"말": "\\u2028"}}'.encode(), [("message", '{"말": "\\u2028"}')]),
        ("application/json", b'{"data": null}', [("message", "null")]),
        ("application/json", b'{"data": 12345678901234567890}', [("message", "12345678901234567890")]),
        ("application/json", b'\xef\xbb\xbf{"data": "a"}', [("message", "a")]),
        ("application/x-ndjson", b'\xef\xbb\xbf{"data": "a"}\n{"data": "b"}', [("message", "a"), ("message", "b")]),
        ("application/x-ndjson", b'{"data": "a"}\n\n{"data": 2, "type": "b"}', [("message", "a"), ("b", "2")]),
        ("application/x-ndjson", b'{"data": "a"}\r\n{"data": "b"}\r\n', [("message", "a"), ("message", "b")]),
    ],
)
async def test_each_form_of_body_is_the_events_it_says(
    port: int, content_type: str, body: bytes, events: list[tuple[str, str]]
) -> None:
    async with await open_stream(port, "/topics/t") as stream:
        await stream.take(1)
        answer = await ask(port, "/topics/t", method="POST", headers={"Content-Type": content_type}, body=body)
        assert answer.status == 202, answer
        assert answer.json()["count"] == len(events)
        got = (await stream.take(1 + len(events)))[1:]
        assert [(event.type, event.data) for event in got] == events
        assert got[-1].id == answer.json()["id"]


@one_outlet
@pytest.mark.parametrize(
    ("content_type", "body", "status", "hint", "field"),
    [
        ("application/x-www-form-urlencoded", b"hello", 415, "send text/plain", None),
        ("", b"hello", 415, "content type 'missing': send text/plain", None),
        ("application/octet-stream", b"\x00", 415, "application/x-ndjson", None),
        ("text/plain", b"ab\xff", 400, "not UTF-8 (byte 2)", None),
        ("application/json", b"{data: 1}", 400, "the body is not JSON", None),
        ("application/json", b"", 400, "the body is not JSON", None),
        ("application/json", b'{"data": "\xff"}', 400, "the body is not JSON", None),
        ("application/json", b'{"data": "\\ud800"}', 400, "the body is not JSON", None),
        ("application/json", b'{"data": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400, "nested", None),
        ("application/json", b'{"data": 1e999}', 422, "out of range", "the body"),
        ("application/json", b'["data"]', 422, "an event is", "the body"),
        ("application/json", b'{"type": "x"}', 422, "`data`", "the body"),
        ("application/json", b'{"data": 1, "event": "x"}', 422, "`event`", "the body"),
        ("application/json", b'{"data": 1, "type": 5}', 422, "`$.type`", "the body"),
        ("application/json", b'{"data": 1, "type": "a\\nb"}', 422, "type must not contain CR, LF or NUL", "type"),
        ("application/json", b'{"data": 1, "type": "stream.bye"}', 422, "belong to the server", "type"),
        ("application/json", b'{"data": 1, "type": "error"}', 422, "a change of the connection", "type"),
        ("application/json", b'{"data": 1, "type": "open"}', 422, "a change of the connection", "type"),
        ("application/x-ndjson", b"\n \n", 422, "no event", None),
        ("application/x-ndjson", b'{"data": 1}\n{"data": }\n{"data": 3}', 400, "line 2 is not JSON", None),
        ("application/x-ndjson", b'{"data": 1}\n\n{"dat": 2}', 422, "line 3:", "line 3"),
        ("application/x-ndjson", b'{"data": 1}\n{"data": 2, "type": "error"}', 422, "line 2:", "type"),
        ("application/x-ndjson", b'{"data": 1}\n{"data": 2, "type": "stream.x"}', 422, "line 2:", "type"),
    ],
)
async def test_a_body_that_is_none_of_these_is_refused_whole_with_what_to_send(
    port: int, content_type: str, body: bytes, status: int, hint: str, field: str | None
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    async with await open_stream(port, "/topics/t") as stream:
        await stream.take(1)
        answer = await ask(port, "/topics/t", method="POST", headers=headers, body=body)
        assert answer.status == status, answer
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert set(problem) >= {"title", "status", "detail"}
        assert hint in problem["detail"]
        assert [error["field"] for error in problem.get("errors", [])] == ([field] if field else [])
        await publish(port, "t", "the only one")
        assert (await stream.take(2))[1].data == "the only one"


@one_outlet
@pytest.mark.settings(max_event_bytes=1_024, max_body_bytes=4_096)
@pytest.mark.parametrize("data", ["x" * 1_025, "가" * 342])
async def test_an_event_over_its_bound_is_refused_and_one_at_it_is_not(port: int, data: str) -> None:
    answer = await ask(port, "/topics/t", method="POST", json_body={"data": data})
    assert answer.status == 413
    assert "1024 bytes" in answer.json()["detail"]
    await publish(port, "t", data[:-1])


@pytest.mark.settings(max_body_bytes=2_000)
@pytest.mark.parametrize("path", ["/topics/t", "/generations"])
@pytest.mark.parametrize("way", ["announced", "chunked"])
async def test_a_body_over_its_bound_is_refused_however_it_comes(port: int, path: str, way: str) -> None:
    body = json.dumps({"data": "x" * 2_000}).encode()
    if way == "announced":
        headers, sent = {"Content-Type": "application/json"}, body
        stream = await open_stream(port, path, method="POST", headers=headers, body=sent)
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(head.encode())
        for start in range(0, len(body), 500):
            piece = body[start : start + 500]
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")
        stream = await read_head(reader, writer)
    async with stream:
        await stream.rest()
    assert stream.status == 413, bytes(stream.raw)
    assert stream.headers["content-type"] == "application/problem+json"
    assert "larger than 2000 bytes" in json.loads(stream.raw)["detail"]


# --- names


@one_outlet
@pytest.mark.parametrize(
    "name",
    ["", "a//b", "/a", "a/", "a/../b", ".", "a%09b", "a%00", "a%20b", "a*", "%E2%80%8B", "x" * 201, "%3Cb%3E", "%5C"],
)
async def test_a_name_that_breaks_the_rules_is_refused_for_publishing_and_following(port: int, name: str) -> None:
    answers = [await ask(port, f"/topics/{name}", method="POST", json_body={"data": 1})]
    answers.append(await ask(port, f"/topics/{name}"))
    answers.append(await ask(port, f"/stream?topic=fine&topic={name}"))
    for answer in answers:
        assert answer.status == 422, answer
        assert answer.headers["content-type"] == "application/problem+json"
        assert [error["field"] for error in answer.json()["errors"]] == ["topic"]


@one_outlet
async def test_a_line_break_is_in_no_name(port: int) -> None:
    for path in ("/topics/a%0Ab", "/topics/a%0A", "/stream?topic=a%0Ab"):
        answer = await ask(port, path)
        assert answer.status == 422
        assert "U+000A" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["공지/서울", "notifications/u42", "a.b:c-d_e~f", "x" * 200, "status/42%2F7"])
async def test_names_of_any_script_may_have_parts(port: int, name: str) -> None:
    async with await open_stream(port, f"/topics/{name}") as stream:
        await stream.take(1)
        answer = await ask(port, f"/topics/{name}", method="POST", json_body={"data": "hi"})
        assert answer.status == 202
        assert (await stream.take(2))[1].data == "hi"


@one_outlet
@pytest.mark.parametrize("name", ["generations/x", "generations", "%67enerations/x"])
async def test_the_topics_of_answers_are_no_second_door(port: int, name: str) -> None:
    for method, path in [("POST", f"/topics/{name}"), ("GET", f"/topics/{name}"), ("GET", f"/stream?topic={name}")]:
        answer = await ask(port, path, method=method, json_body={"data": 1} if method == "POST" else None)
        assert answer.status == 422
        assert "/generations/{id}/stream" in answer.json()["detail"]


@one_outlet
@pytest.mark.settings(max_topics_per_stream=2)
@pytest.mark.parametrize(("query", "hint"), [("", "topic"), ("?topic=a&topic=b&topic=c", "1 to 2 topics")])
async def test_a_stream_of_no_topic_or_too_many_is_refused(port: int, query: str, hint: str) -> None:
    answer = await ask(port, f"/stream{query}")
    assert answer.status == 422
    assert hint in answer.json()["detail"]
    assert [error["field"] for error in answer.json()["errors"]] == ["topic"]


async def test_a_topic_named_twice_is_followed_once(port: int) -> None:
    async with await open_stream(port, "/stream?topic=a&topic=a") as stream:
        await stream.take(1)
        await publish(port, "a", "1")
        await publish(port, "a", "2")
        assert [event.data for event in (await stream.take(3))[1:]] == ["1", "2"]


@one_outlet
@pytest.mark.settings(memory_max_topics=1)
async def test_more_topics_than_the_broker_holds_are_refused_while_all_are_followed(port: int) -> None:
    stream = await open_stream(port, "/topics/a")
    for method in ("POST", "GET"):
        answer = await ask(port, "/topics/b", method=method, json_body={"data": 1} if method == "POST" else None)
        assert answer.status == 503
        assert answer.headers["retry-after"] == "60"
    await stream.close()


# --- what is kept


@pytest.mark.parametrize(("newest", "data"), [(0, []), (1, ["3"]), (2, ["2", "3"]), (9, ["1", "2", "3"])])
async def test_a_new_reader_begins_with_as_many_kept_events_as_it_asks_for(
    port: int, newest: int, data: list[str]
) -> None:
    for number in (1, 2, 3):
        await publish(port, "t", str(number))
    async with await open_stream(port, f"/topics/t?newest={newest}") as stream:
        await stream.take(1)
        await publish(port, "t", "next")
        events = await stream.until(lambda events: events[-1].data == "next")
        assert [event.data for event in events[1:]] == [*data, "next"]


@one_outlet
@pytest.mark.parametrize("newest", ["-1", "1001", "all"])
async def test_a_number_of_events_out_of_bounds_is_refused(port: int, newest: str) -> None:
    answer = await ask(port, f"/topics/t?newest={newest}")
    assert answer.status == 422
    assert answer.json()["errors"][0]["field"] == "newest"


@pytest.mark.settings(retention=[{"pattern": "brief/*", "events": 2}], retention_events=100)
async def test_what_was_let_go_is_told_as_a_gap_then_what_is_kept(port: int) -> None:
    ids = [await publish(port, "brief/t", str(number)) for number in range(1, 6)]
    async with await open_stream(port, "/topics/brief/t", last_event_id=ids[0]) as stream:
        hello, gap, *kept = await stream.take(4)
    assert json.loads(hello.data)["replay"]["events"] == 2
    assert gap.type == "stream.gap"
    assert json.loads(gap.data) == {"requested": ids[0], "oldest": ids[3], "reason": "evicted"}
    assert [event.data for event in kept] == ["4", "5"]
    async with await open_stream(port, "/topics/brief/t", last_event_id=gap.id or "") as again:
        assert [event.data for event in (await again.take(3))[1:]] == ["4", "5"]
    ids = [await publish(port, "long/t", str(number)) for number in range(1, 6)]
    async with await open_stream(port, "/topics/long/t", last_event_id=ids[0]) as stream:
        assert [event.data for event in (await stream.take(5))[1:]] == ["2", "3", "4", "5"]


@pytest.mark.parametrize("reason", ["epoch", "unknown"])
async def test_a_position_of_elsewhere_or_of_the_future_is_told_as_a_gap(port: int, reason: str) -> None:
    first = await publish(port, "t", "1")
    epoch, _, offset = first.partition("-")
    position = f"0000000000-{offset}" if reason == "epoch" else f"{epoch}-{int(offset) + 1_000}"
    async with await open_stream(port, "/topics/t", last_event_id=position) as stream:
        _, gap, event = await stream.take(3)
    assert json.loads(gap.data) == {"requested": position, "oldest": first, "reason": reason}
    assert (event.data, event.id) == ("1", first)
    assert (await metrics(port))["yeoul_gaps_total"] == 1


async def test_a_position_of_elsewhere_in_a_topic_without_events_has_no_oldest(port: int) -> None:
    async with await open_stream(port, "/topics/t", last_event_id="0000000000-7") as stream:
        gap = (await stream.take(2))[1]
        assert json.loads(gap.data) == {"requested": "0000000000-7", "oldest": None, "reason": "epoch"}
        await publish(port, "t", "1")
        assert (await stream.take(3))[2].data == "1"


@one_outlet
@pytest.mark.parametrize("position", ["5", "rubbish", "a b-1", "abc-1e3", "é-1"])
async def test_an_id_of_another_server_is_a_gap_and_all_that_is_kept_follows(port: int, position: str) -> None:
    """A client that was moved here still has it: refused, `EventSource` would never connect again."""
    first = await publish(port, "t", "1")
    for path in ("/topics/t", "/stream?topic=t"):
        async with await open_stream(port, path, last_event_id=position.encode().decode("latin-1")) as stream:
            _, gap, event = await stream.take(3)
        shown = position.encode().decode("latin-1")
        assert json.loads(gap.data) == {"requested": shown, "oldest": first, "reason": "unknown"}
        assert (event.data, event.id) == ("1", first)
        async with await open_stream(port, path, last_event_id=gap.id or "") as again:
            assert [event.data for event in (await again.take(2))[1:]] == ["1"], "the gap itself is a position"


async def test_the_header_wins_over_the_query(port: int) -> None:
    ids = [await publish(port, "t", str(number)) for number in (1, 2, 3)]
    async with await open_stream(port, f"/topics/t?lastEventId={ids[0]}", last_event_id=ids[1]) as stream:
        assert [event.data for event in (await stream.take(2))[1:]] == ["3"]
    async with await open_stream(port, f"/topics/t?lastEventId={ids[0]}") as stream:
        assert [event.data for event in (await stream.take(3))[1:]] == ["2", "3"]


async def test_hello_says_what_a_client_needs_to_know(port: int) -> None:
    id = await publish(port, "t", "1")
    async with await open_stream(port, "/topics/t") as stream:
        hello = (await stream.take(1))[0]
    assert json.loads(hello.data) == {"heartbeat": 15.0, "replay": {"events": 1000, "seconds": 600.0}, "cursor": id}
    assert hello.id == id
    assert stream.decoder.retry_ms == 2_000


@pytest.mark.settings(heartbeat_s=0.05)
async def test_a_silent_stream_has_a_comment_now_and_then(port: int) -> None:
    async with await open_stream(port, "/topics/t") as stream:
        await stream.take(1)
        while b": keep-alive\n: keep-alive\n" not in stream.raw:
            await stream.read()
        assert len(stream.events) == 1
        await publish(port, "t", "1")
        assert (await stream.take(2))[1].data == "1"


@pytest.mark.parametrize(("lines", "status"), [(10_000, 202), (10_001, 422)])
async def test_one_request_brings_so_many_events(port: int, lines: int, status: int) -> None:
    body = b"\n".join([b'{"data":1}'] * lines)
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await ask(port, "/topics/t", method="POST", headers=headers, body=body)
    assert answer.status == status
    if status == 422:
        assert "at most 10000" in answer.json()["detail"]
