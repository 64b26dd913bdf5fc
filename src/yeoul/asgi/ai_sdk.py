"""The routes of a chat with Vercel's AI SDK (`useChat`): send a message, read the running answer again, stop it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import YeoulError
from ..hub import Hub
from ..hub.job import CONTINUE, DisconnectPolicy
from ..llm.ai_sdk import AiSdk5, AiSdk6, AiSdk7
from ..llm.dialect import Dialect
from ..llm.generation import Generation
from ..llm.generations import Generations
from ..llm.outcome import State
from ..llm.provider import Message
from ..llm.sources import Source, Texts
from ..llm.ui_message import messages_of, ui_message
from ..observe import logger
from .authentication import caller_of
from .body import read_json
from .errors import Problem, problem_of
from .generate import AnswerRoute, NewAnswer, generation_stream
from .resume import resume_or_start
from .stream_request import StreamRequest

__all__ = ["AiSdkChat", "ChatTurn"]

_Chunk = TypeVar("_Chunk")

_DIALECTS: Mapping[int, type[Dialect]] = {5: AiSdk5, 6: AiSdk6, 7: AiSdk7}

# Characters of a chat's or a message's id.
_MAX_ID = 200
_MAX_MESSAGES = 10_000

# Chats that are remembered before those whose answers are not kept any more are let go.
_MANY = 1_000

# Seconds that the storing of messages has when the hub closes.
_STORE = 5.0


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """What `useChat` sends: the `id` of the chat, its `messages` (AI SDK `UIMessage`s; only the last one where the page
    sends `message`), the `trigger` (`submit-message` or `regenerate-message`), the id of the message that is generated
    again, and the whole `body` with what the page has added to it."""

    id: str
    messages: Sequence[Mapping[str, Any]]
    trigger: str
    message_id: str | None
    body: Mapping[str, Any]

    @classmethod
    def parse(cls, body: Any) -> ChatTurn:
        """Raises Problem (422), which names the field."""
        if not isinstance(body, dict):
            raise Problem(422, "the body is not a JSON object", fields=[("body", "send what the AI SDK sends")])
        messages: Any = body["messages"] if "messages" in body else [body.get("message")]
        trigger, message_id = body.get("trigger", "submit-message"), body.get("messageId")
        known = isinstance(messages, list) and 0 < len(messages) <= _MAX_MESSAGES
        if not known or not all(isinstance(message, dict) for message in messages):
            raise _wrong("messages", f"send 1 to {_MAX_MESSAGES} messages, or the last one as `message`")
        if not _is_id(body.get("id")):
            raise _wrong("id", f"send the chat's id, a text of 1 to {_MAX_ID} characters")
        if trigger not in ("submit-message", "regenerate-message"):
            raise _wrong("trigger", "send submit-message or regenerate-message")
        if message_id is not None and not _is_id(message_id):
            raise _wrong("messageId", f"send a text of 1 to {_MAX_ID} characters, or leave it out")
        return cls(body["id"], messages, trigger, message_id, body)

    @property
    def prompt(self) -> list[Message]:
        """The texts of the messages, as a provider is asked."""
        return messages_of(self.messages)

    @property
    def continued(self) -> str | None:
        """The id of the assistant's message that the answer goes on with, after the results of tools. None where the
        answer is a message of its own."""
        last = self.messages[-1]
        id = last.get("id")
        return id if last.get("role") == "assistant" and _is_id(id) else None


@dataclass(eq=False, slots=True)
class _Chat:
    """The last answer of one chat. `content`: a digest of the request that started it. `stored`: the application keeps
    it."""

    generation: Generation | None = None
    content: bytes = b""
    stored: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def running(self) -> Generation | None:
        return self.generation if self.generation is not None and self.generation.running else None


# Called with what was sent and the finished message (AI SDK `UIMessage`).
_OnFinish = Callable[[ChatTurn, dict[str, Any]], Awaitable[None]]


class AiSdkChat:
    """Chats for `useChat` and other clients of the AI SDK, in routes of your own.

    An answer goes on when its reader is lost; `resume` shows it again from its beginning. A chat has at most one
    running answer: a new message ends the one before, the same request sent again gets the same answer. Chats belong to
    the authenticated user; without one, its id alone gives access to a chat.

    `version` of the AI SDK: 5, 6 or 7. `on_disconnect`: what to do without readers. `on_finish` is awaited when an
    answer has ended, however that was, with what was sent and the message: store it there, and not before. Once it has
    returned, `resume` answers that nothing is running (204), since the page has the message from you.

    Raises ValueError for another version.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        version: Literal[5, 6, 7] = 7,
        on_disconnect: DisconnectPolicy = CONTINUE,
        on_finish: _OnFinish | None = None,
    ) -> None:
        if version not in _DIALECTS:
            raise ValueError(f"unknown version {version!r} of the AI SDK: use 5, 6 or 7")
        self.hub = hub
        self.generations = Generations.of(hub)
        self.dialect = _DIALECTS[version]
        self._on_disconnect = on_disconnect
        self._on_finish = on_finish
        self._chats: dict[tuple[str | None, str], _Chat] = {}
        self._most = _MANY
        self._storing: set[asyncio.Task[None]] = set()
        hub.before_close(self._finish_storing)

    async def send(
        self,
        request: Request,
        source: Callable[[ChatTurn], Any],
        *,
        text: Callable[[_Chunk], str | None] | None = None,
        provider: str = "app",
        model: str = "app",
    ) -> Response:
        """For `POST /api/chat`: streams the answer. `source` is called with what was sent and returns an async iterator
        (awaited if need be), as `generate` takes it; `text`, `provider` and `model` are those of `generate`."""

        def new(turn: ChatTurn) -> NewAnswer:
            chunks: Source[_Chunk] = lambda: source(turn)  # noqa: E731
            return NewAnswer(Texts(chunks, text), provider, model)

        return await self.answer(request, new)

    async def answer(self, request: Request, new: Callable[[ChatTurn], NewAnswer | Awaitable[NewAnswer]]) -> Response:
        """As `send`, with what `new` makes of the request. Its YeoulErrors are answered as problems."""
        try:
            body = await request.body()
            turn = ChatTurn.parse(read_json(body))
        except Problem as error:
            return problem_of(error)
        chat = self._chat_of(request, turn.id)
        content = blake2b(body, digest_size=16).digest()

        async def make() -> NewAnswer:
            made = new(turn)
            answer = await made if inspect.isawaitable(made) else made
            answer.message_id = turn.continued
            return answer

        def begun(generation: Generation) -> None:
            chat.generation, chat.content, chat.stored = generation, content, False
            if self._on_finish is not None:
                task = self.hub.spawn(self._store(chat, generation, turn, self._on_finish))
                self._storing.add(task)
                task.add_done_callback(self._storing.discard)

        route = _ChatRoute(
            *(self.generations, request, make, self.dialect, self._on_disconnect),
            chat=chat,
            content=content,
            begun=begun,
        )
        return await resume_or_start(route, request)

    async def resume(self, request: Request, id: str) -> Response:
        """For `GET /api/chat/{id}/stream`: the chat's running answer, from its beginning, and on to its end. So is an
        answer that has ended, until `on_finish` has stored it. 204 where there is neither."""
        try:
            opened = StreamRequest.of(request)
        except (Problem, YeoulError) as error:
            return problem_of(error)
        chat = self._chats.get((caller_of(request).owner, id), _Chat())
        generation = chat.generation
        shown = self._is_kept(chat) and not chat.stored
        if generation is None or not shown or generation.outcome.state is State.CANCELLED:
            return Response(status_code=204, headers={"cache-control": "no-store"})
        return generation_stream(self.hub, request, generation, self.dialect, snapshot=True, opened=opened)

    async def stop(self, request: Request, id: str) -> Response:
        """For `POST /api/chat/{id}/stop`: ends the chat's running answer, for all its readers. What was said so far is
        kept. `useChat`'s own `stop()` only stops reading."""
        chat = self._chats.get((caller_of(request).owner, id))
        running = None if chat is None else chat.running
        if running is not None:
            running.cancel()
            await running.wait()
        return JSONResponse({"success": True}, headers={"cache-control": "no-store"})

    def _chat_of(self, request: Request, id: str) -> _Chat:
        key = (caller_of(request).owner, id)
        chat = self._chats.get(key)
        if chat is None:
            if len(self._chats) >= self._most:
                self._forget()
            chat = self._chats[key] = _Chat()
        return chat

    def _forget(self) -> None:
        """Lets go of chats whose answers are not kept any more."""
        kept = {key: chat for key, chat in self._chats.items() if self._is_kept(chat)}
        self._chats = kept
        self._most = max(_MANY, 2 * len(kept))

    def _is_kept(self, chat: _Chat) -> bool:
        generation = chat.generation
        return chat.lock.locked() or (generation is not None and self.generations.get(generation.id) is generation)

    async def _store(self, chat: _Chat, generation: Generation, turn: ChatTurn, on_finish: _OnFinish) -> None:
        await generation.ended()
        info = generation.info
        try:
            await on_finish(turn, ui_message(generation.answer, info.message_id or info.id))
        except Exception:
            logger.exception("on_finish of a chat failed: its answer is shown again as long as it is kept")
            return
        if chat.generation is generation:
            chat.stored = True

    async def _finish_storing(self) -> None:
        if self._storing:
            await asyncio.wait(self._storing, timeout=_STORE)


@dataclass(slots=True, kw_only=True)
class _ChatRoute(AnswerRoute):
    """Starts a chat's answer, unless the same request has started the one that runs."""

    chat: _Chat
    content: bytes
    begun: Callable[[Generation], None]

    async def start(self, request_key: str | None) -> Generation:
        async with self.chat.lock:
            running = self.chat.running
            if running is not None and self.chat.content == self.content:
                return running
            if running is not None:
                running.cancel()
                await running.wait()  # until then it counts among those of its owner
            # Not by super(): a dataclass with slots is another class than the one that the compiler knows.
            generation = await AnswerRoute.start(self, request_key)
            self.begun(generation)
            return generation


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID


def _wrong(field: str, right: str) -> Problem:
    return Problem(422, f"invalid `{field}`: {right}", fields=[(field, right)])
