"""OpenAI's two streaming APIs, spoken over plain HTTP: Chat Completions and Responses.

`OpenAIChat` is for every server with an OpenAI-compatible `/chat/completions`: OpenAI, the Hugging Face router, vLLM,
Ollama, llama.cpp, LiteLLM. `OpenAIResponses` is for OpenAI's `/responses`. The SDK is not used: parsing a token with
it costs several times what the rest of its way to the browser does.

What a stream means is decided by a pure reader in `answers`; the adapters here ask, and move what comes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from ..client.connection import EventStream, new_session, open_stream
from ..client.refusal import readable
from ..client.request import Timeouts
from ..errors import UpstreamCut, UpstreamRefused, UpstreamTimeout
from ..stream.retry import RetryPolicy
from .answers import Answer, ChatAnswer, ResponsesAnswer
from .provider import Delta, Finish, Message, Prompt, Schema

__all__ = ["HUGGINGFACE_URL", "OPENAI_URL", "OpenAIChat", "OpenAIResponses", "Options"]

OPENAI_URL = "https://api.openai.com/v1"
HUGGINGFACE_URL = "https://router.huggingface.co/v1"

# How long the rest of an answer is waited for, in seconds, once its last text is known to have come: the usage, the
# end marker. A server that keeps the connection open and sends neither must not hold the reader for the idle time-out.
_TRAILER_SECONDS = 5.0

# How long the end of the HTTP body may take after the end marker: worth a TLS handshake that is saved, not more.
_DRAIN_SECONDS = 0.1

# Header names with one of these in them carry secrets, whoever invented them.
_SECRET_WORDS = ("key", "token", "auth", "secret", "cookie", "password")

# What the bound on the answer's length is called, by host, where it is not `max_tokens`.
_MAX_TOKENS_FIELDS = {"api.openai.com": "max_completion_tokens"}

# Statuses of a server that does not take a request as it is.
_NOT_LIKE_THIS = (400, 422)

_TIMEOUTS = Timeouts()
_RETRY = RetryPolicy()


class Options(TypedDict, total=False):
    """What both adapters take, beside `name` and `model`.

    `headers` are sent beside our own, and instead of those of the same name. `make_session` is called in the running
    loop; what it makes is closed by the adapter.
    """

    base_url: str
    api_key: str | None
    headers: Mapping[str, str] | None
    timeouts: Timeouts
    retry: RetryPolicy
    make_session: Callable[[], aiohttp.ClientSession]


class _Adapter(ABC):
    """One API at one base URL. Holds one pool of connections, made in the loop of the first request."""

    def __init__(
        self,
        *,
        name: str,
        model: str,
        base_url: str = OPENAI_URL,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: Timeouts = _TIMEOUTS,
        retry: RetryPolicy = _RETRY,
        make_session: Callable[[], aiohttp.ClientSession] = new_session,
    ) -> None:
        """Raises ValueError for a base URL that is none or holds a password, and for a key that no header can carry."""
        self.name = name
        self.model = model
        self.base_url = _checked_url(base_url)
        self._headers = _headers(api_key, headers)
        self._secrets = _secrets(self._headers)
        self._timeouts = timeouts
        self._retry = retry
        self._make_session = make_session
        self._session: aiohttp.ClientSession | None = None
        self._streams: set[EventStream] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self.base_url}, model {self.model!r}>"

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Delta | Finish, None]:
        """See `Provider.stream`.

        Raises UpstreamRefused, UpstreamTimeout, UpstreamGarbage, UpstreamCut (also where the stream ends cleanly but
        without an end marker), and UpstreamError for an error that the server reports in mid-stream.
        """
        answer = self._answer()
        async with AsyncExitStack() as stack:
            try:
                events = await stack.enter_async_context(self._request(prompt))
            except UpstreamRefused as error:
                # Many compatible servers and models do not know schemas: the messages ask for the shape, too.
                if prompt.schema is None or error.status not in _NOT_LIKE_THIS:
                    raise
                events = await stack.enter_async_context(self._request(replace(prompt, schema=None)))
            self._streams.add(events)
            try:
                async for batch in events:
                    for event in batch:
                        text = answer.take(event.data)
                        if text:
                            yield Delta(text)
                    if answer.over:
                        break
                    if answer.reason is not None:
                        events.idle = min(events.idle or _TRAILER_SECONDS, _TRAILER_SECONDS)
            except (UpstreamCut, UpstreamTimeout):
                if answer.reason is None:
                    raise
            finally:
                self._streams.discard(events)
            yield answer.finish()
            await events.drain(_DRAIN_SECONDS)

    def _request(self, prompt: Prompt) -> AbstractAsyncContextManager[EventStream]:
        return open_stream(
            self._pool(),
            "POST",
            self.base_url + self._path,
            name=self.name,
            headers=self._headers,
            body=msgspec.json.encode(self._body(prompt)),
            timeouts=self._timeouts,
            retry=self._retry,
            secrets=self._secrets,
        )

    async def close(self) -> None:
        """Closes the pool, and before it what still streams: that ends as UpstreamCut. A closed adapter refuses."""
        self._closed = True
        for events in self._streams:
            events.close()
        if self._session is not None:
            await self._session.close()

    def _pool(self) -> aiohttp.ClientSession:
        if self._closed:
            raise UpstreamRefused(f"{self.name} is closed")
        if self._session is None:
            self._session = self._make_session()
        return self._session

    def _readable(self, text: str, limit: int) -> str:
        return readable(text, self._secrets, limit)

    @property
    @abstractmethod
    def _path(self) -> str: ...

    @abstractmethod
    def _answer(self) -> Answer: ...

    @abstractmethod
    def _body(self, prompt: Prompt) -> dict[str, Any]: ...


class OpenAIChat(_Adapter):
    """`POST {base_url}/chat/completions`: OpenAI's, and that of every server that imitates it.

    `include_usage=False` leaves out `stream_options`, for servers that refuse it. `max_tokens_field` is what the
    prompt's bound is called: OpenAI's newer models refuse `max_tokens`, most other servers know only that; None goes
    by the base URL's host.
    """

    _path = "/chat/completions"

    def __init__(
        self,
        *,
        model: str,
        name: str = "openai-chat",
        include_usage: bool = True,
        max_tokens_field: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(name=name, model=model, **options)
        self._include_usage = include_usage
        self._max_tokens_field = max_tokens_field or _MAX_TOKENS_FIELDS.get(URL(self.base_url).host or "", "max_tokens")

    def _answer(self) -> ChatAnswer:
        return ChatAnswer(self.name, self._readable)

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        schema = prompt.schema
        return _without_none(
            {
                "model": prompt.model or self.model,
                "messages": [_turn(message) for message in prompt.messages],
                "stream": True,
                "stream_options": {"include_usage": True} if self._include_usage else None,
                self._max_tokens_field: prompt.max_tokens,
                "temperature": prompt.temperature,
                "response_format": None if schema is None else {"type": "json_schema", "json_schema": _strict(schema)},
            }
        )


class OpenAIResponses(_Adapter):
    """`POST {base_url}/responses`. System messages become its `instructions`; nothing is stored at OpenAI."""

    _path = "/responses"

    def __init__(self, *, model: str, name: str = "openai", **options: Unpack[Options]) -> None:
        super().__init__(name=name, model=model, **options)

    def _answer(self) -> ResponsesAnswer:
        return ResponsesAnswer(self.name, self._readable)

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        schema = prompt.schema
        system = [message.content for message in prompt.messages if message.role == "system"]
        return _without_none(
            {
                "model": prompt.model or self.model,
                "instructions": "\n\n".join(system) or None,
                "input": [_turn(message) for message in prompt.messages if message.role != "system"],
                "stream": True,
                "store": False,
                "max_output_tokens": prompt.max_tokens,
                "temperature": prompt.temperature,
                "text": None if schema is None else {"format": {"type": "json_schema", **_strict(schema)}},
            }
        )


def _strict(schema: Schema) -> dict[str, Any]:
    return {"name": schema.name, "schema": schema.shape, "strict": True}


def _turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _without_none(body: dict[str, Any]) -> dict[str, Any]:
    # A field that is null is not the same as none: some servers refuse it.
    return {field: value for field, value in body.items() if value is not None}


def _checked_url(base_url: str) -> str:
    """The URL without a slash at its end. Raises ValueError."""
    url = URL(base_url.strip().rstrip("/"))
    if url.user is not None or url.password is not None:
        raise ValueError("a base URL must not hold a user name or password: give the key as api_key or in headers")
    if url.scheme not in ("http", "https") or not url.host or url.query_string or url.fragment:
        raise ValueError(f"a base URL has http or https, a host, no query and no fragment, as {OPENAI_URL} has")
    return str(url)


def _headers(api_key: str | None, extra: Mapping[str, str] | None) -> CIMultiDict[str]:
    headers = CIMultiDict({"Content-Type": "application/json"})
    # Keys come from files and shells, with a line end after them.
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            "the API key holds characters that a header cannot carry: was it copied whole, and nothing else?"
        )
    if key:
        headers["Authorization"] = f"Bearer {key}"
    headers.update(extra or {})
    return headers


def _secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What no message may show, longest first, so that none is left over in part."""
    values = [value for name, value in headers.items() if any(word in name.lower() for word in _SECRET_WORDS)]
    bare = [value.split()[-1] for value in values if value.split()]  # without the scheme of an Authorization
    return tuple(sorted({*values, *bare}, key=len, reverse=True))
