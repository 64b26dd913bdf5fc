"""Every trouble that a model server can make: the right state, a readable error everywhere, and never the key."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from support.polling import generation, metrics
from support.reader import ask, open_stream
from support.upstream import (
    TOKENS,
    Answer,
    Refusal,
    Script,
    Upstream,
    cut_in_chunk,
    echo_key,
    eof,
    error,
    garbage,
    reset,
    stall,
)
from yeoul.llm.dialects import DIALECTS

KEY = "sk-test-SECRETSECRET"
SAID = TOKENS[:3]


async def no_answer(exchange: Any) -> None:
    await exchange.request.closed.wait()


HTML = Refusal(500, b"<html><head><title>Bad day</title></head><body>boom</body></html>", "text/html", Retry_After="60")

# What the server does, the state that it ends in, and what the error says.
TROUBLES: dict[str, tuple[Script, str, str]] = {
    "garbage": (
        Answer(SAID, ending=garbage),
        "failed",
        "cannot be read: a line that is not JSON: <html>overloaded</html>",
    ),
    "error in mid-stream": (
        Answer(SAID, ending=error(f"overloaded, {KEY}")),
        "failed",
        "in mid-stream: overloaded, [redacted]",
    ),
    "reset": (Answer(SAID, ending=reset), "incomplete", "the connection was lost in mid-stream"),
    "cut in a chunk": (Answer(SAID, ending=cut_in_chunk), "incomplete", "the connection was lost in mid-stream"),
    "stall": (Answer(SAID, ending=stall), "failed", "fell silent for 0.1 s in mid-stream"),
    "no first byte": (no_answer, "failed", "did not answer within 0.3 s"),
    "early end": (
        Answer(SAID, ending=eof),
        "incomplete",
        "before it was finished: neither a finish reason nor an end marker came",
    ),
    "wrong key": (echo_key, "failed", "/v1/chat/completions: Incorrect API key provided: [redacted]"),
    "page of HTML": (HTML, "failed", "/v1/chat/completions: Bad day"),
    "not a stream": (
        Refusal(200, b"hi", "text/plain"),
        "failed",
        "not an event stream: it answered 200 with text/plain: hi",
    ),
    "redirect": (Refusal(302, Location="http://x/?ticket=1"), "failed", "redirects are not followed"),
}

short = pytest.mark.settings(upstream_idle_s=0.1, upstream_first_byte_s=0.3, retry_ms=0)


def told(dialect: str, data: list[str]) -> str:
    """The error as a reader in this dialect sees it."""
    value = json.loads(data[-2] if data[-1] == "[DONE]" else data[-1])
    match dialect:
        case "json":
            text = value["error"]
        case "openai":
            text = value["error"]["message"]
        case _ if dialect.startswith("ai-sdk"):
            assert value["type"] == "error"
            text = value["errorText"]
        case _:
            text = value["message"]
    return str(text)


@short
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_trouble_ends_in_its_state_with_a_readable_error_and_no_key(
    port: int, upstream: Upstream, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    script, state, why = TROUBLES[trouble]
    upstream.scripts = [script]
    answer = await ask(port, "/generations", method="POST", json_body={"prompt": "hi"})
    location = answer.headers["location"]
    shown = await generation(port, location, state)
    assert why in shown["error"]
    assert shown["text"] == ("".join(SAID) if isinstance(script, Answer) else "")
    seen = [json.dumps(shown)]
    for dialect in DIALECTS:
        async with await open_stream(port, f"{location}/stream?dialect={dialect}") as stream:
            await stream.rest()
        assert why in told(dialect, stream.data)
        assert '"done"' not in stream.data[-1]
        seen.append(stream.raw.decode())
    counted = await metrics(port)
    assert counted[f'yeoul_generations_ended_total{{provider="up",state="{state}"}}'] == 1
    assert len(upstream.requests) == 1
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"
    seen += [caplog.text, (await ask(port, "/metrics")).text]
    assert all("SECRET" not in text for text in seen)


@short
@pytest.mark.parametrize(
    ("script", "status", "retry_after"),
    [
        (echo_key, 502, None),
        (Refusal(429, b"{}", Retry_After="60"), 429, "60"),
        (Refusal(503, b"{}", Retry_After="60"), 502, "60"),
        (no_answer, 504, None),
        (Answer(SAID, ending=eof), 502, None),
    ],
)
async def test_trouble_at_once_has_the_status_that_says_whether_to_try_again(
    port: int, upstream: Upstream, script: Script, status: int, retry_after: str | None
) -> None:
    upstream.scripts = [script]
    answer = await ask(port, "/sse/chat-normal")
    assert (answer.status, answer.headers.get("retry-after")) == (status, retry_after)
    assert "SECRET" not in answer.text


@pytest.mark.settings(upstream_idle_s=0.1, upstream_first_byte_s=0.3, retry_ms=0, show_upstream_errors=False)
@pytest.mark.parametrize("trouble", TROUBLES)
async def test_readers_are_told_the_class_of_failure_and_the_log_the_rest(
    port: int, upstream: Upstream, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    script, state, why = TROUBLES[trouble]
    upstream.scripts = [script]
    answer = await ask(port, "/generations", method="POST", json_body={"prompt": "hi"})
    shown = await generation(port, answer.headers["location"], state)
    seen = [json.dumps(shown)]
    for dialect in DIALECTS:
        async with await open_stream(port, f"{answer.headers['location']}/stream?dialect={dialect}") as stream:
            await stream.rest()
        seen.append(stream.raw.decode())
    for text in seen:
        assert not any(word in text for word in ("overloaded", "Bad day", "Incorrect", "127.0.0.1", "http://", "hi:"))
    assert shown["kind"] in ("invalid", "failed", "cut", "timeout", "credentials", "unavailable")
    assert f"of up (m) failed: {shown['error']}" in caplog.text
    assert why in caplog.text


@short
async def test_a_lesson_in_trouble_says_failure_and_its_reader_is_told_to_stop(port: int, upstream: Upstream) -> None:
    upstream.scripts = [echo_key]
    async with await open_stream(port, "/sse/chat") as stream:
        events = await stream.rest()
    assert [event.type for event in events] == ["message", "failure"]
    async with await open_stream(port, "/sse/chat", last_event_id=stream.last_event_id) as again:
        assert again.status == 204
    assert len(upstream.requests) == 1


async def test_a_server_that_is_busy_for_a_moment_is_asked_again(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Refusal(429, b'{"error": {"message": "slow down"}}', Retry_After="0"), Answer()]
    async with await open_stream(port, "/sse/chat") as stream:
        await stream.rest()
    assert "".join(stream.data) == "".join(TOKENS) + "[DONE]"
    assert len(upstream.requests) == 2


async def test_a_server_that_is_not_there_is_named(port: int, upstream: Upstream) -> None:
    upstream._server.close()
    answer = await ask(port, "/generations", method="POST", json_body={"prompt": "hi"})
    shown = await generation(port, answer.headers["location"], "failed")
    assert shown["error"] == f"up cannot be reached: at http://127.0.0.1:{upstream.port}: connection refused"
    assert (shown["kind"], shown["retryable"]) == ("unreachable", True)
