"""What the events of an answer mean: texts, ends, errors, and when an end is proven. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from yeoul.errors import UpstreamCut, UpstreamError, UpstreamGarbage
from yeoul.llm.items import Delta, Finish, Piece, Reasoning, Refusal, SourceUrl, ToolCall, Usage
from yeoul.llm.parser import AnswerParser, ChatParser, ResponsesParser
from yeoul.sse import Event

DONE = "[DONE]"


def chat() -> ChatParser:
    return ChatParser("model", lambda text, limit: text[:limit])


def responses() -> ResponsesParser:
    return ResponsesParser("model", lambda text, limit: text[:limit])


def chunk(content: Any = None, reason: Any = ..., **delta: Any) -> str:
    """A chunk of a chat: without a reason, it has no member for one."""
    if content is not None:
        delta["content"] = content
    choice: dict[str, Any] = {"index": 0, "delta": delta}
    return json.dumps({"choices": [choice if reason is ... else {**choice, "finish_reason": reason}]})


def read(parser: AnswerParser, *data: str) -> list[str]:
    """The texts in events of this data, without the empty ones."""
    return [text for text in (text_in(parser.feed(Event(each))) for each in data) if text]


def text_in(pieces: Sequence[Piece]) -> str:
    """What there is to read in the pieces."""
    return "".join(piece.text for piece in pieces if isinstance(piece, Delta | Refusal))


def end(parser: AnswerParser, *data: str, clean: bool = True, broken: bool = False) -> Finish | UpstreamError:
    try:
        read(parser, *data)
        return parser.finish(clean=clean, broken=broken)
    except UpstreamError as error:
        return error


# --- texts of a chat

CHAT_DATA: list[tuple[str, str]] = [
    ('{"choices": []}', ""),
    ('{"choices": null, "usage": null}', ""),
    ("{}", ""),
    ("", ""),
    ("  ", ""),
    ("null", ""),
    ('{"choices": [{}]}', ""),
    ('{"choices": [null]}', ""),
    ('{"choices": [{"delta": null, "finish_reason": null}]}', ""),
    ('{"choices": [{"delta": {"role": "assistant", "content": ""}}]}', ""),
    ('{"choices": [{"delta": {"content": null, "tool_calls": []}}]}', ""),
    ('{"choices": [{"delta": {"reasoning_content": "hm"}}]}', ""),
    ('{"choices": [{"delta": {"content": " a", "x": 1}, "y": 2}], "obfuscation": "zz"}', " a"),
    ('{"choices": [{"delta": {"content": "\\ud83c\\udf72"}}], "error": null}', "🍲"),
    ('{"choices": [{"delta": {"refusal": "no"}}]}', "no"),
    ('{"choices": [{"delta": {"content": "a", "refusal": false}, "finish_reason": false}]}', "a"),
    ('{"choices": [{"delta": {"content": "a"}}], "usage": []}', "a"),
    ('{"choices": [{"delta": {"content": "a"}, "logprobs": {"content": [{"logprob": NaN}]}}]}', "a"),
    ('{"choices": [{"delta": {"content": 7}}]}', "7"),
    ('{"choices": [{"delta": {"content": true}}]}', ""),
    ('{"choices": [{"delta": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]}', "ab"),
    ('{"choices": [{"delta": {"content": [{"type": "thinking", "thinking": "hm"}, "a"]}}]}', "a"),
    ('{"choices": [{"delta": {"content": "a\tb"}}]}', "a\tb"),
    ('{"choices": [{"index": 1, "delta": {"content": "other"}}]}', ""),
    ('{"choices": [{"index": 1, "delta": {"content": "x"}}, {"index": 0, "delta": {"content": "a"}}]}', "a"),
    ('{"choices": [{"index": null, "delta": {"content": "a"}}]}', "a"),
    ('{"choices": [{"text": "a", "index": 0}]}', "a"),
    ('{"choices": [{"message": {"role": "assistant", "content": "a"}}]}', "a"),
    ('{"id": 7, "created": "x", "model": null, "choices": [{"delta": {"content": "a"}}]}', "a"),
    ('{"type": "ping"}', ""),
    ('{"status": "queued", "message": "position 3"}', ""),
]


@pytest.mark.parametrize(("data", "text"), CHAT_DATA)
def test_chat_chunks_of_every_kind_are_read(data: str, text: str) -> None:
    parser = chat()
    assert text_in(parser.feed(Event(data))) == text
    assert not parser.over
    assert not parser.proven


@pytest.mark.parametrize(
    ("halves", "texts"),
    [
        (["A\ud83d", "\ude00B"], ["A", "😀B"]),
        (["A\ud83d", "B"], ["A", "\ufffdB"]),
        (["\ude00B"], ["\ufffdB"]),
        (["A\ud83d", "\ud83d", "\ude00"], ["A", "\ufffd", "😀"]),
        (["\ud83d", "\ude00", "a", "b"], ["😀", "a", "b"]),
        (["A\ud83dB"], ["A\ufffdB"]),
    ],
)
def test_a_character_that_is_cut_in_two_is_put_together(halves: Sequence[str], texts: Sequence[str]) -> None:
    # json.dumps writes lone surrogates as `\ud83d`, as the servers do that cut characters.
    parser = chat()
    assert read(parser, *(chunk(half) for half in halves)) == texts
    assert parser.rest() == ()
    parser = responses()
    deltas = [json.dumps({"type": "response.output_text.delta", "delta": half}) for half in halves]
    assert read(parser, *deltas) == texts


def test_half_a_character_at_the_end_is_replaced() -> None:
    parser = chat()
    assert read(parser, chunk("A\ud83d"), chunk(reason="stop"), DONE) == ["A"]
    assert parser.rest() == (Delta("\ufffd"),)
    assert parser.rest() == ()


@pytest.mark.parametrize(
    ("messages", "texts"),
    [
        (["He", "llo", " you"], ["He", "llo", " you"]),  # pieces
        (["He", "Hello", "Hello you"], ["He", "llo", " you"]),  # all so far, each time
    ],
)
def test_whole_messages_are_read_as_pieces_or_as_all_so_far(messages: Sequence[str], texts: Sequence[str]) -> None:
    parser = chat()
    data = [json.dumps({"choices": [{"message": {"content": text}}]}) for text in messages]
    last = json.dumps({"choices": [{"message": {"content": messages[-1]}, "finish_reason": "stop"}]})
    assert read(parser, *data) == texts
    if messages[-1].startswith(messages[0]):
        assert read(parser, last) == [], "repeated with the reason"


def test_a_message_that_repeats_all_deltas_at_the_end_is_not_read_twice() -> None:
    whole = json.dumps({"choices": [{"delta": {}, "message": {"content": "abc"}, "finish_reason": "stop"}]})
    parser = chat()
    assert read(parser, chunk("a"), chunk("b"), whole) == ["a", "b", "c"]
    assert parser.finish(clean=True) == Finish("stop")


# --- ends of a chat


@pytest.mark.parametrize("clean", [True, False])
def test_a_reason_after_the_text_proves_the_end(clean: bool) -> None:
    parser = chat()
    assert end(parser, chunk("a", None), chunk(reason="stop"), clean=clean, broken=not clean) == Finish("stop")
    assert parser.proven


@pytest.mark.parametrize("ending", [DONE, f" {DONE} ", f"{DONE}\t"])
def test_done_ends_a_chat_whose_chunks_have_no_member_for_a_reason(ending: str) -> None:
    parser = chat()
    assert end(parser, chunk("a"), ending) == Finish("stop")
    assert parser.over
    assert read(parser, chunk("b"), "anything") == [], "nothing after the marker is looked at"


@pytest.mark.parametrize("none", [None, "null", "", False])
def test_done_without_the_reason_that_was_promised_is_no_proof(none: Any) -> None:
    failure = end(chat(), chunk("a", none), chunk("b", none), DONE)
    assert isinstance(failure, UpstreamCut)
    assert "promised" in failure.detail


def test_done_is_no_proof_where_the_body_breaks_off_after_it() -> None:
    parser = chat()
    failure = end(parser, chunk("a"), DONE, clean=False, broken=True)
    assert isinstance(failure, UpstreamCut)
    assert parser.needs_body_end
    assert end(chat(), chunk("a", None), chunk(reason="stop"), DONE, clean=False, broken=True) == Finish("stop")


@pytest.mark.parametrize("data", [[], ['{"choices": []}'], [chunk(role="assistant")], ['{"token": {"text": "a"}}']])
def test_done_alone_is_not_an_answer(data: Sequence[str]) -> None:
    assert isinstance(end(chat(), *data, DONE), UpstreamGarbage)


def test_an_answer_whose_text_cannot_be_read_is_not_done_whatever_its_reason() -> None:
    failure = end(chat(), chunk(output="hello", reason=None), chunk(reason="stop"), DONE)
    assert isinstance(failure, UpstreamGarbage)
    assert "hello" in failure.detail


def test_an_empty_answer_with_a_reason_is_done() -> None:
    assert end(chat(), chunk("", None), chunk(reason="stop"), DONE) == Finish("stop")
    assert end(chat(), chunk(None, None, reasoning="hm"), chunk(reason="length"), DONE) == Finish("length")


def test_no_marker_is_no_end() -> None:
    assert isinstance(end(chat(), chunk("a")), UpstreamCut)
    assert isinstance(end(chat()), UpstreamCut)


def test_a_reason_with_every_chunk_is_proven_only_by_done_or_a_clean_end() -> None:
    every = [chunk("a", "stop"), chunk("b", "stop")]
    assert isinstance(end(chat(), *every, clean=False, broken=True), UpstreamCut)
    assert isinstance(end(chat(), *every, chunk(reason="stop"), clean=False, broken=True), UpstreamCut)
    assert end(chat(), *every, DONE, clean=False, broken=True) == Finish("stop")
    assert end(chat(), *every, clean=True) == Finish("stop")
    assert isinstance(end(chat(), chunk("a", "stop"), chunk("", "stop"), clean=False, broken=True), UpstreamCut)
    assert end(chat(), chunk("a", "stop"), chunk("", "stop"), DONE, clean=False, broken=True) == Finish("stop")


def test_a_reason_that_is_followed_by_more_is_forgotten() -> None:
    parser = chat()
    read(parser, chunk("a", None), chunk(reason="length"))
    assert parser.proven
    assert read(parser, chunk("b", None)) == ["b"]
    assert not parser.proven
    assert isinstance(end(parser, DONE), UpstreamCut)


def test_a_reason_before_any_text_proves_nothing() -> None:
    parser = chat()
    read(parser, chunk("", "stop", role="assistant"))
    assert not parser.proven


@pytest.mark.parametrize(
    ("reason", "read_as"),
    [("eos", "stop"), ("END_TURN", "stop"), ("max_tokens", "length"), ("SAFETY", "content_filter"), ("new", "new")],
)
def test_reasons_of_other_servers_are_read_in_openais_words(reason: str, read_as: str) -> None:
    assert end(chat(), chunk("a", None), chunk(reason=reason)) == Finish(read_as)


def test_tool_calls_without_text_are_an_end_of_their_own() -> None:
    call = chunk(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": "{}"}}], reason=None)
    assert end(chat(), call, chunk(reason="tool_calls")) == Finish("tool_calls")
    assert end(chat(), chunk(tool_calls=[{"index": 0}]), DONE) == Finish("tool_calls")


def test_usage_is_read_where_it_stands() -> None:
    usage = '{"choices": [], "usage": {"prompt_tokens": 3.0, "completion_tokens": null}}'
    assert end(chat(), chunk("a", None), chunk(reason="stop"), usage, DONE) == Finish("stop", Usage(3, 0))


@pytest.mark.parametrize("garbage", ["{", "<html>", "[1]", '"text"'])
def test_garbage_matters_only_before_the_end(garbage: str) -> None:
    assert isinstance(end(chat(), chunk("a", None), garbage, chunk(reason="stop"), DONE), UpstreamGarbage)
    assert end(chat(), chunk("a", None), chunk(reason="stop"), garbage, DONE) == Finish("stop")
    assert end(chat(), chunk("a", "stop"), garbage, DONE) == Finish("stop")
    # More text followed: what could not be read stood in the middle of it.
    assert isinstance(end(chat(), chunk("a", "stop"), garbage, chunk("b", "stop"), DONE), UpstreamGarbage)


def test_an_event_with_a_name_of_its_own_cannot_be_part_of_the_text() -> None:
    parser = chat()
    assert not parser.feed(Event("2026-01-01", "ping"))
    assert end(parser, chunk("a", None), chunk(reason="stop")) == Finish("stop")


def test_what_is_no_usual_text_is_part_of_the_answer_or_a_sign_of_life() -> None:
    parser = chat()
    read(parser, chunk("a", None), chunk("b"))
    assert not parser.unusual
    for data in (chunk("7", "stop"), chunk(reasoning_content="hm"), chunk(tool_calls=[{"index": 0}])):
        parser = chat()
        parser.feed(Event(data))
        assert parser.unusual
        assert parser.alive
    for data in ("{}", '{"choices": []}', chunk("", None, role="assistant"), '{"type": "ping"}'):
        parser = chat()
        parser.feed(Event(data))
        assert parser.unusual
        assert not parser.alive


# --- errors of a chat

CHAT_ERRORS: list[tuple[Event, str]] = [
    (Event('{"error": "out of memory"}'), "out of memory"),
    (Event('{"error": {"message": "out of memory"}}'), "out of memory"),
    (Event('{"object": "error", "message": "bad", "code": 400}'), "bad"),
    (Event('{"type": "error", "error": {"message": "bad"}}'), "bad"),
    (Event('{"error": {"code": 5}}'), '{"code": 5}'),
    (Event('{"code": 500, "message": "x"}'), "x"),
    (Event('{"status": 503, "message": "x"}'), "x"),
    (Event('{"detail": "x"}'), "x"),
    (Event('{"detail": [{"loc": ["body"], "msg": "x"}]}'), "x"),
    (Event('{"message": "x"}', "error"), "x"),
    (Event("it broke", "error"), "it broke"),
    (Event('{"choices": [], "error": {"message": "x"}}'), "x"),
    (Event(chunk(reason="error")), "its finish reason was 'error'"),
    (Event(chunk(reason="abort")), "its finish reason was 'abort'"),
    (
        Event('{"choices": [{"delta": {}, "finish_reason": "error", "error": {"message": "x"}}]}'),
        "its finish reason was 'error': x",
    ),
    (Event('{"choices": [{"delta": {}, "error": {"message": "x"}}]}'), "x"),
    (Event('{"choices": [{"delta": {}, "finish_reason": "stop", "error": {"message": "x"}}]}'), "x"),
    (Event('{"errors": [{"message": "x"}]}'), "x"),
    (Event('{"message": "x"}'), "x"),
    (Event('{"message": "x", "success": false}'), "x"),
    (Event("it broke", "exception"), "it broke"),
    (Event('{"message": "x"}', "stream.failed"), "x"),
    (Event(chunk(reason="ERROR")), "its finish reason was 'ERROR'"),
    (Event(chunk(reason="network_error")), "its finish reason was 'network_error'"),
    (Event(chunk(reason="MALFORMED_FUNCTION_CALL")), "its finish reason was 'MALFORMED_FUNCTION_CALL'"),
]


@pytest.mark.parametrize(("event", "said"), CHAT_ERRORS)
def test_errors_of_every_shape_are_recognised(event: Event, said: str) -> None:
    parser = chat()
    read(parser, chunk("a", None))
    with pytest.raises(UpstreamError) as caught:
        parser.feed(event)
    assert type(caught.value) is UpstreamError
    assert caught.value.detail == said
    assert said not in str(caught.value)


@pytest.mark.parametrize(("event", "said"), CHAT_ERRORS)
def test_an_error_after_a_proven_end_takes_nothing_back(event: Event, said: str) -> None:
    parser = chat()
    read(parser, chunk("a", None), chunk(reason="stop"))
    assert not parser.feed(event)
    assert parser.finish(clean=False) == Finish("stop")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'error: {"message": "x"}', "x"),
        (b"error: it broke", "it broke"),
        (b'{"error": {"message": "x"}}', "x"),
        (b'{"detail": "x"}', "x"),
    ],
)
def test_errors_beside_the_format_are_recognised(line: bytes, said: str) -> None:
    for parser in (chat(), responses()):
        with pytest.raises(UpstreamError) as caught:
            parser.feed_ignored([b"progress: 5", line])
        assert caught.value.detail == said


@pytest.mark.parametrize("indent", [0, 2])
def test_an_error_on_several_lines_beside_the_format_is_recognised(indent: int) -> None:
    parser = chat()
    *before, last = json.dumps({"error": {"message": "x"}}, indent=indent).encode().splitlines()
    parser.feed_ignored([b"{", b"progress: 5", *before])
    with pytest.raises(UpstreamError) as caught:
        parser.feed_ignored([last])
    assert caught.value.detail == "x"


def test_other_lines_beside_the_format_are_no_error() -> None:
    parser = chat()
    parser.feed_ignored([b"progress: 5", b"<html>", b"error"[:3]])
    failure = end(parser, chunk("a"))
    assert isinstance(failure, UpstreamCut)
    assert "progress: 5" in failure.detail


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"code": "rate_limit_exceeded", "message": "x"}, "rate_limited", True),
        ({"code": 429, "message": "x"}, "rate_limited", True),
        ({"type": "server_error", "message": "x"}, "failed", True),
        ({"type": "overloaded_error", "message": "x"}, "failed", True),
        ({"code": "context_length_exceeded", "message": "x"}, "failed", False),
        ({"type": "invalid_request_error", "message": "x"}, "failed", False),
        ({"code": "insufficient_quota", "message": "x"}, "failed", False),
        ({"code": 400, "message": "x"}, "failed", False),
        ({"code": 503, "message": "x"}, "failed", True),
        ("x", "failed", True),
    ],
)
def test_an_error_says_whether_trying_again_helps(error: Any, kind: str, retryable: bool) -> None:
    failure = end(chat(), json.dumps({"error": error}))
    assert isinstance(failure, UpstreamError)
    assert (failure.kind, failure.retryable) == (kind, retryable)


# --- the last event, without its end


@pytest.mark.parametrize(
    ("data", "text"), [(DONE, ""), (f"{DONE} ", ""), (chunk("b", "stop"), "b"), ('{"choices": [{"de', ""), ("[DO", "")]
)
def test_a_last_event_without_its_end_counts_where_it_is_whole(data: str, text: str) -> None:
    parser = chat()
    read(parser, chunk("a"))
    assert text_in(parser.feed_unterminated(Event(data))) == text
    assert parser.over == data.startswith(DONE)


# --- Responses

RESPONSES_DATA: list[tuple[str, str]] = [
    ('{"type": "response.created", "response": {"error": null}}', ""),
    ('{"type": "response.output_text.delta", "delta": " a"}', " a"),
    ('{"type": "response.output_text.delta", "delta": "a", "logprobs": [NaN]}', "a"),
    ('{"type": "response.refusal.delta", "delta": "no"}', "no"),
    ('{"type": "response.output_text.delta"}', ""),
    ('{"type": "response.output_text.delta", "delta": null}', ""),
    ('{"type": "response.output_text.done", "text": "whole"}', "whole"),
    ('{"type": "response.refusal.done", "refusal": "no"}', "no"),
    ('{"type": "response.reasoning_text.delta", "delta": "hm"}', ""),
    ('{"type": "response.something.new", "delta": {"a": 1}, "message": 7}', ""),
    ("{}", ""),
]


@pytest.mark.parametrize(("data", "text"), RESPONSES_DATA)
def test_responses_events_of_every_kind_are_read(data: str, text: str) -> None:
    parser = responses()
    assert text_in(parser.feed(Event(data))) == text
    assert not parser.over
    assert not parser.proven


def closed(status: str = "completed", **response: Any) -> str:
    return json.dumps({"type": f"response.{status}", "response": response})


def message(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "content": list(parts)}


TEXT = {"type": "output_text", "text": "all of it"}


@pytest.mark.parametrize(
    ("data", "finish"),
    [
        ('{"type": "response.completed"}', Finish("stop")),
        ('{"type": "response.completed", "response": null}', Finish("stop")),
        (closed("incomplete", incomplete_details={"reason": "max_output_tokens"}), Finish("length")),
        (closed("incomplete", incomplete_details={"reason": "x"}), Finish("x")),
        (closed("incomplete", incomplete_details=None), Finish("incomplete")),
        (closed(usage={"input_tokens": 3.0, "output_tokens": None}), Finish("stop", Usage(3, 0))),
        (closed(usage=[]), Finish("stop")),
        (closed(output=[{"type": "function_call", "name": "f"}]), Finish("tool_calls")),
        (closed(output=[{"type": "function_call"}, message(TEXT)]), Finish("tool_calls")),
        (closed(output=[{"type": "web_search_call"}, message(TEXT)]), Finish("stop")),
    ],
)
def test_responses_ends_are_read(data: str, finish: Finish) -> None:
    parser = responses()
    parser.feed(Event(data))
    assert parser.over
    assert parser.proven
    assert parser.finish(clean=False) == finish
    assert not parser.feed(Event("anything after the end is not looked at"))


@pytest.mark.parametrize(
    "data",
    [
        [closed(output=[message(TEXT)])],
        [json.dumps({"type": "response.output_item.done", "item": message(TEXT)}), closed(output=[])],
        [json.dumps({"type": "response.output_text.done", "text": "all of it"}), closed(output=[message(TEXT)])],
        [json.dumps({"object": "response", "status": "completed", "output": [message(TEXT)]})],
    ],
)
def test_a_response_without_deltas_is_read_from_what_it_ends_with(data: Sequence[str]) -> None:
    parser = responses()
    assert read(parser, *data) == ["all of it"]
    assert parser.finish(clean=True) == Finish("stop")


def test_what_came_in_deltas_is_not_read_again_from_the_end() -> None:
    parser = responses()
    delta = json.dumps({"type": "response.output_text.delta", "delta": "all of it"})
    done = json.dumps({"type": "response.output_text.done", "text": "all of it"})
    assert read(parser, delta, done, closed(output=[message(TEXT)])) == ["all of it"]


PART = json.dumps({"type": "response.content_part.done", "part": TEXT})


@pytest.mark.parametrize(
    "rest", [[], [PART], [json.dumps({"type": "response.output_item.done", "item": message(TEXT)})]]
)
def test_a_part_is_read_once_whatever_comes_before_or_after_it(rest: list[str]) -> None:
    texts = ["all of it"] * (1 + rest.count(PART))
    assert read(responses(), PART, *rest, closed(output=[message(TEXT)])) == texts
    delta = json.dumps({"type": "response.output_text.delta", "delta": "all of it"})
    done = json.dumps({"type": "response.output_text.done", "text": "all of it"})
    assert read(responses(), delta, done, PART, *rest, closed(output=[message(TEXT)])) == ["all of it"]


def test_a_response_whose_text_cannot_be_read_is_not_done() -> None:
    assert isinstance(end(responses(), closed(output=[message({"type": "poem", "lines": ["a"]})])), UpstreamGarbage)
    unknown, thought = (
        json.dumps({"type": f"response.{kind}.delta", "delta": "a"}) for kind in ("text", "reasoning_text")
    )
    assert isinstance(end(responses(), unknown, closed()), UpstreamGarbage)
    assert end(responses(), thought, closed()) == Finish("stop")


def test_the_state_in_a_response_counts_more_than_the_name_of_its_event() -> None:
    def completed(**response: Any) -> str:
        return json.dumps({"type": "response.completed", "response": response})

    cut = completed(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert end(responses(), cut) == Finish("length")
    for failed in (completed(status="failed"), completed(status="cancelled"), completed(error={"message": "bad"})):
        assert type(end(responses(), failed)) is UpstreamError


@pytest.mark.parametrize("data", [[DONE], [chunk("a"), DONE], ['{"type": "response.created"}'], []])
def test_what_does_not_end_a_response(data: Sequence[str]) -> None:
    assert isinstance(end(responses(), *data), UpstreamCut)


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (Event('{"type": "error", "error": {"message": "bad"}}'), "bad"),
        (Event('{"type": "error", "code": "x", "message": "bad"}'), "bad"),
        (Event('{"error": {"message": "bad"}}'), "bad"),
        (Event('{"message": "bad"}', "error"), "bad"),
        (Event('{"detail": "bad"}'), "bad"),
        (Event('{"type": "response.failed", "response": {"error": {"code": "x", "message": "bad"}}}'), "bad"),
        (Event('{"type": "response.failed"}'), "it did not say what"),
        (Event('{"type": "response.failed", "response": {"error": {"message": "bad"}}}', "response.failed"), "bad"),
        (Event('{"type": "response.cancelled"}'), "response.cancelled"),
        (Event('{"object": "response", "status": "in_progress"}'), "response.in_progress"),
    ],
)
def test_errors_of_responses_are_recognised(event: Event, said: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        responses().feed(event)
    assert caught.value.detail == said


# --- reasoning, refusals and tool calls


def pieces(parser: AnswerParser, *data: str) -> list[Piece]:
    return [piece for each in data for piece in parser.feed(Event(each))]


def call(index: Any = None, id: Any = None, name: Any = None, arguments: Any = None) -> dict[str, Any]:
    """A tool call in a delta, as servers write it: with the members that are given."""
    function = {"name": name, "arguments": arguments}
    given = {"index": index, "id": id, "function": {key: value for key, value in function.items() if value is not None}}
    return {key: value for key, value in given.items() if value is not None}


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning", "reasoning_text", "thinking"])
def test_the_reasoning_of_a_chat_is_no_text(member: str) -> None:
    seen = pieces(chat(), chunk(**{member: "h"}), chunk(**{member: "m"}), chunk("a"))
    assert seen == [Reasoning("h"), Reasoning("m"), Delta("a")]


@pytest.mark.parametrize(
    ("delta", "seen"),
    [
        ({"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, [Reasoning("hm")]),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]}, [Reasoning("hm")]),
        ({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, []),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "a"]},
            [Reasoning("hm"), Delta("a")],
        ),
        ({"content": [{"type": "thinking", "thinking": "hm"}]}, [Reasoning("hm")]),
        ({"reasoning_content": "hm", "content": "a"}, [Reasoning("hm"), Delta("a")]),
        ({"refusal": "no"}, [Refusal("no")]),
        ({"content": "a", "refusal": "no"}, [Delta("a"), Refusal("no")]),
    ],
)
def test_a_delta_of_several_kinds_is_several_pieces(delta: dict[str, Any], seen: list[Piece]) -> None:
    assert pieces(chat(), chunk(**delta)) == seen


def test_the_pages_that_an_answer_cites_are_sources() -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "https://example.com/", "title": "Example"}}
    link = SourceUrl("https://example.com/", "Example")
    assert pieces(chat(), chunk("a", annotations=[cited, {"type": "other"}])) == [Delta("a"), link]
    annotation = {"type": "url_citation", "url": "https://example.com/", "title": "Example"}
    added = {"type": "response.output_text.annotation.added", "annotation": annotation}
    assert pieces(responses(), json.dumps(added)) == [link]


CALLED = [ToolCall("c1", "f", ""), ToolCall("c1", arguments="{"), ToolCall("c1", arguments="}")]

CALLS: dict[str, tuple[list[list[dict[str, Any]]], list[ToolCall]]] = {
    "as OpenAI": ([[call(0, "c1", "f", "")], [call(0, arguments="{")], [call(0, arguments="}")]], CALLED),
    "the id and the name in each": ([[call(0, "c1", "f", each)] for each in ("", "{", "}")], CALLED),
    "without numbers": ([[call(None, "c1", "f", "")], [call(arguments="{")], [call(arguments="}")]], CALLED),
    "an empty id after the first": ([[call(0, "c1", "f", "")], [call(0, "", "", "{")], [call(0, "", "", "}")]], CALLED),
    "two at once": (
        [[call(0, "c1", "f", "1"), call(1, "c2", "g", "2")], [call(1, arguments="b"), call(0, arguments="a")]],
        [
            ToolCall("c1", "f", "1"),
            ToolCall("c2", "g", "2"),
            ToolCall("c2", arguments="b"),
            ToolCall("c1", arguments="a"),
        ],
    ),
    "each of them number 0": (
        [[call(0, "c1", "f", "1")], [call(0, "c2", "g", "2")]],
        [ToolCall("c1", "f", "1"), ToolCall("c2", "g", "2")],
    ),
    "without ids": (
        [[call(0, None, "f", "1")], [call(1, None, "g", "2")]],
        [ToolCall("call_0", "f", "1"), ToolCall("call_1", "g", "2")],
    ),
    "two of one id": (
        [[call(0, "c", "f", "1")], [call(1, "c", "g", "2")]],
        [ToolCall("c", "f", "1"), ToolCall("c_1", "g", "2")],
    ),
    "an object for the arguments": ([[call(0, "c1", "f", {"a": "가"})]], [ToolCall("c1", "f", '{"a": "가"}')]),
    "without a name": ([[call(0, "c1")]], [ToolCall("c1", "unnamed")]),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_tool_calls_of_a_chat_are_read_however_a_server_names_them(name: str) -> None:
    deltas, seen = CALLS[name]
    parser = chat()
    assert pieces(parser, *(chunk(tool_calls=calls) for calls in deltas)) == seen
    assert end(parser, chunk(reason="tool_calls"), DONE) == Finish("tool_calls")


def test_the_older_form_of_a_call_is_read() -> None:
    data = [chunk(function_call={"name": "f", "arguments": ""}), chunk(function_call={"arguments": "{}"})]
    assert pieces(chat(), *data) == [ToolCall("call_0", "f"), ToolCall("call_0", arguments="{}")]


def test_a_whole_message_has_its_reasoning_and_its_calls() -> None:
    said = {"reasoning_content": "hm", "content": "a", "tool_calls": [call(None, "c1", "f", "{}")]}
    data = json.dumps({"choices": [{"message": said, "finish_reason": "tool_calls"}]})
    assert pieces(chat(), data) == [Reasoning("hm"), Delta("a"), ToolCall("c1", "f", "{}", done=True)]


def test_a_message_that_repeats_all_at_the_end_adds_nothing() -> None:
    said = {"reasoning_content": "hm", "content": "a", "tool_calls": [call(None, "c1", "f", "{}")]}
    again = json.dumps({"choices": [{"message": said, "finish_reason": "tool_calls"}]})
    parser = chat()
    pieces(parser, chunk(reasoning_content="hm"), chunk("a"), chunk(tool_calls=[call(0, "c1", "f", "{}")]))
    assert pieces(parser, again) == []


def test_a_character_that_is_cut_in_two_stays_in_its_part() -> None:
    parser = chat()
    data = [chunk(reasoning_content="A\ud83d"), chunk(reasoning_content="\ude00B"), chunk(reasoning_content="C\ud83d")]
    assert pieces(parser, *data, chunk("a")) == [
        Reasoning("A"),
        Reasoning("😀B"),
        Reasoning("C"),
        Reasoning("\ufffd"),
        Delta("a"),
    ]
    arguments = [call(0, "c1", "f", "\ud83d"), call(0, arguments="\ude00")]
    assert pieces(chat(), *(chunk(tool_calls=[each]) for each in arguments)) == [
        ToolCall("c1", "f"),
        ToolCall("c1", arguments="😀"),
    ]


def response_event(type: str, **members: Any) -> str:
    return json.dumps({"type": f"response.{type}", **members})


FUNCTION = {"type": "function_call", "id": "i1", "call_id": "c1", "name": "f"}


@pytest.mark.parametrize(
    "data",
    [
        [
            response_event("output_item.added", item={**FUNCTION, "arguments": ""}),
            response_event("function_call_arguments.delta", item_id="i1", delta="{"),
            response_event("function_call_arguments.delta", item_id="i1", delta="}"),
            response_event("function_call_arguments.done", item_id="i1", arguments="{}"),
            response_event("output_item.done", item={**FUNCTION, "arguments": "{}"}),
            response_event("completed", response={"output": [{**FUNCTION, "arguments": "{}"}]}),
        ],
        [
            response_event("output_item.added", item=FUNCTION),
            response_event("function_call_arguments.done", item_id="i1", arguments="{}"),
            response_event("completed", response={"output": [{**FUNCTION, "arguments": "{}"}]}),
        ],
        [response_event("output_item.done", item={**FUNCTION, "arguments": "{}"}), response_event("completed")],
        [response_event("completed", response={"output": [{**FUNCTION, "arguments": "{}"}]})],
    ],
    ids=["in pieces", "at its end", "as an item", "in the response"],
)
def test_a_function_call_of_a_response_is_read_once(data: list[str]) -> None:
    parser = responses()
    seen = [piece for piece in pieces(parser, *data) if isinstance(piece, ToolCall)]
    assert seen[0] == ToolCall("c1", "f")
    assert "".join(piece.arguments for piece in seen) == "{}"
    assert [piece.done for piece in seen] == [False] * (len(seen) - 1) + [True]
    assert parser.finish(clean=True) == Finish("tool_calls")


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (
            [
                response_event("reasoning_summary_part.added", summary_index=0),
                response_event("reasoning_summary_text.delta", summary_index=0, delta="h"),
                response_event("reasoning_summary_text.done", summary_index=0, text="h"),
                response_event("reasoning_summary_part.done", summary_index=0, part={"text": "h"}),
                response_event("reasoning_summary_part.added", summary_index=1),
                response_event("reasoning_summary_text.delta", summary_index=1, delta="m"),
            ],
            "h\n\nm",
        ),
        (
            [
                response_event("reasoning_text.delta", delta="hm"),
                response_event("reasoning_summary_text.delta", delta="short"),
                response_event("reasoning_text.done", text="hm"),
            ],
            "hm",
        ),
        ([response_event("reasoning.delta", delta="hm"), response_event("reasoning.done", text="hm")], "hm"),
        ([response_event("reasoning_summary_text.done", text="hm")], "hm"),
        ([closed(output=[{"type": "reasoning", "summary": [{"text": "hm"}]}, message(TEXT)])], "hm"),
    ],
    ids=["summary", "both", "open responses", "at its end", "in the response"],
)
def test_the_reasoning_of_a_response_is_read_once(data: list[str], seen: str) -> None:
    read_ = [piece.text for piece in pieces(responses(), *data) if isinstance(piece, Reasoning)]
    assert "".join(read_) == seen


def test_a_refusal_of_a_response_is_one() -> None:
    data = [response_event("refusal.delta", delta="no"), response_event("refusal.done", refusal="no")]
    assert pieces(responses(), *data) == [Refusal("no")]
    whole = closed(output=[message({"type": "refusal", "refusal": "no"})])
    assert pieces(responses(), whole) == [Refusal("no")]
