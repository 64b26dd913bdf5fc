"""The reconnecting client: the cases that it shares with the one in TypeScript, and what is Python's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from support.proxy import Fate, proxying
from support.scripted import ScriptedServer, Seen, scripted
from support.serving import serving
from support.settings import make_settings
from support.upstream import Answer, Upstream
from yeoul.app import create_app
from yeoul.client import Closed, State, Stream, connect, connect_blocking
from yeoul.errors import EventTooLarge, UpstreamCut, UpstreamError, UpstreamGarbage, UpstreamRefused, UpstreamTimeout

CASES = Path(__file__).parents[2] / "clients" / "cases"
ALL = [(path.stem, case) for path in sorted(CASES.glob("*.json")) for case in json.loads(path.read_text())]

# Seconds by which a busy machine may do something later than it should.
LATE = 5.0
MS = 0.001

# Options of the cases in Python: the name, and the unit.
OPTIONS: dict[str, tuple[str, float | None]] = {
    "method": ("method", None),
    "body": ("body", None),
    "token": ("token", None),
    "headers": ("headers", None),
    "lastEventId": ("last_event_id", None),
    "reconnect": ("reconnect", None),
    "reconnectInterval": ("reconnect_interval", MS),
    "maxReconnectInterval": ("max_reconnect_interval", MS),
    "maxFailures": ("max_failures", None),
    "connectTimeout": ("connect_timeout", MS),
    "heartbeat": ("heartbeat", MS),
}


# Here other statuses than 200 stream, too, where the content does: some model servers answer so.
DIFFERENT = {"299 closes the stream": "content-type"}


def options_of(case: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {"reconnect_interval": 0.1}
    for name, value in case.get("options", {}).items():
        if name == "maxEventSize":
            options["max_event_bytes"] = value + len("data: ")  # it bounds the line, too
        elif name != "end":
            known, unit = OPTIONS[name]
            options[known] = value if unit is None else value * unit
    end = case.get("options", {}).get("end")
    if end is not None:
        options["is_end"] = lambda event: event.data == end
    return options


def code_of(error: UpstreamError) -> str:
    """The name that the cases have for it."""
    match error:
        case UpstreamRefused(status=None):
            return "network"
        case UpstreamRefused():
            return "http"
        case UpstreamTimeout():
            return "timeout"
        case UpstreamGarbage(__cause__=EventTooLarge()):
            return "too-large"
        case UpstreamGarbage():
            return "content-type"
        case UpstreamCut() if "last event" in str(error):
            return "truncated"
        case UpstreamCut():
            return "network"
    return "request"


class Watcher:
    """What the caller of a case sees."""

    def __init__(self, case: dict[str, Any], server: ScriptedServer) -> None:
        self.case = case
        self.server = server
        self.stream: Stream | None = None
        self.events: list[list[str]] = []
        self.gaps: list[Any] = []
        self.byes: list[Any] = []
        self.reauths: list[Any] = []
        self.states: list[str] = []
        self.errors: list[str] = []
        self.refreshes: list[bool] = []

    def provider(self, values: list[str]) -> Callable[[bool], str]:
        left = list(values)

        def provide(refresh: bool) -> str:
            self.refreshes.append(refresh)
            return left.pop(0) if left else "none"

        return provide

    def check(self) -> None:
        close = self.case.get("close")
        if self.stream is None or close is None:
            return
        events, requests = len(self.case["expect"].get("events", ())), len(self.case["exchanges"])
        if close != "all":
            events, requests = close.get("events", 0), close.get("requests", 0)
        if len(self.events) >= events and len(self.server.requests) >= requests:
            self.stream.close()

    def on_error(self, error: UpstreamError, retry_in: float | None) -> None:
        code = code_of(error)
        self.errors.append(str(getattr(error, "status", None)) if code == "http" else code)

    async def read(self) -> UpstreamError | None:
        case = self.case
        options = options_of(case)
        if "tokens" in case:
            options["token"] = self.provider(case["tokens"])
        if "tickets" in case:
            options["ticket"] = self.provider(case["tickets"])
        url = f"http://127.0.0.1:{self.server.port}{case.get('path', '/stream')}"
        self.stream = connect(
            url,
            **options,
            on_state=lambda state: self.states.append(state.value),
            on_gap=self.gaps.append,
            on_bye=self.byes.append,
            on_reauth=self.reauths.append,
            on_error=self.on_error,
        )
        self.server.on_request = self.check
        async with self.stream as stream:
            try:
                async for event in stream:
                    self.events.append([event.type, event.data, event.id or ""])
                    self.check()
            except UpstreamError as error:
                return error
        return None


@pytest.mark.parametrize("case", [case for _, case in ALL], ids=[f"{file}: {case['name']}" for file, case in ALL])
async def test_a_client_does_what_the_case_says(case: dict[str, Any]) -> None:
    wanted = case["expect"]
    async with scripted(case["exchanges"]) as server, asyncio.timeout(60):
        watcher = Watcher(case, server)
        error = await watcher.read()
    stream = watcher.stream
    assert stream is not None
    assert stream.closed is not None
    expected = [
        [*event, *watcher.events[place][2:3]][:3] if len(event) < 3 else event
        for place, event in enumerate(wanted.get("events", ()))
        if place < len(watcher.events)
    ]
    assert watcher.events == expected
    assert len(expected) == len(wanted.get("events", ()))
    assert stream.closed.reason == wanted.get("closed", "client")
    if case["name"] in DIFFERENT:
        assert error is not None
        assert code_of(error) == DIFFERENT[case["name"]]
        return
    assert (None if error is None else code_of(error)) == wanted.get("error")
    assert getattr(error, "status", None) == wanted.get("status")
    if "retryAfter" in wanted:
        assert error is not None
        assert error.retry_after == wanted["retryAfter"] * MS
    assert watcher.gaps == wanted.get("gaps", [])
    assert watcher.byes == wanted.get("byes", [])
    assert watcher.reauths == wanted.get("reauths", [])
    for name in ("errors", "states", "refreshes"):
        if name in wanted:
            assert getattr(watcher, name) == wanted[name], name
    if "lastEventId" in wanted:
        assert stream.last_event_id == wanted["lastEventId"]
    requests = server.requests
    assert len(requests) == len(case["exchanges"])
    for exchange, request in zip(case["exchanges"], requests, strict=True):
        check_request(exchange.get("expect", {}), request)
    for place, (least, *most) in enumerate(wanted.get("waits", ())):
        waited = requests[place + 1].at - requests[place].at
        assert least * MS - 0.002 <= waited < (most[0] * MS if most else least * MS + LATE)


def check_request(wanted: dict[str, Any], request: Seen) -> None:
    for name in ("method", "path", "body"):
        assert getattr(request, name) == wanted.get(name, getattr(request, name))
    for name, value in wanted.get("headers", {}).items():
        assert request.headers.get(name) == value


EVENTS = {"chunks": ["data: a\nid: 1\n\n", "data: b\nid: 2\n\n"], "then": "hold"}


async def test_a_caller_that_is_slow_slows_the_server_and_loses_nothing() -> None:
    many = {"chunks": [{"repeat": ["data: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n\n", 20_000]}] * 20, "then": "hold"}
    async with scripted([many]) as server, connect(f"http://127.0.0.1:{server.port}/") as stream:
        first = await anext(stream)
        assert len(stream._queue) <= 256
        count = 1
        async for event in stream:
            assert event.data == first.data
            count += 1
            if count == 400_000:
                break
        assert not stream._queue


async def test_an_exception_of_a_callback_is_raised_by_the_iteration() -> None:
    def fail(state: State) -> None:
        if state is State.OPEN:
            raise LookupError("of the caller")

    async with scripted([EVENTS]) as server, connect(f"http://127.0.0.1:{server.port}/", on_state=fail) as stream:
        with pytest.raises(LookupError, match="of the caller"):
            await anext(stream)


async def test_new_credentials_that_are_not_available_are_waited_for() -> None:
    """After a 401 they are asked for at once; where that fails, the next attempt follows after a wait."""
    answers: list[str | Exception] = ["old", LookupError("no network"), LookupError("no network"), "new"]
    waits: list[tuple[str, float | None]] = []

    def token(refresh: bool) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    exchanges = [{"status": 401, "headers": {"Content-Type": "text/plain"}}, EVENTS]
    async with scripted(exchanges) as server, asyncio.timeout(30):
        url = f"http://127.0.0.1:{server.port}/"
        options: dict[str, Any] = {"token": token, "reconnect_interval": 0.1}
        async with connect(url, **options, on_error=lambda error, wait: waits.append((code_of(error), wait))) as stream:
            assert (await anext(stream)).data == "a"
    assert [code for code, _ in waits] == ["request", "request"]
    assert all(wait is not None and wait >= 0.1 for _, wait in waits)
    assert server.requests[1].headers["authorization"] == "Bearer new"


async def test_two_tasks_may_wait_and_close_wakes_them() -> None:
    async with scripted([{"then": "hold"}]) as server, connect(f"http://127.0.0.1:{server.port}/") as stream:
        waiting = [asyncio.ensure_future(anext(stream, None)) for _ in range(2)]
        while not server.requests:
            await asyncio.sleep(0)
        stream.close()
        assert await asyncio.gather(*waiting) == [None, None]
    assert stream.state is State.CLOSED


async def test_a_stream_has_to_be_entered() -> None:
    with pytest.raises(RuntimeError, match="async with connect"):
        await anext(connect("http://127.0.0.1:9/"))


def test_without_an_event_loop() -> None:
    async def serve(ready: asyncio.Future[int], over: asyncio.Event) -> None:
        exchanges = [EVENTS | {"then": "cut"}, {"chunks": ["data: c\nid: e-3.end\n\n"], "then": "hold"}]
        async with scripted(exchanges) as server:
            ready.set_result(server.port)
            await over.wait()

    import threading
    from concurrent.futures import Future

    port: Future[int] = Future()
    done = threading.Event()

    def run() -> None:
        async def main() -> None:
            ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            ready.add_done_callback(lambda found: port.set_result(found.result()))
            over = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.run_in_executor(None, lambda: (done.wait(), loop.call_soon_threadsafe(over.set)))
            await serve(ready, over)

        asyncio.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        with connect_blocking(f"http://127.0.0.1:{port.result(30)}/", reconnect_interval=0.1) as events:
            assert [(event.data, event.id) for event in events] == [("a", "1"), ("b", "2"), ("c", "e-3.end")]
            assert events.stream.closed is not None
            assert events.stream.closed.reason == "end"
        with pytest.raises(UpstreamError), connect_blocking("http://127.0.0.1:9/", max_failures=1) as events:
            next(events)
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("how", ["rst", "fin"])
async def test_an_answer_that_is_cut_anywhere_is_whole_and_was_started_once(how: Literal["rst", "fin"]) -> None:
    """Against the real server: a POST, then GETs of its Location."""
    tokens = [f"token {number} " for number in range(20)]
    cuts = range(550, 1_750, 100)
    async with Upstream(*[Answer(tokens)] * len(cuts)) as upstream:
        up = {"kind": "openai-chat", "url": upstream.base_url, "model": "m"}
        settings = make_settings(upstreams={"up": up}, provider="up")
        async with serving(create_app(settings)) as port:
            for cut_after in cuts:
                fates = iter([Fate(cut_after=cut_after, how=how), *[Fate()] * 3])
                async with proxying(port, fates.__next__) as proxy:
                    url = f"http://127.0.0.1:{proxy.port}/generations?dialect=json"
                    async with connect(url, body={"prompt": "q"}, reconnect_interval=0.1) as stream:
                        text = "".join([json.loads(event.data).get("content", "") async for event in stream])
                assert (text, stream.closed) == ("".join(tokens), Closed("end"))
                assert proxy.cuts == 1
        assert len(upstream.requests) == len(cuts)
