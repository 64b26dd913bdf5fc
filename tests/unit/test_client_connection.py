"""One connection to an upstream: what it yields, how it fails, when it is closed."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from support.upstream import (
    Answer,
    Exchange,
    Refusal,
    Script,
    Upstream,
    cut_in_chunk,
    echo_key,
    garbage,
    raw,
    reset,
    stall,
)
from yeoul.client import EventStream, Timeouts, new_session, open_stream
from yeoul.client.refusal import complaint, readable, redact
from yeoul.client.request import Request
from yeoul.errors import UpstreamCut, UpstreamError, UpstreamGarbage, UpstreamRefused, UpstreamTimeout
from yeoul.stream import RetryPolicy

KEY = "sk-secret-0123456789"
ONCE = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(attempts=3, base=0, max_retry_after=5)
BODY = json.dumps({"stream": True}).encode()


@pytest.fixture
async def session() -> AsyncIterator[Any]:
    async with new_session() as session:
        yield session


def opened(session: Any, upstream: Upstream, **options: Any) -> Any:
    options = {"retry": ONCE, "secrets": [KEY], "name": "model", **options}
    headers = {"Authorization": f"Bearer {KEY}"}
    url = f"{upstream.base_url}/chat/completions"
    return open_stream(session, "POST", url, headers=headers, body=BODY, **options)


async def data_of(events: EventStream) -> list[str]:
    return [event.data async for batch in events for event in batch]


async def failure(session: Any, upstream: Upstream, **options: Any) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        async with opened(session, upstream, **options) as events:
            await data_of(events)
    assert KEY not in f"{caught.value!r} {caught.value.__cause__!r}"
    return caught.value


def stream_of(*chunks: bytes, end: bool = True) -> Answer:
    return Answer([], ending=raw(*chunks, end=end))


# --- what it yields


async def test_events_come_decoded_whatever_the_pieces(session: Any) -> None:
    blocks = "id: 7\nevent: tick\ndata: 안녕 🍲\n\ndata: b\r\n\r\nretry: 1500\ndata: c\r\r".encode()
    for size in (1, 2, 3, 5, len(blocks)):
        pieces = [blocks[start : start + size] for start in range(0, len(blocks), size)]
        async with Upstream(stream_of(*pieces)) as upstream, opened(session, upstream) as events:
            got = [event async for batch in events for event in batch][1:]  # after the head of the answer
            assert [(event.type, event.data) for event in got] == [
                ("tick", "안녕 🍲"),
                ("message", "b"),
                ("message", "c"),
            ]
            assert (events.last_event_id, events.retry_ms, events.status) == ("7", 1500, 200)


async def test_a_list_is_never_empty_and_comments_are_not_events(session: Any) -> None:
    async with Upstream(stream_of(b": hello\n\n", b"data: a\n\n")) as upstream, opened(session, upstream) as events:
        batches = [batch async for batch in events]
        assert all(batches)
        assert batches[-1][-1].data == "a"


async def test_the_request_asks_for_an_uncompressed_event_stream_after_the_last_event(session: Any) -> None:
    async with Upstream(Answer()) as upstream:
        async with opened(session, upstream, last_event_id="k3-41") as events:
            assert events.last_event_id == "k3-41"
        seen = await upstream.request()
        assert seen.headers["accept"] == "text/event-stream"
        assert seen.headers["accept-encoding"] == "identity"
        assert seen.headers["last-event-id"] == "k3-41"
        assert seen.body == BODY


async def test_a_connection_is_used_again_after_an_answer_that_was_read_to_its_end(session: Any) -> None:
    async with Upstream(Answer()) as upstream:
        for _ in range(3):
            async with opened(session, upstream) as events:
                await data_of(events)
        assert (len(upstream.requests), upstream.connections) == (3, 1)


async def test_more_connections_than_aiohttps_own_bound_may_be_open(session: Any) -> None:
    async def one(upstream: Upstream) -> None:
        async with opened(session, upstream) as events:
            await anext(events)
            open_ones.append(1)
            if len(open_ones) == 120:
                everyone.set()
            await everyone.wait()

    open_ones: list[int] = []
    everyone = asyncio.Event()
    async with Upstream(Answer(ending=stall)) as upstream:
        await asyncio.gather(*(one(upstream) for _ in range(120)))
        assert upstream.connections == 120


# --- when it is closed


async def test_leaving_the_context_closes_the_connection_at_once(session: Any) -> None:
    async with Upstream(Answer(ending=stall)) as upstream:
        async with opened(session, upstream) as events:
            await anext(events)
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 30)


async def test_cancelling_the_reader_closes_the_connection_while_the_upstream_is_silent(session: Any) -> None:
    async def read() -> None:
        async with opened(session, upstream) as events:
            reading.set()
            await data_of(events)

    async def held(exchange: Exchange) -> None:
        await exchange.request.closed.wait()

    reading = asyncio.Event()
    for script, begun in ((Answer(ending=stall), reading.wait), (held, None)):
        async with Upstream(script) as upstream:
            task = asyncio.create_task(read())
            await (begun or upstream.request)()
            task.cancel()
            await asyncio.wait_for((await upstream.request()).closed.wait(), 30)
            with pytest.raises(asyncio.CancelledError):
                await task


# --- how it fails before the first byte


async def test_a_refused_connection_is_tried_again_and_then_named(session: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        with pytest.raises(UpstreamRefused, match=r"^model cannot be reached$") as caught:
            async with open_stream(session, "POST", url, name="model", retry=AT_ONCE):
                pass
    assert caught.value.detail == f"at {url.removesuffix('/v1')}: connection refused"
    assert (caught.value.status, caught.value.kind, caught.value.retryable) == (None, "unreachable", True)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_status_that_passes_is_tried_again(session: Any, status: int) -> None:
    async with Upstream(Refusal(status), Refusal(status), Answer()) as upstream:
        async with opened(session, upstream, retry=AT_ONCE) as events:
            assert await data_of(events)
        assert len(upstream.requests) == 3


async def test_attempts_are_bounded(session: Any) -> None:
    async with Upstream(Refusal(503)) as upstream:
        error = await failure(session, upstream, retry=AT_ONCE)
        assert isinstance(error, UpstreamRefused)
        assert (error.status, len(upstream.requests)) == (503, 3)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
async def test_a_status_that_does_not_pass_is_not_tried_again(session: Any, status: int) -> None:
    async with Upstream(Refusal(status)) as upstream:
        error = await failure(session, upstream, retry=AT_ONCE)
        assert isinstance(error, UpstreamRefused)
        assert (error.status, len(upstream.requests)) == (status, 1)


async def test_retry_after_replaces_the_computed_delay(session: Any) -> None:
    never = RetryPolicy(attempts=2, base=1e6, cap=1e6)
    scripts = (Refusal(429, Retry_After="0"), Answer())
    async with Upstream(*scripts) as upstream, opened(session, upstream, retry=never) as events:
        assert await data_of(events)


async def test_a_retry_after_beyond_the_policy_is_told_and_not_waited_for(session: Any) -> None:
    async with Upstream(Refusal(429, Retry_After="120")) as upstream:
        error = await failure(session, upstream, retry=AT_ONCE)
        assert isinstance(error, UpstreamRefused)
        assert (error.retry_after, len(upstream.requests)) == (120, 1)


async def test_a_time_out_before_the_first_event_is_named_and_not_tried_again(session: Any) -> None:
    async def held(exchange: Exchange) -> None:
        await exchange.request.closed.wait()

    async def only_a_head(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.request.closed.wait()

    for script, name in ((held, "first-byte"), (only_a_head, "first-event")):
        async with Upstream(script) as upstream:
            times = Timeouts(first_byte=0.05 if script is held else 5, first_event=0.05)
            error = await failure(session, upstream, retry=AT_ONCE, timeouts=times)
            assert isinstance(error, UpstreamTimeout)
            assert f"{name} time-out" in str(error)
            assert len(upstream.requests) == 1
            await asyncio.wait_for(upstream.requests[0].closed.wait(), 30)


async def test_a_connect_time_out_is_named(session: Any) -> None:
    # A listener whose queue is full: the kernel drops the SYN, so no connection comes about.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(3)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            with pytest.raises(UpstreamTimeout, match="connect time-out"):
                async with open_stream(
                    session, "GET", f"http://127.0.0.1:{address[1]}/", timeouts=Timeouts(connect=0.05), retry=ONCE
                ):
                    pass
        finally:
            for filler in fillers:
                filler.close()


async def test_a_connection_closed_before_the_answer_is_a_cut_and_not_tried_again(session: Any) -> None:
    for rst in (True, False):

        async def close(exchange: Exchange, rst: bool = rst) -> None:
            exchange.cut(rst=rst)

        async with Upstream(close) as upstream:
            error = await failure(session, upstream, retry=AT_ONCE)
            assert isinstance(error, UpstreamCut)
            assert len(upstream.requests) == 1


async def test_something_that_is_not_http_is_garbage(session: Any) -> None:
    async def talk(exchange: Exchange) -> None:
        await exchange.write(b"220 mail.example ESMTP\r\n\r\n")

    async with Upstream(talk) as upstream:
        error = await failure(session, upstream)  # checks too that the cause's repr has no key in it
        assert isinstance(error, UpstreamGarbage)
        assert "not HTTP" in str(error)


async def test_a_redirect_is_not_followed_and_its_ticket_not_shown(session: Any) -> None:
    async with Upstream(Refusal(307, Location="https://elsewhere.example/v1?ticket=t0p")) as upstream:
        error = await failure(session, upstream, retry=AT_ONCE)
    assert str(error) == "model answered with a redirect"
    assert "307 Temporary Redirect to https://elsewhere.example/v1: redirects are not followed" in error.detail
    assert "t0p" not in error.full


async def test_204_says_that_there_is_nothing_to_stream(session: Any) -> None:
    async def empty(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with Upstream(empty) as upstream:
        error = await failure(session, upstream)
        assert isinstance(error, UpstreamRefused)
        assert error.status == 204


async def test_a_key_that_the_upstream_echoes_is_not_shown(session: Any) -> None:
    async with Upstream(echo_key) as upstream:
        error = await failure(session, upstream)
    assert str(error) == "model refused this server's credentials (401 Unauthorized)"
    said = "Incorrect API key provided: [redacted]. You can find your API key in your account."
    assert error.detail == f"401 Unauthorized at http://127.0.0.1:{upstream.port}/v1/chat/completions: {said}"


@pytest.mark.parametrize(
    ("refusal", "sentence", "said"),
    [
        (
            Refusal(500, b"<html><head><title>Bad day</title>" + b"<p>x" * 99, "text/html"),
            "failed (500 Internal Server Error)",
            "Bad day",
        ),
        (Refusal(502, b"<h1>502</h1><p>No&nbsp;server", "text/html"), "failed (502 Bad Gateway)", "502 No server"),
        (Refusal(503, b" try \n later ", "text/plain"), "failed (503 Service Unavailable)", "try later"),
        (Refusal(500), "failed (500 Internal Server Error)", ""),
        (Refusal(599, b"{}"), "failed (599)", ""),
        (Refusal(400, b'{"detail": "no"}'), "did not accept the request (400 Bad Request)", "no"),
        (Refusal(403, b"/srv/keys"), "refused this server's credentials (403 Forbidden)", "/srv/keys"),
        (Refusal(404, b"no model x"), "does not have what was asked for (404 Not Found)", "no model x"),
        (
            Refusal(429, b'data: {"error": {"message": "slow down"}}\n\ndata: [DONE]\n\n', "text/event-stream"),
            "is receiving too many requests (429 Too Many Requests)",
            "slow down",
        ),
        (
            Refusal(200, b'{"error": {"message": "no such model"}}'),
            "answered with something that is not an event stream",
            "it answered 200 with application/json: no such model",
        ),
        (
            Refusal(200, b"<title>Sign in</title>", "text/html"),
            "answered with something that is not an event stream",
            "it answered 200 with text/html: Sign in",
        ),
    ],
)
async def test_readers_get_a_sentence_of_ours_and_the_log_what_the_upstream_said(
    session: Any, refusal: Script, sentence: str, said: str
) -> None:
    async with Upstream(refusal) as upstream:
        error = await failure(session, upstream)
        assert str(error) == f"model {sentence}"
        assert error.detail.endswith(said)
        assert error.full == f"{error}: {error.detail}"


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, "rejected", False),
        (401, "credentials", False),
        (403, "credentials", False),
        (404, "not_found", False),
        (408, "unavailable", True),
        (429, "rate_limited", True),
        (500, "unavailable", True),
        (501, "rejected", False),
        (503, "unavailable", True),
        (307, "invalid", False),
    ],
)
async def test_a_refusal_has_a_kind_and_says_whether_trying_again_helps(
    session: Any, status: int, kind: str, retryable: bool
) -> None:
    async with Upstream(Refusal(status)) as upstream:
        error = await failure(session, upstream)
    assert (error.kind, error.retryable) == (kind, retryable)


async def test_a_404_without_a_word_about_the_model_says_to_check_the_url(session: Any) -> None:
    async with Upstream(Refusal(404), Refusal(404, b"model not found")) as upstream:
        assert (
            "most model servers want a path in it, as in http://host:port/v1"
            in (await failure(session, upstream)).detail
        )
        assert "path" not in (await failure(session, upstream)).detail


async def test_200_that_is_no_event_stream_is_garbage(session: Any) -> None:
    async with Upstream(Refusal(200, b"{}")) as upstream:
        assert isinstance(await failure(session, upstream), UpstreamGarbage)


async def test_an_error_body_is_read_up_to_its_bound_and_cut_bodies_are_shown(session: Any) -> None:
    async def endless(exchange: Exchange) -> None:
        await exchange.head(500, "text/plain")
        while not exchange.request.closed.is_set():
            await exchange.chunk(b"no " * 1000)

    async def cut(exchange: Exchange) -> None:
        await exchange.head(500, "text/plain")
        await exchange.chunk(b"out of memory")
        exchange.cut(rst=False)

    async with Upstream(endless, cut) as upstream:
        assert (await failure(session, upstream, max_error_bytes=9)).detail.endswith(": no no no")
        assert (await failure(session, upstream)).detail.endswith(": out of memory")


async def test_an_invalid_url_is_refused(session: Any) -> None:
    with pytest.raises(UpstreamRefused, match="must begin with http"):
        async with open_stream(session, "GET", "ftp://model.example/", retry=ONCE):
            pass


# --- how it fails in mid-stream


@pytest.mark.parametrize("ending", [reset, cut_in_chunk])
async def test_a_lost_connection_is_a_cut_after_everything_that_had_arrived(session: Any, ending: Any) -> None:
    async with Upstream(Answer(["a", "b"], ending=ending)) as upstream:
        async with opened(session, upstream, retry=AT_ONCE) as events:
            # Not read before the connection is lost: what the buffer holds must come all the same.
            await asyncio.wait_for(_lost(events), 30)
            got = await anext(events)
            with pytest.raises(UpstreamCut, match="model broke off"):
                await anext(events)
        assert len(got) == 3
        assert len(upstream.requests) == 1


async def _lost(events: EventStream) -> None:
    while events._content.exception() is None:
        await asyncio.sleep(0)


async def test_silence_in_mid_stream_is_a_time_out(session: Any) -> None:
    async with Upstream(Answer(["a"], ending=stall)) as upstream:
        error = await failure(session, upstream, timeouts=Timeouts(idle=0.05))
        assert isinstance(error, UpstreamTimeout)
        assert str(error) == "model fell silent for 0.05 s in mid-stream (idle time-out)"
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 30)


async def test_comments_count_as_activity(session: Any) -> None:
    async def beat(answer: Answer, exchange: Exchange) -> None:
        for _ in range(8):
            await asyncio.sleep(0.1)  # the pace of the upstream, not a synchronisation
            await exchange.chunk(b": still here\n\n")
        await exchange.end()

    times = Timeouts(idle=0.7)
    async with Upstream(Answer(["a"], ending=beat)) as upstream, opened(session, upstream, timeouts=times) as events:
        assert len(await data_of(events)) == 2


async def test_a_first_byte_time_out_does_not_count_later_waits(session: Any) -> None:
    async def late(answer: Answer, exchange: Exchange) -> None:
        await asyncio.sleep(0.15)  # the pace of the upstream, not a synchronisation
        await exchange.chunk(b"data: late\n\n")
        await exchange.end()

    times = Timeouts(first_byte=0.08, idle=5)
    async with Upstream(Answer([], ending=late)) as upstream, opened(session, upstream, timeouts=times) as events:
        assert (await data_of(events))[-1] == "late"


async def test_an_event_over_the_bound_is_garbage_after_the_events_before_it(session: Any) -> None:
    script = stream_of(b"data: a\n\ndata: " + b"x" * 9000, end=False)
    async with Upstream(script) as upstream:
        async with opened(session, upstream, max_event_bytes=4096) as events:
            got: list[str] = []
            with pytest.raises(UpstreamGarbage, match="over the limit of 4096 bytes"):
                await _collect(events, got)
        assert got[-1] == "a"
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 30)


async def _collect(events: EventStream, got: list[str]) -> None:
    async for batch in events:
        got += [event.data for event in batch]


async def test_draining_ends_in_time_and_without_an_error(session: Any) -> None:
    for ending in (stall, reset, garbage):
        async with Upstream(Answer(ending=ending)) as upstream, opened(session, upstream) as events:
            await asyncio.wait_for(events.drain(0.05), 30)


async def test_a_generator_around_a_stream_closes_it_with_itself(session: Any) -> None:
    async def texts() -> AsyncIterator[str]:
        async with opened(session, upstream) as events:
            async for batch in events:
                for event in batch:
                    yield event.data

    async with Upstream(Answer(ending=stall)) as upstream:
        async with aclosing(texts()) as lines:  # type: ignore[type-var]
            await anext(lines)
        await asyncio.wait_for(upstream.requests[0].closed.wait(), 30)


# --- what servers get wrong


def written(*lines: str, body: bytes = b"", then: Any = None) -> Script:
    """A response of these lines of a head, and these bytes."""

    async def script(exchange: Exchange) -> None:
        await exchange.write("\r\n".join([*lines, "", ""]).encode() + body)
        if then is not None:
            await then(exchange)

    return script


async def fin(exchange: Exchange) -> None:
    exchange.cut(rst=False)


async def rst(exchange: Exchange) -> None:
    exchange.cut(rst=True)


CHUNKED = ("HTTP/1.1 200 OK", "Transfer-Encoding: chunked")
STREAM = (*CHUNKED, "Content-Type: text/event-stream")


@pytest.mark.parametrize(
    "label", [(), ("Content-Type: application/json",), ("Content-Type: text/plain; charset=utf-8",)]
)
@pytest.mark.parametrize(
    "begin", [b"data: a\n\n", b": hi\n\ndata: a\n\n", b"\xef\xbb\xbf\n\nid: 1\ndata: a\n\n", b"event: x\n"]
)
async def test_a_stream_is_recognised_by_its_first_bytes(session: Any, label: Any, begin: bytes) -> None:
    async def slowly(exchange: Exchange) -> None:
        for byte in begin:
            await exchange.chunk(bytes([byte]))
        await exchange.chunk(b"data: b\n\n")
        await exchange.end()

    async with Upstream(written(*CHUNKED, *label, then=slowly)) as upstream, opened(session, upstream) as events:
        assert [event.data async for batch in events for event in batch][-1] == "b"
        assert not events.document


async def test_the_first_bytes_of_a_stream_are_waited_for_with_a_bound(session: Any) -> None:
    async def stuck(exchange: Exchange) -> None:
        await exchange.chunk(b"da")
        await exchange.request.closed.wait()

    async with Upstream(written(*CHUNKED, then=stuck)) as upstream:
        error = await failure(session, upstream, timeouts=Timeouts(first_event=0.1))
        assert isinstance(error, UpstreamTimeout)


@pytest.mark.parametrize("label", ["application/json", "text/event-stream"])
async def test_a_document_is_one_event_where_it_is_wanted(session: Any, label: str) -> None:
    async with Upstream(Refusal(200, b' {"a":\n\n1}', label)) as upstream:
        async with opened(session, upstream, documents=True) as events:
            assert await data_of(events) == [' {"a":\n\n1}']
            assert events.document
        async with opened(session, upstream, documents=True, max_event_bytes=5) as events:
            with pytest.raises(UpstreamGarbage, match="limit of 5 bytes"):
                await data_of(events)


@pytest.mark.parametrize(
    ("end", "data", "last_id"),
    [(b"id: 2\ndata: b\n", "b", "1"), (b"id: 2\ndata: b", "b", "1"), (b"id: 2\n", None, "1"), (b": x", None, "1")],
)
async def test_an_event_without_its_end_is_beside_the_others(
    session: Any, end: bytes, data: str | None, last_id: str
) -> None:
    script = written(*STREAM, then=None)

    async def sent(exchange: Exchange) -> None:
        await script(exchange)
        await exchange.chunk(b"id: 1\ndata: a\n\n")
        await exchange.chunk(end)
        await exchange.end()

    async with Upstream(sent) as upstream, opened(session, upstream) as events:
        assert await data_of(events) == ["a"]
        assert (events.unterminated.data if events.unterminated else None) == data
        assert events.last_event_id == last_id, "it was not dispatched"
        assert events.framed


async def test_an_event_without_its_end_is_nothing_after_a_cut(session: Any) -> None:
    script = written(*STREAM, body=b"10\r\ndata: a\n\ndata: b\r\n", then=fin)
    async with Upstream(script) as upstream, opened(session, upstream) as events:
        with pytest.raises(UpstreamCut):
            await data_of(events)
        assert events.unterminated is None


async def test_a_body_without_a_length_is_not_framed(session: Any) -> None:
    script = written("HTTP/1.0 200 OK", "Content-Type: text/event-stream", body=b"data: a\n\n", then=fin)
    async with Upstream(script) as upstream, opened(session, upstream) as events:
        assert await data_of(events) == ["a"]
        assert not events.framed


async def test_lines_beside_the_format_are_kept_up_to_a_bound(session: Any) -> None:
    lines = b"".join(b"error: %d\n" % number for number in range(20)) + b"x" * 9_000 + b"\n\n"
    async with Upstream(stream_of(lines, b"data: a\n\n")) as upstream, opened(session, upstream) as events:
        assert (await data_of(events))[-1] == "a"
        assert events.ignored == [b"error: %d" % number for number in range(8)]


@pytest.mark.parametrize("rest", [b"zz\r\ndata: b\n\n\r\n", b"-5\r\n", b"ffffffffffffffffff1\r\n"])
@pytest.mark.parametrize("then", [fin, rst, None])
async def test_a_body_that_cannot_be_parsed_is_noticed_at_once(session: Any, rest: bytes, then: Any) -> None:
    begun = asyncio.Event()

    async def break_off(exchange: Exchange) -> None:
        await begun.wait()
        await exchange.write(rest)
        await (then or _held)(exchange)

    script = written(*STREAM, body=b"9\r\ndata: a\n\n\r\n", then=break_off)
    async with Upstream(script) as upstream, opened(session, upstream, timeouts=Timeouts(idle=60)) as events:
        assert [event.data for event in await anext(events)] == ["a"]
        begun.set()
        async with asyncio.timeout(20):
            with pytest.raises(UpstreamCut):
                await anext(events)


async def test_a_body_that_cannot_be_parsed_from_its_first_byte_is_garbage(session: Any) -> None:
    async with Upstream(written(*STREAM, body=b"zz\r\n", then=fin)) as upstream:
        assert isinstance(await failure(session, upstream), UpstreamGarbage | UpstreamCut)


async def _held(exchange: Exchange) -> None:
    await exchange.request.closed.wait()


@pytest.mark.parametrize("rst_or_fin", [fin, rst])
async def test_a_pooled_connection_that_was_closed_is_replaced_once(session: Any, rst_or_fin: Any) -> None:
    scripts = (Answer(), rst_or_fin, Answer())
    async with Upstream(*scripts) as upstream:
        for _ in range(2):
            async with opened(session, upstream) as events:
                assert await data_of(events)
        assert (len(upstream.requests), upstream.connections) == (3, 2)
        assert len({request.body for request in upstream.requests}) == 1


async def test_a_connection_that_was_not_pooled_is_not_replaced(session: Any) -> None:
    async with Upstream(Answer(), fin, fin, Answer()) as upstream:
        async with opened(session, upstream) as events:
            await data_of(events)
        error = await failure(session, upstream)
        assert isinstance(error, UpstreamCut)
        assert len(upstream.requests) == 3, "the second connection was fresh: a model may be running behind it"


async def test_a_get_whose_connection_was_lost_before_the_response_is_not_repeated(session: Any) -> None:
    """aiohttp alone would: the server may have begun work that costs money."""
    async with Upstream(fin, Answer()) as upstream:
        with pytest.raises(UpstreamCut):
            async with open_stream(session, "GET", f"{upstream.base_url}/chat/completions", retry=ONCE):
                pass
        assert len(upstream.requests) == 1


async def test_an_answer_that_has_begun_on_a_pooled_connection_is_not_asked_for_again(session: Any) -> None:
    async with Upstream(Answer(), Answer(["a"], ending=reset)) as upstream:
        async with opened(session, upstream) as events:
            await data_of(events)
        assert isinstance(await failure(session, upstream), UpstreamCut)
        assert len(upstream.requests) == 2


async def test_headers_may_be_long(session: Any) -> None:
    for size, taken in ((30_000, True), (100_000, False)):
        script = written(*STREAM, f"X-Policy: {'x' * size}", body=b"9\r\ndata: a\n\n\r\n0\r\n\r\n")
        async with Upstream(script) as upstream:
            if taken:
                async with opened(session, upstream) as events:
                    assert await data_of(events) == ["a"]
            else:
                error = await failure(session, upstream)
                assert str(error) == "model answered with a header that is too long"


@pytest.mark.parametrize(
    ("encoding", "body"), [("br", b"9\r\ndata: a\n\n\r\n"), ("aes128gcm", b""), ("gzip", b"9\r\ndata: a\n\n\r\n")]
)
async def test_a_compression_that_cannot_be_undone_is_named(session: Any, encoding: str, body: bytes) -> None:
    script = written(*STREAM, f"Content-Encoding: {encoding}", body=body, then=_held)
    async with Upstream(script) as upstream:
        error = await failure(session, upstream)
        assert isinstance(error, UpstreamGarbage)
        assert str(error) == "model compressed its answer in a way that cannot be read"
        assert "turn it off" in error.detail


async def test_https_at_a_port_that_speaks_http_is_told(session: Any) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(UpstreamRefused) as caught:
            async with open_stream(session, "GET", url, name="model", retry=AT_ONCE):
                pass
    assert "TLS with https://127.0.0.1" in caught.value.detail
    assert not caught.value.retryable


# --- time


async def test_a_head_that_comes_in_pieces_has_one_clock(session: Any) -> None:
    async def dripping(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not exchange.request.closed.is_set():
            await exchange.write(b"x")
            await asyncio.sleep(0.02)  # the pace of the upstream

    async with Upstream(dripping) as upstream:
        error = await failure(session, upstream, timeouts=Timeouts(first_byte=0.3))
        assert str(error) == "model did not answer within 0.3 s (first-byte time-out)"


async def test_the_time_to_the_first_event_includes_the_head(session: Any) -> None:
    async def late(exchange: Exchange) -> None:
        await asyncio.sleep(0.3)  # the pace of the upstream
        await exchange.head()
        await exchange.request.closed.wait()

    loop = asyncio.get_running_loop()
    async with Upstream(late) as upstream:
        began = loop.time()
        error = await failure(session, upstream, timeouts=Timeouts(first_byte=30, first_event=0.6, idle=30))
        assert str(error) == "model began no answer within 0.6 s (first-event time-out)"
        assert loop.time() - began < 15


async def test_events_that_a_reader_does_not_wait_for_leave_its_clock_running(session: Any) -> None:
    async def beat(answer: Answer, exchange: Exchange) -> None:
        while not exchange.request.closed.is_set():
            await exchange.chunk(b"data: {}\n\n")
            await asyncio.sleep(0.02)  # the pace of the upstream

    times = Timeouts(idle=0.3)
    async with Upstream(Answer(["a"], ending=beat)) as upstream, opened(session, upstream, timeouts=times) as events:
        with pytest.raises(UpstreamTimeout, match="fell silent for"):
            await _wait_for_more(events)


async def _wait_for_more(events: EventStream) -> None:
    async for batch in events:
        if batch[-1].data == "{}":
            events.keep_waiting()


# --- words and secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key sk-proj-abcd_1234 is bad", "key [redacted] is bad"),
        ("masked sk-abc***xyz.", "masked [redacted]"),
        ("hf_abcdefgh and Bearer eyJ0.x-y", "[redacted] and [redacted]"),
        ('"Authorization: bearer abc"', '"Authorization: [redacted]"'),
        (f"{KEY}{KEY}", "[redacted][redacted]"),
        ("the risk-averse skip a task_list", "the risk-averse skip a task_list"),
    ],
)
def test_keys_are_redacted(text: str, shown: str) -> None:
    assert redact(text, [KEY, "x"]) == shown


def test_readable_text_is_one_short_printable_line() -> None:
    assert readable("a\r\n\x1b[31mb\0 \u2028 c") == "a [31mb c"
    assert readable("가" * 400) == "가" * 299 + "…"


def test_a_secret_at_the_cut_is_not_shown_in_half() -> None:
    assert "secret" not in readable("x" * 290 + " " + KEY, [KEY])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "a", "type": "t"}}, "a"),
        ({"error": "a"}, "a"),
        ({"error": ["a", "b"]}, "a; b"),
        ([{"error": {"message": "a"}}], "a"),
        ({"detail": [{"loc": ["body"], "msg": "a"}]}, "a"),
        ({"statusCode": 401, "error": "Unauthorized", "message": "a"}, "a"),
        ({"title": "T", "detail": "a"}, "a"),
        ({"error": None, "code": 7}, ""),
        ({"error": {"error": {"error": {"error": {"error": "deep"}}}}}, ""),
    ],
)
def test_the_message_is_found_in_every_usual_shape(body: Any, message: str) -> None:
    assert complaint(json.dumps(body).encode(), "application/json") == message


def test_no_body_breaks_the_reading_of_it() -> None:
    draw = random.Random(7)
    for body in (b"[" * 100_000, b"<" * 60_000, b"<title" * 9000, *(draw.randbytes(200) for _ in range(50))):
        assert len(complaint(body, "text/html", "no-such-charset")) <= 300
    assert complaint("한글".encode("euc-kr"), "text/plain", "euc-kr") == "한글"
    assert complaint(b"a", "text/plain", "hex") == "a"


def test_a_request_does_not_show_its_headers() -> None:
    request = Request(
        session=None,  # type: ignore[arg-type]
        method="POST",
        url=None,  # type: ignore[arg-type]
        name="model",
        headers={"Authorization": KEY},
        body=KEY.encode(),
        timeouts=Timeouts(),
        max_error_bytes=1,
        secrets=[KEY],
    )
    assert KEY not in repr(request)


@pytest.mark.parametrize("field", ["connect", "first_byte", "idle"])
@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_time_outs_are_positive(field: str, seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds > 0"):
        Timeouts(**{field: seconds})
