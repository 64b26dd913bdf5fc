"""What every Provider keeps to, whatever is behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from support.upstream import Answer, Exchange, Refusal, Script, Upstream, complete, eof, error, stall
from yeoul.errors import UpstreamError, UpstreamRefused
from yeoul.llm.demo import Demo
from yeoul.llm.items import Delta, Finish, Usage
from yeoul.llm.openai import OpenAIChat, OpenAIResponses
from yeoul.llm.provider import Message, Prompt, Provider
from yeoul.stream import RetryPolicy

BEHAVIOURS: dict[str, Script] = {
    "answer": Answer(),
    "length": Answer(ending=complete(reason="length")),
    "cut": Answer(ending=eof),
    "stall": Answer(ending=stall),
    "fail": Answer(ending=error("overloaded")),
    "refuse": Refusal(429),
}


@dataclass
class Case:
    """A provider that behaves as asked; `upstream` where there is one."""

    provider: Any
    prompt: Prompt
    upstream: Upstream | None = None

    def stream(self) -> Any:
        return self.provider.stream(self.prompt)


Factory = Callable[[str], AbstractAsyncContextManager[Case]]


@asynccontextmanager
async def demo(behaviour: str) -> AsyncIterator[Case]:
    model = "demo-fast" if behaviour in ("answer", "length") else f"demo-{behaviour}"
    provider = Demo(pace=0)
    yield Case(provider, _prompt(model=model, max_tokens=5 if behaviour == "length" else None))
    await provider.close()


def scripted(kind: type[OpenAIChat] | type[OpenAIResponses]) -> Factory:
    @asynccontextmanager
    async def make(behaviour: str) -> AsyncIterator[Case]:
        async with Upstream(BEHAVIOURS[behaviour]) as upstream:
            provider = kind(model="m", base_url=upstream.base_url, retry=RetryPolicy(attempts=1))
            yield Case(provider, _prompt(), upstream)
            await provider.close()

    return make


def _prompt(**options: Any) -> Prompt:
    return Prompt([Message("system", "Be brief."), Message("user", "양파로 무엇을 만들까요?")], **options)


async def _collect(case: Case, parts: list[Any]) -> None:
    async for part in case.stream():
        parts.append(part)  # noqa: PERF401  (what came before an error is the point)


every_provider = pytest.mark.parametrize(
    "factory", [demo, scripted(OpenAIChat), scripted(OpenAIResponses)], ids=["demo", "chat", "responses"]
)
every_upstream = pytest.mark.parametrize("kind", [OpenAIChat, OpenAIResponses])


@every_provider
async def test_it_has_a_name_and_a_default_model(factory: Factory) -> None:
    async with factory("answer") as case:
        provider: Provider = case.provider
        assert provider.name
        assert provider.model


@every_provider
@pytest.mark.parametrize("behaviour", ["answer", "length"])
async def test_an_answer_is_texts_that_are_not_empty_and_then_one_finish(factory: Factory, behaviour: str) -> None:
    async with factory(behaviour) as case:
        *deltas, finish = [part async for part in case.stream()]
    assert deltas
    assert all(isinstance(part, Delta) and part.text for part in deltas)
    assert isinstance(finish, Finish)
    assert finish.reason == ("stop" if behaviour == "answer" else "length")
    assert finish.usage is not None
    assert finish.usage == Usage(finish.usage.input_tokens, len(deltas))
    assert finish.usage.input_tokens > 0


@every_provider
async def test_answers_do_not_mix(factory: Factory) -> None:
    async def text() -> str:
        return "".join([part.text async for part in case.stream() if isinstance(part, Delta)])

    async with factory("answer") as case:
        assert len(set(await asyncio.gather(*(text() for _ in range(20))))) == 1


@every_provider
async def test_an_answer_that_is_cut_off_has_no_finish(factory: Factory) -> None:
    parts: list[Any] = []
    async with factory("cut") as case:
        # Told as an error or not: both mean that it is incomplete.
        with suppress(UpstreamError):
            await _collect(case, parts)
    assert parts
    assert all(isinstance(part, Delta) for part in parts)


@every_provider
async def test_an_error_in_mid_stream_comes_after_the_text_before_it(factory: Factory) -> None:
    parts: list[Any] = []
    async with factory("fail") as case:
        with pytest.raises(UpstreamError, match=r"error in mid-stream"):
            await _collect(case, parts)
    assert parts
    assert all(isinstance(part, Delta) for part in parts)


@every_provider
async def test_a_refusal_comes_before_the_first_text_with_its_status(factory: Factory) -> None:
    async with factory("refuse") as case:
        with pytest.raises(UpstreamRefused) as caught:
            await anext(case.stream())
    assert caught.value.status == 429


@every_provider
async def test_nothing_happens_before_the_first_text_is_asked_for(factory: Factory) -> None:
    async with factory("refuse") as case:
        await case.stream().aclose()
        assert case.upstream is None or not case.upstream.requests


@every_provider
async def test_cancelling_a_silent_stream_ends_it_and_its_request_at_once(factory: Factory) -> None:
    async def read() -> None:
        async for part in case.stream():
            parts.append(part)
            begun.set()

    parts: list[Any] = []
    begun = asyncio.Event()
    async with factory("stall") as case:
        task = asyncio.create_task(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)
        if case.upstream is not None:
            await asyncio.wait_for(case.upstream.requests[0].closed.wait(), 30)


@every_provider
async def test_closing_the_generator_ends_the_request_at_once(factory: Factory) -> None:
    async with factory("stall") as case:
        async with aclosing(case.stream()) as parts:
            await anext(parts)
        if case.upstream is not None:
            await asyncio.wait_for(case.upstream.requests[0].closed.wait(), 30)


@every_upstream
async def test_cancelling_before_the_first_byte_ends_the_request_at_once(kind: Any) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.request.closed.wait()

    async with Upstream(silent) as upstream:
        provider = kind(model="m", base_url=upstream.base_url)
        task = asyncio.ensure_future(anext(provider.stream(_prompt())))
        request = await upstream.request()
        task.cancel()
        await asyncio.wait_for(request.closed.wait(), 30)
        with pytest.raises(asyncio.CancelledError):
            await task
        await provider.close()


@every_provider
async def test_it_can_be_closed_twice(factory: Factory) -> None:
    async with factory("answer") as case:
        await case.provider.close()
        await case.provider.close()
