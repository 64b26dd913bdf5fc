"""Requests that are repeated after their stream was complete."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

import pytest

from yeoul.asgi.resume import Completions


def repeats(pauses: Iterable[float], start: float = 1_000.0) -> list[bool]:
    """For each of the requests that come in these pauses after the end: whether it is answered as the last one."""
    completions = Completions()
    completions.note("GET /", start)
    return [completions.repeats("GET /", start + seconds) for seconds in accumulate(pauses)]


def test_without_an_end_a_request_is_a_new_question() -> None:
    assert not Completions().repeats("GET /", 1.0)


@pytest.mark.parametrize("pauses", [[0.0], [4.9], [2.0, 2.0], [0.1] * 40])
def test_for_a_few_seconds_the_same_request_is_answered_alike(pauses: list[float]) -> None:
    assert all(repeats(pauses))


@pytest.mark.parametrize(
    "pauses", [[5.0], [3.0, 3.0], [4.0, 4.0], [1.0] * 5, [2.0, 2.5, 2.5], [4.0, 8.0], [1.0, 2.0, 9.0]]
)
def test_who_asks_again_after_that_asks_anew_however_often_it_was_tried(pauses: list[float]) -> None:
    assert repeats(pauses)[-1] is False


def test_after_a_new_question_the_next_one_is_new_too() -> None:
    assert repeats([6.0, 0.1]) == [False, False]


@pytest.mark.parametrize("late", [0.0, 0.08])
def test_a_timer_that_doubles_its_pauses_is_recognised_for_as_long_as_it_does(late: float) -> None:
    pauses = [0.5 * 2**n + late for n in range(8)]
    assert all(repeats(pauses))
    assert repeats([*pauses, 64.0])[-1] is False


def test_another_request_is_not_affected() -> None:
    completions = Completions()
    completions.note("GET /?message=a", 1.0)
    assert not completions.repeats("GET /?message=b", 1.0)


def test_of_many_the_last_are_known() -> None:
    completions = Completions()
    for number in range(10_001):
        completions.note(f"GET /{number}", 1.0)
    assert [completions.repeats(f"GET /{number}", 1.0) for number in (0, 1, 10_000)] == [False, True, True]
