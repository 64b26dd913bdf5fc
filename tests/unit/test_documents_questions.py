"""What of a question is searched for, when a passage is about it, and what of the passage is shown."""

from __future__ import annotations

import pytest

from yeoul.documents.questions import MOST_KEYWORDS, enough, keywords, snippet


def words(question: str) -> list[str]:
    return [keyword.word for keyword in keywords(question)]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How do I set the heartbeat interval?", ["set", "heartbeat", "interval"]),
        ("양파로 만들 수 있는 요리는 무엇인가요?", ["양파로", "만들", "요리는"]),
        ("SSE를 어떻게 쓰나요?", ["sse"]),
        ("What is it?", ["what", "is", "it"]),
        ("뭐?", ["뭐"]),
        ("양파 양파 ONION onion", ["양파", "onion"]),
        ("", []),
        ("?! 🌊 \ud800", []),
    ],
)
def test_words_that_every_question_has_are_left_out_unless_there_are_no_others(
    question: str, expected: list[str]
) -> None:
    assert words(question) == expected


def test_a_question_of_many_words_is_searched_for_by_its_first() -> None:
    assert words(" ".join(f"word{n}" for n in range(500))) == [f"word{n}" for n in range(MOST_KEYWORDS)]


def test_a_sentence_without_spaces_has_a_bounded_query() -> None:
    assert keywords("春眠暁を覚えず処処啼鳥を聞く夜来風雨の声花落つること知る多少" * 50)[0].query.count(" OR ") < 16


def test_a_word_is_known_by_what_it_begins_with() -> None:
    assert keywords("재연결하면")[0].stem == '"재연" OR "연결"'
    assert '"키를"' in keywords("키가 뭐죠")[0].stem


@pytest.mark.parametrize(
    ("found", "asked", "expected"),
    [(0, 1, False), (1, 1, True), (1, 3, True), (1, 4, False), (2, 4, True), (10, 32, False), (11, 32, True)],
)
def test_a_passage_needs_a_third_of_the_words(found: int, asked: int, expected: bool) -> None:
    assert enough(found, asked) is expected


def test_a_short_text_is_its_own_snippet_on_one_line() -> None:
    assert snippet("a\n\nb  c", keywords("b")) == "a b c"


@pytest.mark.parametrize("word", ["onion", "양파"])
def test_a_snippet_is_the_part_around_the_first_word_found(word: str) -> None:
    text = "filler words " * 40 + f"then the {word} comes " + "more words " * 40
    shown = snippet(text, keywords(word))
    assert word in shown
    assert shown.startswith("…")
    assert shown.endswith("…")
    assert len(shown) <= 200


@pytest.mark.parametrize("text", ["가" * 1_000, "word " * 300, "🌊" * 500])
def test_a_snippet_is_bounded_whatever_the_text_is_made_of(text: str) -> None:
    assert 100 < len(snippet(text, keywords("없는 단어"))) <= 200
