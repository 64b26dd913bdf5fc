from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.auth.identity import topic_part
from yeoul.hub.topic import check_topic


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("u42", "u42"),
        ("김철수", "김철수"),
        ("ann@example.com", "ann@example.com"),
        ("auth0|42", "auth0~7C42"),
        ("a/b", "a~2Fb"),
        ("..", "~2E~2E"),
        ("*", "~2A"),
        ("~", "~7E"),
        ("a b\n", "a~20b~0A"),
        ("\udc00", "~ED~B0~80"),
    ],
)
def test_what_may_not_be_in_a_name_is_escaped(text: str, part: str) -> None:
    assert topic_part(text) == part


@given(st.text(min_size=1, max_size=40))
def test_every_text_is_one_part_of_a_name(text: str) -> None:
    part = topic_part(text)
    assert "/" not in part
    if len(part) <= 190:
        assert check_topic(f"users/{part}")


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=12))
def test_two_texts_never_share_one(one: str, other: str) -> None:
    assert (topic_part(one) == topic_part(other)) == (one == other)


def test_nothing_is_no_part() -> None:
    with pytest.raises(ValueError, match="not empty"):
        topic_part("")
