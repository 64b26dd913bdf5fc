"""A chat in front of the AI SDK itself: its versions 5, 6 and 7, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from support.ai_sdk import ai_sdk
from support.reader import ask
from support.serving import serving
from support.upstream import Answer as Scripted
from support.upstream import Upstream
from yeoul import AiSdkChat, ChatTurn, Hub
from yeoul.errors import UpstreamCut
from yeoul.llm import (
    Delta,
    File,
    Finish,
    Note,
    Reasoning,
    SourceDocument,
    SourceUrl,
    Step,
    ToolCall,
    ToolResult,
)

LATEST = {5: "ai-5", 6: "ai-6", 7: "ai"}
FIRST = {5: "ai-5-first", 6: "ai-6-first", 7: "ai-7-first"}

ANSWER: list[Any] = [
    Note("status", {"stage": "searching"}, transient=True),
    Note("plan", {"done": 1}, "p"),
    Reasoning("The forecast"),
    Reasoning(" has it."),
    Delta("Let me "),
    Delta("look. 안녕 🌊\u2028"),
    ToolCall("c1", "weather", '{"city":'),
    ToolCall("c1", arguments=' "서울"}', done=True),
    ToolCall("c2", "weather", '{"city": "부산"}'),
    ToolResult("c1", {"degrees": 7}),
    ToolResult("c2", error="no forecast"),
    Step(),
    SourceUrl("https://example.com/", "Example"),
    SourceDocument("Report", "application/pdf", "report.pdf"),
    File("data:text/plain,x", "text/plain"),
    Note("plan", {"done": 2}, "p"),
    Delta("Seven"),
    Delta(" degrees."),
    Finish(),
]
# Chunks of this answer in the stream, without `[DONE]`.
CHUNKS = 33


class Server:
    """A user's own application. `script` is what the model says; an exception is raised, `None` waits for ever."""

    def __init__(self, version: Any = 7, **options: Any) -> None:
        self.hub = Hub()
        self.chats = AiSdkChat(self.hub, version=version, **options)
        self.script: list[Any] = ANSWER
        self.turns: list[ChatTurn] = []
        self.said = asyncio.Event()  # all but a last None
        self.app = FastAPI(lifespan=self.hub.lifespan)

        @self.app.post("/api/chat")
        async def send(request: Request) -> Response:
            return await self.chats.send(request, self.answer)

        @self.app.get("/api/chat/{id}/stream")
        async def resume(request: Request, id: str) -> Response:
            return await self.chats.resume(request, id)

        @self.app.post("/api/chat/{id}/stop")
        async def stop(request: Request, id: str) -> Response:
            return await self.chats.stop(request, id)

    async def answer(self, turn: ChatTurn) -> AsyncIterator[Any]:
        self.turns.append(turn)
        for item in self.script:
            await asyncio.sleep(0.002)  # the pace of the model
            if item is None:
                self.said.set()
                await asyncio.get_running_loop().create_future()
            if isinstance(item, Exception):
                raise item
            yield item


def parts(result: dict[str, Any]) -> Any:
    """The parts of the only message of the assistant."""
    user, assistant = result["messages"]
    assert (user["role"], assistant["role"]) == ("user", "assistant")
    return assistant["parts"]


@pytest.mark.parametrize("package", [*FIRST.values(), *LATEST.values()])
async def test_every_version_reads_every_part(package: str) -> None:
    version = next(version for table in (FIRST, LATEST) for version, name in table.items() if name == package)
    server = Server(version)
    async with serving(server.app) as port, ai_sdk(package) as sdk:
        result = await sdk.run("send", port, "chat", text="Is it warm?")
    assert (result["status"], result.get("error")) == ("ready", None)
    seen = [part["type"] for part in parts(result)]
    assert seen == [
        "data-plan",
        "step-start",
        "reasoning",
        "text",
        "tool-weather",
        "tool-weather",
        "step-start",
        "source-url",
        "source-document",
        "file",
        "text",
    ]
    plan, _, reasoning, said, first, second, *_, last = parts(result)
    assert plan["data"] == {"done": 2}
    assert (reasoning["text"], reasoning["state"]) == ("The forecast has it.", "done")
    assert (said["text"], said["state"]) == ("Let me look. 안녕 🌊\u2028", "done")
    assert (first["state"], first["input"], first["output"]) == (
        "output-available",
        {"city": "서울"},
        {"degrees": 7},
    )
    assert (second["state"], second["errorText"]) == ("output-error", "no forecast")
    assert last["text"] == "Seven degrees."
    assert server.turns[0].prompt[0].content == "Is it warm?"
    if version > 5 and package in LATEST.values():
        assert result["finish"]["finishReason"] == "stop"


@pytest.mark.parametrize("version", LATEST)
async def test_a_cut_at_every_event_changes_nothing_and_the_model_is_asked_once(version: int) -> None:
    server = Server(version)
    pages = 0
    async with serving(server.app) as port, ai_sdk(LATEST[version]) as sdk:
        whole = parts(await sdk.run("send", port, "whole", text="Is it warm?"))
        for cut in range(CHUNKS):
            lost = await sdk.run("send", port, f"chat {cut}", text="Is it warm?", cut=cut)
            assert lost["status"] == "error", cut
            # The page is loaded again: it has stored what the user said, and nothing of the answer.
            again = await sdk.run("resume", port, f"chat {cut}", messages=lost["messages"][:1])
            assert (again["status"], parts(again)) == ("ready", whole), cut
            # In the same page version 5 goes on with a message whose tool call was cut, and so has its parts twice.
            cut_calls = [part for message in lost["messages"][1:] for part in message["parts"] if "toolCallId" in part]
            if version == 5 and any(call["state"] == "input-streaming" for call in cut_calls):
                continue
            pages += 1
            same = await sdk.run("send and resume", port, f"page {cut}", text="Is it warm?", cut=cut)
            assert (same["status"], parts(same)) == ("ready", whole), cut
    assert len(server.turns) == 1 + CHUNKS + pages
    assert pages > CHUNKS / 2


async def test_a_chat_in_which_nothing_runs_stays_ready() -> None:
    server = Server()
    async with serving(server.app) as port, ai_sdk("ai") as sdk:
        assert (await ask(port, "/api/chat/unknown/stream")).status == 204
        result = await sdk.run("resume", port, "unknown")
    assert (result["messages"], result["status"]) == ([], "ready")
    assert "streaming" not in result["statuses"]


async def test_a_stop_ends_the_answer_for_every_reader_and_keeps_what_was_said() -> None:
    server = Server()
    server.script = [Delta("a"), ToolCall("c1", "weather", '{"ci'), None]
    async with serving(server.app) as port, ai_sdk("ai") as sdk, ai_sdk("ai") as other:
        first = asyncio.create_task(sdk.run("send", port, "chat", text="hi"))
        await server.said.wait()
        second = asyncio.create_task(other.run("resume", port, "chat"))
        (generation,) = server.chats.generations.running()
        while len(generation.readers) < 2:
            await asyncio.sleep(0.005)
        stopped = await ask(port, "/api/chat/chat/stop", method="POST")
        assert (stopped.status, stopped.text) == (200, '{"success":true}')
        results = [await first, await second]
        assert (await ask(port, "/api/chat/chat/stream")).status == 204
        assert (await ask(port, "/api/chat/chat/stop", method="POST")).status == 200
    for result in results:
        assert result["status"] == "ready"
        _, text, call = result["messages"][-1]["parts"]
        assert (text["text"], text["state"]) == ("a", "done")
        assert call["state"] == "input-streaming", "a call that was cut must not be carried out"


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        (RuntimeError("secret"), "the model's stream failed"),
        (UpstreamCut("the model hung up"), "the model hung up"),
        (Delta("b"), "without its end marker"),
    ],
)
@pytest.mark.parametrize("version", LATEST)
async def test_an_answer_that_is_not_done_is_an_error(version: int, ending: Any, why: str) -> None:
    server = Server(version)
    server.script = [Delta("a"), ending]
    async with serving(server.app) as port, ai_sdk(LATEST[version]) as sdk:
        result = await sdk.run("send", port, "chat", text="hi")
        again = await sdk.run("resume", port, "chat", messages=result["messages"][:1])
    for seen in (result, again):
        assert seen["status"] == "error"
        assert why in seen["error"]
        assert parts(seen)[1]["text"].startswith("a")


async def test_a_shutdown_is_an_error_not_an_end_and_what_was_said_is_stored() -> None:
    stored = list[dict[str, Any]]()

    async def store(turn: ChatTurn, message: dict[str, Any]) -> None:
        await asyncio.sleep(0)  # a database that is asked
        stored.append(message)

    server = Server(on_finish=store)
    server.chats.generations._grace_seconds = 0  # type: ignore[attr-defined]
    server.script = [Delta("a"), None]
    async with serving(server.app) as port, ai_sdk("ai") as sdk:
        reading = asyncio.create_task(sdk.run("send", port, "chat", text="hi"))
        await server.said.wait()
        await server.hub.close()
        result = await reading
    assert (result["status"], result["error"]) == ("error", "the server ended this answer: ask again")
    assert stored == [result["messages"][1]]


async def test_the_message_is_stored_when_the_answer_has_ended_and_is_what_the_page_has() -> None:
    stored: list[tuple[ChatTurn, dict[str, Any]]] = []
    may_store = asyncio.Event()

    async def store(turn: ChatTurn, message: dict[str, Any]) -> None:
        await may_store.wait()
        stored.append((turn, message))

    server = Server(on_finish=store)
    async with serving(server.app) as port, ai_sdk("ai") as sdk:
        result = await sdk.run("send", port, "chat", text="hi")
        # It has ended, but is not stored: a page that is loaded now would have it from nowhere else.
        assert (await ask(port, "/api/chat/chat/stream")).status == 200
        may_store.set()
        while not stored:
            await asyncio.sleep(0.005)
        assert (await ask(port, "/api/chat/chat/stream")).status == 204
    (turn, message), shown = stored[0], result["messages"][1]
    assert turn.id == "chat"
    assert message == shown


BODY = {"id": "c", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]}


async def test_the_same_request_sent_again_gets_the_same_answer_and_another_one_ends_it() -> None:
    server = Server()
    server.script = [Delta("a"), None]
    async with serving(server.app) as port:

        async def send(body: Any) -> bytes:
            return (await ask(port, "/api/chat", method="POST", json_body=body)).body

        first, again = asyncio.create_task(send(BODY)), asyncio.create_task(send(BODY))
        await server.said.wait()
        (generation,) = server.chats.generations.running()
        while len(generation.readers) < 2:
            await asyncio.sleep(0.005)
        assert len(server.turns) == 1
        server.script = [Delta("b"), Finish()]
        other = await send({**BODY, "trigger": "regenerate-message", "messageId": "m"})
        assert b'"abort"' in await first
        assert b'"abort"' in await again
        assert b'"finish"' in other
    assert [turn.trigger for turn in server.turns] == ["submit-message", "regenerate-message"]


async def test_an_answer_after_the_results_of_tools_goes_on_with_the_same_message() -> None:
    server = Server()
    body = {**BODY, "messages": [*BODY["messages"], {"id": "m1", "role": "assistant", "parts": []}]}
    async with serving(server.app) as port:
        answer = await ask(port, "/api/chat", method="POST", json_body=body)
    assert '{"type": "start", "messageId": "m1"}' in answer.text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ([], "body"),
        ({}, "messages"),
        ({"id": "c"}, "messages"),
        ({**BODY, "messages": []}, "messages"),
        ({**BODY, "messages": ["hi"]}, "messages"),
        ({**BODY, "id": ""}, "id"),
        ({**BODY, "id": 7}, "id"),
        ({**BODY, "id": "x" * 201}, "id"),
        ({**BODY, "trigger": "x"}, "trigger"),
        ({**BODY, "messageId": 7}, "messageId"),
    ],
)
async def test_a_body_of_the_wrong_shape_is_refused_by_the_name_of_its_field(body: Any, field: str) -> None:
    server = Server()
    async with serving(server.app) as port:
        answer = await ask(port, "/api/chat", method="POST", json_body=body)
        assert (answer.status, answer.json()["errors"][0]["field"]) == (422, field)
        assert (await ask(port, "/api/chat", method="POST", body=b"{")).status == 400
    assert not server.turns


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="use 5, 6 or 7"):
        AiSdkChat(Hub(), version=4)  # type: ignore[arg-type]


# --- the server's own chat


async def test_the_server_answers_a_chat_with_its_providers(port: int, upstream: Upstream) -> None:
    upstream.scripts = [Scripted(("안", "녕"))]
    async with ai_sdk("ai") as sdk:
        result = await sdk.run("send", port, "my chat", text="hello")
        again = await sdk.run("resume", port, "my chat", messages=result["messages"][:1])
    assert (result["status"], parts(result)[-1]["text"]) == ("ready", "안녕")
    assert upstream.requests[0].json["messages"] == [{"role": "user", "content": "hello"}]
    assert again["messages"] == result["messages"]
    assert len(upstream.requests) == 1


async def test_the_server_shows_the_demo_of_all_parts(port: int) -> None:
    body = {**BODY, "provider": "demo", "model": "demo-parts"}
    answer = await ask(port, "/api/chat", method="POST", json_body=body)
    assert answer.headers["x-vercel-ai-ui-message-stream"] == "v1"
    for kind in ("reasoning-delta", "tool-input-available", "tool-output-available", "source-url", "finish"):
        assert f'{{"type": "{kind}"' in answer.text
    assert (await ask(port, "/api/chat/c/stop", method="POST")).json() == {"success": True}


@pytest.mark.settings(ai_sdk_version=5)
async def test_the_version_of_the_server_is_a_setting(port: int) -> None:
    assert '{"type": "finish"}' in (await ask(port, "/api/chat", method="POST", json_body=BODY)).text


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({**BODY, "messages": [{"id": "u", "role": "user", "parts": []}]}, "no message of the user has text"),
        ({**BODY, "provider": "none"}, "no provider 'none'"),
        ({**BODY, "model": "dear"}, "does not offer the model 'dear'"),
        ({"messages": BODY["messages"]}, "id"),
    ],
)
async def test_the_server_refuses_what_it_cannot_answer(port: int, upstream: Upstream, body: Any, why: str) -> None:
    answer = await ask(port, "/api/chat", method="POST", json_body=body)
    assert answer.status == 422
    assert why in answer.text
    assert not upstream.requests
