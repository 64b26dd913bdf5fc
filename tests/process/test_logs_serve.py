"""What `yeoul serve` writes on stderr."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from support.reader import ask, open_stream, publish
from support.serving import yeoul_serve
from support.tokens import bearer, demo_token

pytestmark = pytest.mark.timeout(240)


TOKEN = demo_token("evil user=admin", "김 ERROR yeoul forged")


async def visit(port: int) -> None:
    """Streams that end, by somebody whose every word tries to be a line of the log, or to bring a secret into it."""
    forged = {"User-Agent": "x\x85\t2026-01-01 ERROR yeoul: forged", "X-Request-Id": "1\x85\tforged"}
    for path, headers in (("/topics/chat/일반", bearer(TOKEN)), (f"/topics/chat/일반?token={TOKEN}", forged)):
        stream = await open_stream(port, path, headers=headers)
        assert stream.status == 200
        await stream.take(1)
        await stream.close()
    assert (await ask(port, "/topics/a?ticket=s3cr3t-ticket")).status == 401
    assert (await ask(port, "/topics/a%1B%0D%0Aforged")).status in (404, 422)


async def test_json_logs_are_one_object_per_line_from_the_first_to_the_last() -> None:
    with yeoul_serve(env={"YEOUL_LOG_FORMAT": "json"}) as served:
        await visit(served.port)
        await publish(served.port, "a", "x")
        served.signal()
        code, err = await asyncio.to_thread(served.wait)
    assert code == 0, err
    lines = [*"".join(served.first_lines).splitlines(), *err.splitlines()]
    records: list[dict[str, Any]] = [json.loads(line) for line in lines]
    for record in records:
        assert record.keys() >= {"time", "level", "logger", "event"}
    assert records[0]["event"].startswith("yeoul ready on http://127.0.0.1:")
    ended = [record for record in records if record["event"] == "stream ended"]
    assert len(ended) == 2
    for record in ended:
        assert record.keys() >= {"connection", "user", "address", "topics", "reason", "seconds", "events", "bytes"}
        assert record["user"] == "evil user=admin"
        assert record["topics"] == ["chat/일반"]
    whole = "".join(lines)
    for secret in (TOKEN, "s3cr3t-ticket"):
        assert secret not in whole


async def test_text_logs_have_a_record_at_the_margin_of_each_line() -> None:
    with yeoul_serve() as served:
        await visit(served.port)
        served.signal()
        code, err = await asyncio.to_thread(served.wait)
    assert code == 0, err
    # Behind the hints for whoever has started it.
    records = [line for line in err.splitlines() if line and not line.startswith(" ")]
    ended = [line for line in records if " INFO yeoul: stream ended connection=" in line]
    assert len(ended) == 2
    assert all(' user="evil user=admin" ' in line for line in ended)
    for line in records:
        assert line[:2] == "20", line
        assert line.split(" ", 2)[1] in ("INFO", "WARNING", "ERROR"), line


async def test_trouble_alone_is_written_where_that_is_asked_for() -> None:
    with yeoul_serve(env={"YEOUL_LOG_LEVEL": "warning"}) as served:
        await visit(served.port)
        served.signal()
        _, err = await asyncio.to_thread(served.wait)
    assert "stream ended" not in err
