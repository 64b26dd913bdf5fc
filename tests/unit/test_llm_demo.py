"""The demo provider: its answers, its pace, and the troubles that can be asked for."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest

from yeoul.errors import UpstreamError, UpstreamRefused
from yeoul.llm.demo import Demo
from yeoul.llm.items import Delta, Finish, Reasoning, SourceUrl, Step, ToolCall, ToolResult
from yeoul.llm.provider import Message, Prompt

TROUBLES = ("demo-fail", "demo-cut", "demo-stall")


def ask(text: str, **options: object) -> Prompt:
    return Prompt([Message("system", "Be brief."), Message("user", text)], **options)  # type: ignore[arg-type]


async def answer(prompt: Prompt) -> tuple[list[str], Finish | None]:
    parts = [part async for part in Demo(pace=0).stream(prompt)]
    texts = [part.text for part in parts if isinstance(part, Delta)]
    return texts, next((part for part in parts if isinstance(part, Finish)), None)


async def test_the_answer_quotes_the_request_and_says_that_it_is_a_demo() -> None:
    texts, finish = await answer(ask("How do I cook\npotatoes?"))
    text = "".join(texts)
    assert "“How do I cook potatoes?”" in text
    assert "demo" in text
    assert "OPENAI_API_KEY or HF_TOKEN" in text
    assert text.count("\n\n") == 1
    assert "🌊" in texts[texts.index(" 🌊")]
    assert finish is not None
    assert finish.reason == "stop"


async def test_hangul_is_answered_in_korean() -> None:
    texts, _ = await answer(ask("양파와 감자로 만들 수 있는 한식을 여러 가지 알려 주세요"))
    text = "".join(texts)
    assert text.startswith("“양파와 감자로 만들 수 있는 한식을…”에 대한 데모 답변입니다")
    assert "OPENAI_API_KEY 또는 HF_TOKEN" in text


async def test_what_an_app_hands_on_as_json_is_quoted_as_people_wrote_it() -> None:
    asked = json.dumps({"ingredients": ["양파", "감자"], "preferences": "한식", "servings": 2}, ensure_ascii=False)
    text = "".join((await answer(ask(asked)))[0])
    assert text.startswith("“양파, 감자, 한식”에 대한")
    assert "“[1, 2]”" in "".join((await answer(ask("[1, 2]")))[0])


async def test_the_last_question_of_a_conversation_is_the_one_quoted() -> None:
    turns = [Message("user", "first"), Message("assistant", "yes"), Message("user", "second {0} {quote}")]
    texts, _ = await answer(Prompt(turns))
    assert "“second {0} {quote}”" in "".join(texts)


@pytest.mark.parametrize("messages", [[], [Message("user", " ")], [Message("system", "Be brief.")]])
async def test_a_prompt_without_a_question_is_answered_too(messages: list[Message]) -> None:
    texts, finish = await answer(Prompt(messages))
    assert "an empty question" in "".join(texts)
    assert finish is not None


async def test_the_same_prompt_has_the_same_answer_in_small_tokens() -> None:
    prompt = ask("안녕하세요")
    first, _ = await answer(prompt)
    assert first == (await answer(prompt))[0]
    assert all(first)
    assert max(map(len, first)) <= 4
    assert len(first) > 50


async def test_one_model_shows_every_kind_of_part_before_its_text() -> None:
    items = [item async for item in Demo(pace=0).stream(ask("hello", model="demo-parts"))]
    kinds = [type(item) for item in items]
    before = kinds[: kinds.index(Delta)]
    assert before == [*[Reasoning] * 5, ToolCall, ToolCall, ToolResult, Step, SourceUrl]
    assert json.loads("".join(item.arguments for item in items if isinstance(item, ToolCall))) == {"word": "여울"}
    assert "".join(item.text for item in items if isinstance(item, Delta)) == "".join((await answer(ask("hello")))[0])


async def test_usage_counts_the_tokens_read_and_written() -> None:
    texts, finish = await answer(Prompt([Message("user", "one two")]))
    assert finish is not None
    assert finish.usage is not None
    assert (finish.usage.input_tokens, finish.usage.output_tokens) == (2, len(texts))


@pytest.mark.parametrize(
    ("question", "start"), [("How to peel?", "This is a demo answer"), ("양파는?", "“양파는?”에 대한 데모 답변")]
)
async def test_numbered_passages_are_quoted_and_cited_in_the_questions_language(question: str, start: str) -> None:
    passages = [{"n": n, "title": "t", "text": f"양파 {n} {{quote}}"} for n in range(1, 6)]
    texts, _ = await answer(ask(json.dumps({"passages": passages, "question": question})))
    text = "".join(texts)
    assert text.startswith(start)
    assert all(f"“양파 {n} {{quote}}” [{n}]" in text for n in (1, 2, 3))
    assert "[4]" not in text
    assert "demo" in text or "데모" in text


@pytest.mark.parametrize(
    "said",
    ["{}", "[]", "7", '{"question": "a"}', '{"passages": 3, "question": "a"}', "[" * 5_000, '{"passages": [{}]}'],
)
async def test_other_json_is_answered_like_any_text(said: str) -> None:
    texts, finish = await answer(ask(said))
    assert "fixed beforehand" in "".join(texts)
    assert finish is not None


@pytest.mark.parametrize("bound", [0, 1, 5])
async def test_max_tokens_cuts_the_answer_and_says_length(bound: int) -> None:
    texts, finish = await answer(ask("hello", max_tokens=bound))
    assert len(texts) == bound
    assert finish is not None
    assert finish.reason == "length"
    assert finish.usage is not None
    assert finish.usage.output_tokens == bound


async def test_a_bound_above_its_length_does_not_cut_the_answer() -> None:
    whole, _ = await answer(ask("hello"))
    texts, finish = await answer(ask("hello", max_tokens=len(whole)))
    assert texts == whole
    assert finish is not None
    assert finish.reason == "stop"


@pytest.mark.parametrize(("pace", "model"), [(0, "demo-1"), (9e9, "demo-fast")])
async def test_without_a_pace_other_tasks_still_run_between_tokens(pace: float, model: str) -> None:
    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turns = 0
    other = asyncio.create_task(count())
    texts = [part async for part in Demo(pace).stream(ask("hello", model=model))]
    other.cancel()
    assert turns >= len(texts) - 1


async def test_the_pace_is_seconds_per_token_and_demo_slow_takes_ten_times_as_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("yeoul.llm.demo.asyncio.sleep", sleep)
    for model, pace in (("demo-1", 0.5), ("demo-slow", 5.0)):
        waits.clear()
        parts = [part async for part in Demo(0.5).stream(ask("hello", model=model))]
        assert waits == [pace] * (len(parts) - 1)


async def test_demo_fail_reports_an_error_after_some_tokens() -> None:
    parts: list[object] = []
    with pytest.raises(UpstreamError, match="demo-fail"):
        await _collect(ask("hello", model="demo-fail"), parts)
    assert len(parts) == 8


async def test_demo_cut_ends_without_a_terminal_marker() -> None:
    texts, finish = await answer(ask("hello", model="demo-cut"))
    assert len(texts) == 8
    assert finish is None


async def test_demo_stall_is_silent_until_it_is_closed() -> None:
    async with aclosing(Demo(0).stream(ask("hello", model="demo-stall"))) as parts:
        for _ in range(8):
            await anext(parts)
        waiting = asyncio.ensure_future(anext(parts))
        done, _ = await asyncio.wait([waiting], timeout=0.02)
        assert not done
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_demo_refuse_refuses_before_the_first_token() -> None:
    with pytest.raises(UpstreamRefused) as caught:
        await answer(ask("hello", model="demo-refuse"))
    assert caught.value.status == 429


async def test_an_unknown_model_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UpstreamRefused, match="gpt-9") as caught:
        await answer(ask("hello", model="gpt-9"))
    assert caught.value.status == 404
    for model in ("demo-1", "demo-fast", "demo-slow", "demo-refuse", *TROUBLES):
        assert model in str(caught.value)


@pytest.mark.parametrize("pace", [-1, float("nan")])
def test_a_pace_below_zero_is_refused(pace: float) -> None:
    with pytest.raises(ValueError, match="seconds per token"):
        Demo(pace)


async def _collect(prompt: Prompt, parts: list[object]) -> None:
    async for part in Demo(0).stream(prompt):
        parts.append(part)  # noqa: PERF401  (what came before the error is the point)
