"""OpenAI's two streaming APIs, spoken over plain HTTP: Chat Completions and Responses.

`OpenAIChat` is for every server with an OpenAI-compatible `/chat/completions`: OpenAI, Azure, the Hugging Face router,
vLLM, Ollama, llama.cpp, LiteLLM. `OpenAIResponses` is for OpenAI's `/responses`. The SDK is not used: parsing a token
with it costs several times what the rest of its way to the browser does.

What a stream means is decided by a parser (`parser`), which form of a request an upstream takes by a variant
(`variant`); both are pure. The adapters here ask, and move what comes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from ..client import EventStream, Timeouts, new_session, open_stream
from ..client.refusal import readable
from ..errors import UpstreamCut, UpstreamRefused, UpstreamTimeout
from ..observe import logger
from ..stream.retry import RetryPolicy
from .items import Item, Piece
from .parser import AnswerParser, ChatParser, ResponsesParser
from .provider import Message, Prompt, Schema
from .variant import JsonMode, Variant

__all__ = ["HUGGINGFACE_URL", "MODEL_TIMEOUTS", "OPENAI_URL", "OpenAIChat", "OpenAIResponses", "Options"]

OPENAI_URL = "https://api.openai.com/v1"
HUGGINGFACE_URL = "https://router.huggingface.co/v1"

# A model may read a long prompt, or think, for minutes before its first token. Comments keep a connection open, but say
# nothing about the model behind it.
MODEL_TIMEOUTS = Timeouts(first_event=180.0, comments_count=False)

# How long the rest of an answer is waited for, in seconds, once its end is proven: the usage, the end marker. A server
# that keeps the connection open and sends neither must not hold the reader for the idle time-out.
_TRAILER_SECONDS = 5.0

# How long the end of the HTTP body may take after the end marker: worth a TLS handshake that is saved, not more.
_DRAIN_SECONDS = 0.1

# Header names with one of these in them carry secrets.
_SECRET_WORDS = ("key", "token", "auth", "secret", "cookie", "password")

# RFC 9110, 5.6.2.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# What the bound on the answer's length is called, by host, where it is not `max_tokens`.
_MAX_TOKENS_FIELDS = {"api.openai.com": "max_completion_tokens"}

# Models of one upstream whose variants are remembered.
_MAX_VARIANTS = 256

_RETRY = RetryPolicy()


class Options(TypedDict, total=False):
    """What both adapters take, beside `name` and `model`.

    `base_url` may have a query (`?api-version=…`), which is sent with each request. `headers` are sent beside our own,
    and instead of those of the same name. `models`: other models that requests may name (`Provider.models`).
    `make_session` is called in the running loop; the adapter closes the session that it makes.
    """

    base_url: str
    api_key: str | None
    headers: Mapping[str, str] | None
    models: Sequence[str]
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
        variant: Variant,
        base_url: str = OPENAI_URL,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        models: Sequence[str] = (),
        timeouts: Timeouts = MODEL_TIMEOUTS,
        retry: RetryPolicy = _RETRY,
        make_session: Callable[[], aiohttp.ClientSession] = new_session,
    ) -> None:
        """Raises ValueError for an invalid base URL or one with a password, and for a key that no header can carry."""
        self.name = name
        self.model = model
        self.models = (model, *(other for other in models if other != model))
        url = _checked_url(base_url)
        self.base_url = str(url.with_query(None))
        path = url.raw_path.rstrip("/") + self._path
        self._url = str(url.with_path(path, encoded=True, keep_query=True))
        self._headers = _headers(api_key, headers)
        self._secrets = _secrets(self._headers, url)
        self._timeouts = timeouts
        self._retry = retry
        self._make_session = make_session
        self._session: aiohttp.ClientSession | None = None
        self._streams: set[EventStream] = set()
        self._closed = False
        self._variant = variant
        self._variants: dict[str, Variant] = {}  # by model, where it is not the usual one
        self._failed_formats: set[str] = set()  # models that failed with a response format once

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} at {self.base_url}, model {self.model!r}>"

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Item, None]:
        """See `Provider.stream`.

        Raises UpstreamRefused, UpstreamTimeout, UpstreamGarbage, UpstreamCut (also where the stream ends cleanly but
        without proof that the answer is finished), and UpstreamError for an error that the server reports in
        mid-stream.
        """
        parser = self._parser()
        async with AsyncExitStack() as stack:
            events = await self._open(prompt, stack)
            self._streams.add(events)
            clean = False
            try:
                async for batch in events:
                    alive = False
                    for event in batch:
                        for piece in parser.feed(event):
                            alive = True
                            yield piece
                    if (parser.unusual or events.ignored) and self._after_batch(events, parser, alive):
                        break
                else:
                    clean = events.framed
                    for piece in _feed_end(events, parser):
                        yield piece
            except (UpstreamCut, UpstreamTimeout):
                if not parser.proven:
                    raise
            finally:
                self._streams.discard(events)
            for piece in parser.rest():
                yield piece
            broken = parser.needs_body_end and not clean and await events.drain(_TRAILER_SECONDS)
            yield parser.finish(clean=clean, broken=broken)
            await events.drain(_DRAIN_SECONDS)

    def _after_batch(self, events: EventStream, parser: AnswerParser, alive: bool) -> bool:
        """What is to be done after events that were not only usual texts. `alive`: they had a piece of the answer.
        Returns whether the end marker has come."""
        if events.ignored:
            parser.feed_ignored(events.ignored)
            events.ignored.clear()
        if parser.over:
            return True
        if not (alive or parser.alive):
            events.keep_waiting()
        parser.unusual = parser.alive = False
        events.idle = _shorter(self._timeouts.idle) if parser.proven else self._timeouts.idle
        return False

    async def _open(self, prompt: Prompt, stack: AsyncExitStack) -> EventStream:
        """The response to this prompt, in the first form that the upstream takes."""
        model = prompt.model or self.model
        variant = known = self._variants.get(model, self._variant)
        failed = False
        while True:
            body = self._body(prompt, variant)
            try:
                events = await stack.enter_async_context(self._request(body, variant if prompt.schema else None))
            except UpstreamRefused as refusal:
                optional = [name for name in self._optional if name in body]
                following = variant.after(refusal, optional, schema=prompt.schema is not None)
                if following is None:
                    raise self._explained(refusal) from refusal.__cause__
                variant, failed = following, failed or refusal.status == 500
            else:
                if variant != known:
                    self._remember(model, variant, doubtful=failed)
                return events

    def _remember(self, model: str, variant: Variant, *, doubtful: bool) -> None:
        """`doubtful`: the upstream did not refuse the other form, but failed. It may have failed of something else, so
        that is believed the second time."""
        if doubtful and model not in self._failed_formats and len(self._failed_formats) < _MAX_VARIANTS:
            self._failed_formats.add(model)
            return
        if len(self._variants) < _MAX_VARIANTS:
            self._variants[model] = variant
            logger.info("%s takes requests for %s in another form, used from now on: %s", self.name, model, variant)

    def _request(self, body: dict[str, Any], schema: Variant | None) -> AbstractAsyncContextManager[EventStream]:
        retry = self._retry
        if schema is not None and schema.json is not JsonMode.NONE:
            # It may fail because of the format: the next attempt is one without it.
            retry = replace(retry, statuses=retry.statuses - {500})
        return open_stream(
            self._pool(),
            "POST",
            self._url,
            name=self.name,
            headers=self._headers,
            body=msgspec.json.encode(body),
            timeouts=self._timeouts,
            retry=retry,
            secrets=self._secrets,
            documents=True,
        )

    def _explained(self, refusal: UpstreamRefused) -> UpstreamRefused:
        """The refusal, with what an operator may try."""
        return refusal

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

    @property
    @abstractmethod
    def _optional(self) -> Sequence[str]:
        """Fields of a request that may be left out, or go by another name."""

    @abstractmethod
    def _parser(self) -> AnswerParser: ...

    @abstractmethod
    def _body(self, prompt: Prompt, variant: Variant) -> dict[str, Any]: ...


class OpenAIChat(_Adapter):
    """`POST {base_url}/chat/completions`: OpenAI's, and that of every server that imitates it.

    `include_usage=False` leaves out `stream_options`. `max_tokens_field` is what the prompt's bound is called: OpenAI's
    newer models refuse `max_tokens`, most other servers know only that; None goes by the base URL's host. Where the
    upstream refuses a request with 400 or 422 and names one of these fields, another form is tried and remembered.
    """

    takes_chat = True
    _path = "/chat/completions"
    _optional = ("stream_options", "max_tokens", "max_completion_tokens", "temperature")

    def __init__(
        self,
        *,
        model: str,
        name: str = "openai-chat",
        include_usage: bool = True,
        max_tokens_field: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        host = _checked_url(options.get("base_url", OPENAI_URL)).host or ""
        variant = Variant(
            max_tokens_field=max_tokens_field or _MAX_TOKENS_FIELDS.get(host, "max_tokens"),
            without=frozenset() if include_usage else frozenset({"stream_options"}),
        )
        super().__init__(name=name, model=model, variant=variant, **options)

    def _parser(self) -> ChatParser:
        return ChatParser(self.name, self._readable)

    def _body(self, prompt: Prompt, variant: Variant) -> dict[str, Any]:
        return _sent(
            {
                **prompt.options,
                "model": prompt.model or self.model,
                "messages": prompt.chat or [_turn(message) for message in prompt.messages],
                "stream": True,
                "stream_options": {"include_usage": True},
                variant.max_tokens_field: prompt.max_tokens,
                "temperature": prompt.temperature,
                **_given(response_format=_response_format(prompt.schema, variant.json)),
            },
            variant,
        )


class OpenAIResponses(_Adapter):
    """`POST {base_url}/responses`. System messages become its `instructions`; nothing is stored at OpenAI."""

    _path = "/responses"
    _optional = ("temperature",)

    def __init__(self, *, model: str, name: str = "openai", **options: Unpack[Options]) -> None:
        super().__init__(name=name, model=model, variant=Variant(max_tokens_field="max_output_tokens"), **options)

    def _parser(self) -> ResponsesParser:
        return ResponsesParser(self.name, self._readable)

    def _explained(self, refusal: UpstreamRefused) -> UpstreamRefused:
        if refusal.status in (404, 405) and "model" not in refusal.body.decode(errors="replace").lower():
            refusal.detail += "; a server without OpenAI's Responses API is of the kind `openai-chat`"
        return refusal

    def _body(self, prompt: Prompt, variant: Variant) -> dict[str, Any]:
        system = [message.content for message in prompt.messages if message.role == "system"]
        return _sent(
            {
                "model": prompt.model or self.model,
                "instructions": "\n\n".join(system) or None,
                "input": [_turn(message) for message in prompt.messages if message.role != "system"],
                "stream": True,
                "store": False,
                variant.max_tokens_field: prompt.max_tokens,
                "temperature": prompt.temperature,
                "text": _text_format(prompt.schema, variant.json),
            },
            variant,
        )


def _feed_end(events: EventStream, parser: AnswerParser) -> Sequence[Piece]:
    """The pieces in what stands at the end of a body that was received whole."""
    parser.feed_ignored(events.ignored)
    pieces = () if events.unterminated is None else parser.feed_unterminated(events.unterminated)
    if events.document:
        parser.end_document()
    return pieces


def _shorter(idle: float | None) -> float:
    return _TRAILER_SECONDS if idle is None else min(idle, _TRAILER_SECONDS)


def _response_format(schema: Schema | None, mode: JsonMode) -> dict[str, Any] | None:
    if schema is None or mode is JsonMode.NONE:
        return None
    if mode is JsonMode.OBJECT:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": _strict(schema)}


def _text_format(schema: Schema | None, mode: JsonMode) -> dict[str, Any] | None:
    if schema is None or mode is JsonMode.NONE:
        return None
    if mode is JsonMode.OBJECT:
        return {"format": {"type": "json_object"}}
    return {"format": {"type": "json_schema", **_strict(schema)}}


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _strict(schema: Schema) -> dict[str, Any]:
    return {"name": schema.name, "schema": schema.shape, "strict": True}


def _turn(message: Message) -> dict[str, str]:
    return {"role": message.role, "content": message.content}


def _sent(body: dict[str, Any], variant: Variant) -> dict[str, Any]:
    # A field that is null is not the same as none: some servers refuse it.
    return {field: value for field, value in body.items() if value is not None and field not in variant.without}


def _checked_url(base_url: str) -> URL:
    """Raises ValueError, without showing the URL: it may hold a secret."""
    try:
        url = URL(base_url.strip().rstrip("/"))
    except ValueError:
        url = URL()
    if url.user is not None or url.password is not None:
        raise ValueError("a base URL must not hold a user name or password: give the key as api_key or in headers")
    if url.scheme not in ("http", "https") or not url.host or url.fragment:
        raise ValueError(f"invalid base URL: it needs http or https, a host, and no fragment, as in {OPENAI_URL}")
    return url


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
    for name, value in (extra or {}).items():
        if not (_HEADER_NAME.fullmatch(name) and value.isascii() and value.isprintable()):
            raise ValueError(f"the header {name[:40]!r} of a model server has characters that a header cannot carry")
        headers[name] = value
    return headers


def _secrets(headers: Mapping[str, str], url: URL) -> tuple[str, ...]:
    """What no message may show, longest first, so that no part of one is left."""
    fields = [*headers.items(), *url.query.items()]
    values = [value for name, value in fields if any(word in name.lower() for word in _SECRET_WORDS)]
    bare = [value.split()[-1] for value in values if value.split()]  # without the scheme of an Authorization
    return tuple(sorted({*values, *bare}, key=len, reverse=True))
