"""Topics over HTTP, over both outlets."""

from __future__ import annotations

from support.reader import ask, open_stream, publish


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
