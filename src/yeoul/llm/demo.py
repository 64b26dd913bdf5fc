"""A provider without a model and without a network: to try everything out, and to test everything else.

The same prompt always gets the same answer, in the prompt's language (Korean where it has Hangul, else English). Each
answer says that it is a demo.

The model name asks for a behaviour:

=============== =======================================================================
`demo-1`        an answer at the provider's pace
`demo-fast`     an answer as fast as it is read
`demo-slow`     an answer at a tenth of the pace
`demo-fail`     some tokens, then an error, as a model server that crashes
`demo-cut`      some tokens, then the end without a terminal marker, as a lost connection
`demo-stall`    some tokens, then nothing any more, until the stream is closed
`demo-refuse`   refused with status 429 before the first token
`demo-parts`    reasoning, a tool call with its result, a source, then the answer
=============== =======================================================================

Any other name is refused with status 404.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..documents.questions import keywords, snippet
from ..documents.words import has_hangul
from ..errors import UpstreamError, UpstreamRefused
from .items import Delta, Finish, Item, Reasoning, SourceUrl, Step, ToolCall, ToolResult, Usage
from .provider import Prompt

__all__ = ["Demo"]


@dataclass(frozen=True, slots=True)
class _Behaviour:
    """`pace` multiplies the provider's; after `_TOKENS_BEFORE_TROUBLE` tokens comes the trouble. `parts`: the
    answer has more than text."""

    pace: float = 1.0
    parts: bool = False
    trouble: Literal["fail", "cut", "stall", "refuse"] | None = None


_BEHAVIOURS = {
    "demo-1": _Behaviour(),
    "demo-fast": _Behaviour(pace=0),
    "demo-slow": _Behaviour(pace=10),
    "demo-fail": _Behaviour(trouble="fail"),
    "demo-cut": _Behaviour(trouble="cut"),
    "demo-stall": _Behaviour(trouble="stall"),
    "demo-refuse": _Behaviour(trouble="refuse"),
    "demo-parts": _Behaviour(parts=True),
}

_TOKENS_BEFORE_TROUBLE = 8

_CALL = "demo-call-1"
_BEFORE_TEXT: Sequence[Item] = (
    *map(Reasoning, ("The demo provider", " does not think,", " it shows", " where a model's reasoning", " appears.")),
    ToolCall(_CALL, "lookup", '{"word":'),
    ToolCall(_CALL, arguments=' "여울"}', done=True),
    ToolResult(_CALL, {"meaning": "rapids: where a stream runs fast over shallow ground"}),
    Step(),
    SourceUrl("https://html.spec.whatwg.org/multipage/server-sent-events.html", "Server-sent events"),
)
_QUOTED_WORDS = 6
_QUOTED_CHARS = 60
_EXAMPLES = 3  # of a list whose shape names no number

# Pieces of words, each with the space before it, as tokenizers cut them. A line break is a token of its own.
_TOKEN = re.compile(r"\n+|[^\S\n]*[^\W_]{1,3}|[^\S\n]*[^\s]|[^\S\n]+")

_KOREAN = (
    "{quote}에 대한 데모 답변입니다 🌊 "
    "이 글은 언어 모델이 아니라 데모 공급자가 미리 정해 둔 문장으로 만들었습니다. "
    "실제 모델처럼 토큰이 하나씩 도착하므로, 연결을 끊었다가 다시 이어도 빠지거나 겹치는 글자가 없어야 합니다.\n\n"
    "진짜 답변을 받으려면 OPENAI_API_KEY 또는 HF_TOKEN을 설정하고 서버를 다시 시작하세요. "
    "그때까지는 이 데모로 화면과 스트림을 마음껏 시험해 보세요!"
)
_ENGLISH = (
    "This is a demo answer to {quote} 🌊 "
    "No language model wrote it: the demo provider puts together sentences that were fixed beforehand. "
    "Its tokens arrive one by one, as a real model's do, so you can drop the connection and come back to it without "
    "losing or repeating a character.\n\n"
    "For real answers set OPENAI_API_KEY or HF_TOKEN and start the server again. "
    "Until then, try the page and the stream with this one as much as you like!"
)
_NOTHING_ASKED = {_KOREAN: "빈 질문", _ENGLISH: "an empty question"}

# To a prompt with numbered passages, as `apps/answers/ask.py` writes it.
_CITED_KOREAN = (
    "{quote}에 대한 데모 답변입니다 🌊 언어 모델이 아니라 데모 공급자가 찾은 글을 그대로 옮깁니다.\n\n{cited}\n\n"
    "진짜 답변을 받으려면 OPENAI_API_KEY 또는 HF_TOKEN을 설정하고 서버를 다시 시작하세요."
)
_CITED_ENGLISH = (
    "This is a demo answer to {quote} 🌊 No language model wrote it: the demo provider quotes what was found.\n\n"
    "{cited}\n\nFor real answers set OPENAI_API_KEY or HF_TOKEN and start the server again."
)
_CITATIONS = 3


class Demo:
    """The provider `demo`. `pace` is seconds per token; 0 is as fast as the answer is read."""

    name = "demo"
    model = "demo-1"
    models = tuple(_BEHAVIOURS)

    def __init__(self, pace: float = 0.03) -> None:
        if not pace >= 0:
            raise ValueError(f"invalid pace {pace!r}: give seconds per token, 0 or more")
        self._pace = pace

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Item, None]:
        """See `Provider.stream`.

        Raises UpstreamRefused for `demo-refuse` and unknown models, UpstreamError in mid-stream for `demo-fail`.
        """
        behaviour = _behaviour(prompt.model or self.model)
        tokens = _TOKEN.findall(_answer(prompt))
        stop = len(tokens) if prompt.max_tokens is None else prompt.max_tokens
        for item in _BEFORE_TEXT if behaviour.parts else ():
            await asyncio.sleep(self._pace)
            yield item
        for index, token in enumerate(tokens[:stop]):
            if behaviour.trouble is not None and index == _TOKENS_BEFORE_TROUBLE:
                await _trouble(behaviour)
                return
            # Even at pace 0: a stream that never waits would keep every other task from running.
            await asyncio.sleep(self._pace * behaviour.pace)
            yield Delta(token)
        asked = sum(len(_TOKEN.findall(message.content)) for message in prompt.messages)
        written = min(stop, len(tokens))
        yield Finish("length" if stop < len(tokens) else "stop", Usage(asked, written))

    async def close(self) -> None:
        """There is nothing to close."""


def _behaviour(model: str) -> _Behaviour:
    behaviour = _BEHAVIOURS.get(model)
    if behaviour is None:
        known = ", ".join(_BEHAVIOURS)
        raise UpstreamRefused(f"demo has no model {model[:80]!r}: use one of {known}", status=404)
    if behaviour.trouble == "refuse":
        raise UpstreamRefused("demo answered 429 Too Many Requests, because demo-refuse was asked for", status=429)
    return behaviour


async def _trouble(behaviour: _Behaviour) -> None:
    if behaviour.trouble == "fail":
        raise UpstreamError("demo reported an error in mid-stream, because demo-fail was asked for")
    if behaviour.trouble == "stall":
        await asyncio.get_running_loop().create_future()


def _answer(prompt: Prompt) -> str:
    if prompt.schema is not None:
        return json.dumps(_example(prompt.schema.shape, "demo"), ensure_ascii=False, indent=2)
    asked = next((message.content for message in reversed(prompt.messages) if message.role == "user"), "")
    cited = _cited(asked)
    if cited:
        return cited
    template = _KOREAN if any(has_hangul(message.content) for message in prompt.messages) else _ENGLISH
    return template.format(quote=_quote(_said(asked)) or _NOTHING_ASKED[template])


def _said(asked: str) -> str:
    """What the user wrote: the texts in it, where an app passes them on as JSON."""
    try:
        data = json.loads(asked)
    except (ValueError, RecursionError):
        return asked
    if not isinstance(data, dict):
        return asked
    values = [entry for value in data.values() for entry in (value if isinstance(value, list) else [value])]
    return ", ".join(value for value in values if isinstance(value, str))


def _cited(asked: str) -> str | None:
    """The passages in the prompt, quoted around the words of its question; None where it has none."""
    try:
        data = json.loads(asked)
        question, passages = str(data["question"]), [(int(each["n"]), str(each["text"])) for each in data["passages"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    words = keywords(question)
    quotes = [f"“{snippet(text, words)}” [{n}]" for n, text in passages[:_CITATIONS]]
    template = _CITED_KOREAN if has_hangul(question) else _CITED_ENGLISH
    return template.format(quote=_quote(question), cited="\n".join(quotes))


def _example(shape: Mapping[str, Any], name: str, number: int = 1) -> Any:
    """A value that fits the shape and says that it is made up: texts are the properties' own descriptions."""
    match shape.get("type"):
        case "object":
            return {key: _example(part, key, number) for key, part in shape.get("properties", {}).items()}
        case "array":
            count = shape.get("minItems", _EXAMPLES)
            return [_example(shape.get("items", {}), name, at) for at in range(1, count + 1)]
        case "integer" | "number":
            return number
        case "boolean":
            return True
    return f"[demo {number}] {shape.get('description', name)}"


def _quote(text: str) -> str:
    """Its first words in quotation marks, "" where it has none."""
    words = text.split()
    start = " ".join(words[:_QUOTED_WORDS])[:_QUOTED_CHARS]
    if not start:
        return ""
    return f"“{start}{'…' if len(words) > _QUOTED_WORDS or len(' '.join(words)) > len(start) else ''}”"
