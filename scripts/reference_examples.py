"""The examples of docs/reference.md: each is a function here, which tests/unit/test_reference_page.py runs.

What the page shows is the body of the function. One that returns an application is served, and `get` is read from it;
`url` is the address of such a stream. (No annotation is postponed here: FastAPI could not find names of a function.)
"""

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["EXAMPLES", "Example"]


@dataclass(frozen=True)
class Example:
    """`names` are those that it shows; it stands with the first. `get`: the path of a stream in the application that it
    returns."""

    names: tuple[str, ...]
    run: Callable[..., Any]
    get: str | None

    @property
    def source(self) -> str:
        lines = inspect.getsource(self.run).splitlines()
        begin = next(at for at, line in enumerate(lines) if line.lstrip().startswith(("def ", "async def ")))
        body = textwrap.dedent("\n".join(lines[begin + 1 :]))
        return body.removesuffix("\nreturn app").rstrip()


EXAMPLES: list[Example] = []


def example(*names: str, get: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(run: Callable[..., Any]) -> Callable[..., Any]:
        EXAMPLES.append(Example(names, run, get))
        return run

    return add


# --- yeoul


@example("yeoul.AiSdkChat", "yeoul.ChatTurn")
def _() -> None:
    from fastapi import FastAPI, Request, Response

    from yeoul import AiSdkChat, ChatTurn, Hub

    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    async def answer(turn: ChatTurn):
        yield f"You said: {turn.prompt[-1].content}"

    async def store(turn: ChatTurn, message: dict[str, Any]) -> None:
        print(turn.id, [*turn.messages, message])

    chats = AiSdkChat(hub, on_finish=store)

    @app.post("/api/chat")
    async def send(request: Request) -> Response:
        return await chats.send(request, answer)

    @app.get("/api/chat/{id}/stream")
    async def resume(request: Request, id: str) -> Response:
        return await chats.resume(request, id)

    @app.post("/api/chat/{id}/stop")
    async def stop(request: Request, id: str) -> Response:
        return await chats.stop(request, id)


@example("yeoul.Cursor")
async def _() -> None:
    from yeoul import Cursor, Event, Hub

    async with Hub() as hub:
        cursor = await hub.publish("news", Event("hello"))
        assert Cursor.parse(str(cursor)) == cursor  # "<epoch>-<offset>", as in the `id:` line


@example("yeoul.DisconnectPolicy", get="/chat")
def _() -> Any:
    from fastapi import FastAPI, Request, Response

    from yeoul import DisconnectPolicy, Hub, generate

    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    async def answer():
        yield "one "
        yield "two"

    @app.get("/chat")
    async def chat(request: Request) -> Response:
        # Stopped ten seconds after its last reader has left; without a policy it goes on.
        return await generate(hub, request, answer, on_disconnect=DisconnectPolicy(cancel_after=10))

    return app


@example("yeoul.Event", "yeoul.sse.encode")
def _() -> None:
    from yeoul import Event
    from yeoul.sse import encode

    event = Event("hello", type="greeting", retry=3000)
    assert encode(event) == b"event: greeting\nretry: 3000\ndata: hello\n\n"


@example("yeoul.EventStream", "yeoul.Principal", "yeoul.Retention", "yeoul.hub.MemoryBroker", get="/orders/7/stream")
def _() -> Any:
    from fastapi import FastAPI, Request, Response

    from yeoul import EventStream, Hub, Principal, Retention
    from yeoul.hub import MemoryBroker

    # A hundred events of each topic are kept for an hour, for those who come back.
    hub = Hub(MemoryBroker(lambda topic: Retention(events=100, seconds=3600)), heartbeat=10)
    app = FastAPI(lifespan=hub.lifespan)

    @app.get("/orders/{number}/stream")
    async def follow(number: int, request: Request) -> Response:
        ada = Principal(user="ada", expires=4102444800)  # the stream ends at that moment, in Unix seconds
        return EventStream(hub, [f"orders/{number}", "news"], request, newest=10, principal=ada)

    return app


@example("yeoul.Hub", "yeoul.errors.TopicClosed", "yeoul.errors.YeoulError")
async def _() -> None:
    from yeoul import Event, Hub
    from yeoul.errors import TopicClosed, YeoulError

    async with Hub(max_connections=1_000) as hub:
        await hub.publish("jobs/1", Event("started"))
        await hub.publish("jobs/1", Event("done"), final=True)
        try:
            await hub.publish("jobs/1", Event("too late"))
        except TopicClosed:
            print("the job is over")
        except YeoulError as error:  # whatever else Yeoul raises
            print(error)


@example("yeoul.generate", get="/chat?question=why")
def _() -> Any:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI, Request, Response

    from yeoul import Hub, generate

    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    async def answer(question: str) -> AsyncIterator[str]:
        for word in f"You asked: {question}".split():
            yield word + " "

    @app.get("/chat")
    async def chat(question: str, request: Request) -> Response:
        # A function: it is called once for each answer, not for each connection. A stream of the OpenAI SDK will do:
        # generate(hub, request, lambda: client.chat.completions.create(model=…, messages=…, stream=True))
        # Of another SDK's chunks, `text=` picks the text: generate(…, text=lambda chunk: chunk.delta)
        return await generate(hub, request, lambda: answer(question))

    return app


@example("yeoul.live_stream", get="/prices/KRW/stream")
def _() -> Any:
    import asyncio
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from yeoul import Hub, live_stream

    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    @live_stream(app, hub, "/prices/{symbol}/stream")
    async def prices(symbol: str) -> AsyncIterator[dict[str, object]]:
        while True:
            yield {"symbol": symbol, "price": 100}
            await asyncio.sleep(1)

    return app


@example(
    "yeoul.stream_route",
    "yeoul.require_admin",
    "yeoul.require_publish",
    "yeoul.require_subscribe",
    "yeoul.require_user",
    "yeoul.app.create_app",
    get="/desk/stream",
)
def _() -> Any:
    from fastapi import Request, Response

    from yeoul import Event, EventStream, require_admin, require_publish, require_subscribe, require_user, stream_route
    from yeoul.app import create_app

    app = create_app()
    hub = app.state.hub

    @stream_route(app, "/desk/stream")
    async def follow(request: Request) -> Response:
        require_subscribe(request, ["desk"])  # 401 or 403, unless the caller's token allows it
        return EventStream(hub, "desk", request)

    @app.post("/desk")
    async def say(text: str, request: Request) -> dict[str, str | None]:
        user = require_user(request)
        require_publish(request, "desk")
        await hub.publish("desk", Event(text))
        return {"from": user.user}

    @app.delete("/desk")
    async def clear(request: Request) -> None:
        require_admin(request)
        await hub.forget("desk")

    return app


@example("yeoul.app.create_app", "yeoul.llm.Providers", get="/haiku?subject=rapids")
def _() -> Any:
    from fastapi import Request, Response

    from yeoul import generate, stream_route
    from yeoul.app import create_app
    from yeoul.llm import Message, Prompt

    app = create_app()  # its hub is `app.state.hub`, its models are `app.state.providers`

    @stream_route(app, "/haiku")
    async def haiku(subject: str, request: Request) -> Response:
        provider = app.state.providers.get()
        prompt = Prompt([Message("system", "Write a haiku about the subject."), Message("user", subject)])
        return await generate(app.state.hub, request, lambda: provider.stream(prompt), provider=provider.name)

    return app


# --- yeoul.llm


@example(
    "yeoul.llm.Provider",
    "yeoul.llm.Delta",
    "yeoul.llm.Finish",
    "yeoul.llm.Message",
    "yeoul.llm.Prompt",
    "yeoul.llm.Providers",
    "yeoul.llm.Usage",
)
async def _() -> None:
    from collections.abc import AsyncGenerator

    from yeoul.llm import Delta, Finish, Message, Prompt, Provider, Providers, Usage

    class Echo:
        """A model of your own: anything with these members is a Provider."""

        name = "echo"
        model = "echo-1"
        models = ("echo-1",)

        async def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Finish, None]:
            for word in prompt.messages[-1].content.split():
                yield Delta(word + " ")
            yield Finish("stop", Usage(input_tokens=2, output_tokens=2))

        async def close(self) -> None: ...

    echo: Provider = Echo()
    providers = Providers([echo])
    prompt = Prompt([Message("user", "hello there")], max_tokens=100)
    items = [item async for item in providers.get("echo").stream(prompt)]
    assert items[-1] == Finish("stop", Usage(input_tokens=2, output_tokens=2))


@example("yeoul.llm.Demo")
async def _() -> None:
    from yeoul.llm import Delta, Demo, Message, Prompt

    demo = Demo(pace=0)  # seconds between two tokens
    stream = demo.stream(Prompt([Message("user", "What is a rapid?")]))
    assert "".join([item.text async for item in stream if isinstance(item, Delta)])


@example("yeoul.llm.OpenAIChat", "yeoul.llm.OpenAIResponses", "yeoul.llm.Schema")
async def _() -> None:
    from yeoul.llm import Message, OpenAIChat, OpenAIResponses, Prompt, Schema

    local = OpenAIChat(name="local", model="llama3.2", base_url="http://127.0.0.1:11434/v1")
    openai = OpenAIResponses(name="openai", model="gpt-4o-mini", api_key="sk-example")
    shape = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    prompt = Prompt([Message("user", "Where is the Han river?")], schema=Schema("place", shape))
    streams = [local.stream(prompt), openai.stream(prompt)]  # requested with the first step
    for stream in streams:
        await stream.aclose()
    await local.close()
    await openai.close()


@example(
    "yeoul.llm.ToolCall",
    "yeoul.llm.ToolResult",
    "yeoul.llm.Reasoning",
    "yeoul.llm.Refusal",
    "yeoul.llm.SourceUrl",
    "yeoul.llm.SourceDocument",
    "yeoul.llm.File",
    "yeoul.llm.Step",
    get="/weather",
)
def _() -> Any:
    from fastapi import FastAPI, Request, Response

    from yeoul import Hub, generate
    from yeoul.llm import Delta, File, Finish, Reasoning, Refusal, SourceDocument, SourceUrl, Step, ToolCall, ToolResult

    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    async def answer():
        yield Reasoning("The forecast for Seoul has it.")
        yield ToolCall("call-1", "forecast", '{"city": ')  # arguments come in pieces
        yield ToolCall("call-1", arguments='"Seoul"}', done=True)
        yield ToolResult("call-1", {"sky": "clear", "degrees": 21})
        yield Step()  # the model is called again, with the result
        yield SourceUrl("https://example.com/seoul", "Forecast")
        yield SourceDocument("Climate report", "application/pdf", filename="climate.pdf")
        yield File("data:image/png;base64,iVBORw0KGgo=", "image/png")
        yield Delta("Clear, and 21 degrees.")
        yield Refusal(" I cannot say more.")
        yield Finish()

    @app.get("/weather")
    async def weather(request: Request) -> Response:
        return await generate(hub, request, answer, dialect="openai")

    return app


@example("yeoul.llm.Note", get="/ask")
def _() -> Any:
    from fastapi import FastAPI, Request, Response

    from yeoul import Hub, generate
    from yeoul.llm import Note

    hub = Hub()
    app = FastAPI(lifespan=hub.lifespan)

    async def answer():
        yield Note("status", {"stage": "searching"})  # an event of its own: `event: status`
        yield "It is in the manual."

    @app.get("/ask")
    async def ask(request: Request) -> Response:
        return await generate(hub, request, answer)

    return app


# --- yeoul.hub


@example(
    "yeoul.hub.Subscription",
    "yeoul.hub.Outlet",
    "yeoul.hub.SubscribeOptions",
    "yeoul.hub.Encoding",
    "yeoul.hub.EndReason",
    "yeoul.hub.check_topic",
)
async def _() -> None:
    from collections.abc import Callable

    from yeoul import Event, Hub
    from yeoul.hub import Encoding, EndReason, SubscribeOptions, check_topic

    class Printer:
        """An outlet of your own: where the bytes of a reader go."""

        chunked = False
        full = False

        def write(self, payload: bytes) -> None:
            print(payload.decode(), end="")

        deliver = write

        @property
        def deliver(self) -> Callable[[bytes], object]:
            return self.write

        def finish(self, payload: bytes) -> None:
            print(payload.decode(), end="")

        def abort(self) -> None: ...

    async with Hub() as hub:
        check_topic("news/seoul")
        just_data = Encoding(render=lambda frame: frame.event.data.encode() + b"\n")
        reader = await hub.subscribe(["news/seoul"], SubscribeOptions(newest=10, encoding=just_data))
        reader.start(Printer())
        await hub.publish("news/seoul", Event("hello"))
        reader.end(EndReason("logged out", reconnect=False))


@example("yeoul.hub.SqliteBroker")
async def _() -> None:
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from yeoul import Event, Hub
    from yeoul.hub import SqliteBroker

    with TemporaryDirectory() as folder:
        async with Hub(SqliteBroker(Path(folder) / "broker.db")) as hub:
            cursor = await hub.publish("news", Event("kept"))
        async with Hub(SqliteBroker(Path(folder) / "broker.db")) as hub:  # after a restart
            assert hub.epoch == cursor.epoch
            assert hub.head == cursor.offset


@example("yeoul.hub.Broker", "yeoul.hub.MemoryBroker")
async def _() -> None:
    from yeoul import Hub
    from yeoul.hub import Broker, MemoryBroker

    broker: Broker = MemoryBroker(max_topics=1_000, max_bytes=64 * 1024 * 1024)
    async with Hub(broker) as hub:
        assert hub.epoch == broker.epoch


# --- yeoul.client


@example(
    "yeoul.client.open_stream",
    "yeoul.client.EventStream",
    "yeoul.client.RetryPolicy",
    "yeoul.client.Timeouts",
    "yeoul.client.new_session",
    "yeoul.errors.UpstreamError",
)
async def _(url: str) -> None:
    from yeoul.client import RetryPolicy, Timeouts, new_session, open_stream
    from yeoul.errors import UpstreamError

    async with new_session() as session:
        try:
            async with open_stream(
                session, "GET", url, timeouts=Timeouts(idle=30), retry=RetryPolicy(attempts=2)
            ) as events:
                async for batch in events:  # what has come together
                    for event in batch:
                        print(event.id, event.type, event.data)
                    break
        except UpstreamError as error:
            print(error)  # fit to be shown: what went wrong, without secrets


@example("yeoul.client.connect", "yeoul.client.Stream", "yeoul.client.State", "yeoul.client.Closed")
async def _(url: str) -> None:
    from collections.abc import Mapping

    from yeoul.client import Closed, State, Stream, connect
    from yeoul.errors import UpstreamError

    def on_gap(gap: Mapping[str, Any]) -> None:
        print("events are missing, load the state anew:", gap["reason"])

    stream: Stream = connect(url, on_gap=on_gap)
    try:
        async with stream:
            async for event in stream:  # over as many connections as it takes
                print(event.id, event.type, event.data)
                stream.close()
    except UpstreamError as error:
        print(error)  # trying again does not help
    assert stream.state is State.CLOSED
    assert stream.closed == Closed("client")  # "end" where an answer has come to its end


@example("yeoul.client.connect_blocking", "yeoul.client.BlockingStream")
def _() -> None:
    import json

    from yeoul.client import BlockingStream, connect_blocking

    def ask(url: str, question: str) -> str:
        answer: BlockingStream = connect_blocking(url, body={"prompt": question})  # sent once, and resumed by GETs
        with answer:
            return "".join(json.loads(event.data).get("content", "") for event in answer)


@example("yeoul.client.redact")
def _() -> None:
    from yeoul.client import redact

    assert "sk-proj-0123456789abcdef" not in redact("key sk-proj-0123456789abcdef", ["sk-proj-0123456789abcdef"])


# --- yeoul.sse


@example("yeoul.sse.Decoder", "yeoul.sse.Event", "yeoul.sse.DEFAULT_MAX_EVENT_BYTES")
def _() -> None:
    from yeoul.sse import DEFAULT_MAX_EVENT_BYTES, Decoder, Event

    decoder = Decoder(max_event_bytes=DEFAULT_MAX_EVENT_BYTES)
    assert decoder.feed(b"id: 7\ndata: hel") == []  # any split of the bytes is good
    assert decoder.feed(b"lo\n\n") == [Event("hello", id="7")]
    assert decoder.last_event_id == "7"


@example("yeoul.sse.comment")
def _() -> None:
    from yeoul.sse import comment

    assert comment("keep-alive") == b": keep-alive\n"


@example("yeoul.sse.json_data")
def _() -> None:
    from yeoul.sse import json_data

    assert json_data({"name": "여울"}) == '{"name": "여울"}'
    assert json_data("a\u2028b") == '"a\\u2028b"'  # readers cut lines there that the standard does not cut
