"""Text as search terms: Korean endings, one-syllable words, mixed scripts, and what FTS5 would take for syntax."""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Callable

import pytest

from yeoul.documents.words import has_hangul, index_text, match_all, match_any, plain_text, terms


def found(match: Callable[[str], str], text: str, question: str) -> bool:
    """Whether FTS5 itself finds the text for the question."""
    query = match(question)
    if not query:
        return False
    db = sqlite3.connect(":memory:")
    try:
        db.execute("CREATE VIRTUAL TABLE texts USING fts5 (text, tokenize = 'porter unicode61 remove_diacritics 2')")
        db.execute("INSERT INTO texts VALUES (?)", (index_text(text),))
        return bool(db.execute("SELECT count(*) FROM texts WHERE texts MATCH ?", (query,)).fetchone()[0])
    finally:
        db.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("양파를", ["양파", "파를"]),
        ("양파", ["양파"]),
        ("파", ["파"]),
        ("Hello, World", ["hello", "world"]),
        ("SSE를 쓰면", ["sse", "를", "쓰면"]),
        ("GPT4모델", ["gpt4", "모델"]),
        ("玉ねぎを切る", ["玉ね", "ねぎ", "ぎを", "を切", "切る"]),
        ("YEOUL_HEARTBEAT_S", ["yeoul", "heartbeat", "s"]),
        ("Last-Event-ID: 7", ["last", "event", "id", "7"]),
        ("🌊 !?", []),
        ("", []),
        ("Ünïcode", ["ünïcode"]),
    ],
)
def test_words_become_terms_and_cjk_runs_become_pairs(text: str, expected: list[str]) -> None:
    assert list(terms(text)) == expected


@pytest.mark.parametrize("ending", ["", "를", "는", "가", "와", "로", "에서", "까지도"])
def test_a_korean_word_is_found_whatever_its_ending(ending: str) -> None:
    assert found(match_any, f"먼저 양파{ending} 준비합니다", "양파")
    assert found(match_all, f"먼저 양파{ending} 준비합니다", "양파")


@pytest.mark.parametrize("text", ["파를 썬다", "파 두 뿌리", "대파 말고 파만"])
def test_a_word_of_one_syllable_is_found_at_the_beginning_of_words(text: str) -> None:
    assert found(match_any, text, "파")


def test_another_word_is_not_found() -> None:
    assert not found(match_any, "감자를 삶는다", "양파")
    assert not found(match_all, "양파를 볶는다", "양파 감자")
    assert found(match_any, "양파를 볶는다", "양파 감자")


@pytest.mark.parametrize(
    ("text", "question"),
    [("connections", "connect"), ("Connecting", "CONNECTIONS"), ("café", "cafe"), ("cafe", "Café")],
)
def test_english_is_found_by_its_stem_without_case_and_accents(text: str, question: str) -> None:
    assert found(match_any, text, question)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_hangul_are_the_same(form: str) -> None:
    question = unicodedata.normalize(form, "양파를")  # type: ignore[arg-type]
    assert list(terms(question)) == ["양파", "파를"]
    assert found(match_any, unicodedata.normalize("NFD", "양파를 볶는다"), question)


@pytest.mark.parametrize(
    "question",
    [
        '"', '""', "'", "*", "a*", "^a", "-a", "+a", "a:b", "text:a", "(", ")", "(a", "a AND", "AND", "OR", "NOT",
        "NEAR", "NEAR(a b, 2)", "a OR NOT", "{text}: a", 'a" OR "b', "a\0b", "; DROP TABLE texts", "\ud800", "a\\",
        "%", "_", "a--",
    ],
)  # fmt: skip
def test_whatever_is_asked_is_a_legal_query(question: str) -> None:
    for match in (match_any, match_all):
        found(match, "a b near text", question)


def test_operators_are_words_like_others() -> None:
    assert not found(match_any, "salt", "pepper OR salty NOT")
    assert found(match_all, "near and or not", "NEAR AND OR NOT")


@pytest.mark.parametrize("text", ["", " ", "🌊", "?!", "…"])
def test_a_text_without_words_has_no_query(text: str) -> None:
    assert match_any(text) == match_all(text) == index_text(text) == ""


def test_each_term_is_asked_for_once() -> None:
    assert match_any("a b a") == '"a" OR "b"'
    assert match_all("양파 양파") == '"양파"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\r\nb\rc\u2028d\x85e", "a\nb\nc\nd\ne"),
        ("a\x00b\x1b[31mc\x9b", "ab[31mc"),
        ("a\tb\n", "a\tb\n"),
        ("\ud800x\udfff", "x"),
        ("\u202ea\u2066", "a"),
        (unicodedata.normalize("NFD", "양파"), "양파"),
        ("👩‍🍳 🌊", "👩‍🍳 🌊"),
    ],
)
def test_plain_text_is_what_can_be_stored_sent_and_shown(text: str, expected: str) -> None:
    assert plain_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("SSE가", True), ("ㅋ", True), ("\u1112", True), ("漢字 かな", False), ("", False)]
)
def test_korean_is_known_by_its_letters(text: str, expected: bool) -> None:
    assert has_hangul(text) is expected
