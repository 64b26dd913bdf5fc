"""Why a token is accepted or refused, check by check: `yeoul token explain`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from ..errors import InvalidToken, KeysUnavailable
from .tokens import CHECKS, CompactToken, Rules, Tokens, check_header, read_compact, read_object

__all__ = ["Explanation", "Finding", "explain"]


class Finding(NamedTuple):
    """One check: what is required, and what is wrong, or None."""

    what: str
    right: str
    wrong: str | None


@dataclass(slots=True)
class Explanation:
    """`header` and `payload` as far as they could be read. `findings` continues after the first error, where
    `Tokens.read` stops."""

    header: Mapping[str, Any] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


async def explain(text: str, tokens: Tokens | None, now: float) -> Explanation:
    """`tokens` is None where the server has no key; `now` in Unix seconds. For a token that `tokens` accepts, no
    finding is wrong; for any other, at least one is."""
    explanation = Explanation()
    note = explanation.findings.append
    try:
        token = read_compact(text)
    except InvalidToken as error:
        note(Finding("form", "a signed JWT", str(error)))
        return explanation
    note(Finding("form", "a signed JWT", None))
    explanation.header = token.header
    header = _look("header", "nothing that this server does not accept", lambda: check_header(token.header))
    note(header)
    if header.wrong is None:
        note(await _signature(token, tokens))
    try:
        explanation.payload = read_object(token.payload, "payload")
    except InvalidToken as error:
        note(Finding("payload", "a JSON object", str(error)))
        return explanation
    rules = Rules() if tokens is None else tokens.rules
    for claim, right, run in CHECKS:
        note(_look(claim, right, partial(run, explanation.payload, rules, now)))
    return explanation


async def _signature(token: CompactToken, tokens: Tokens | None) -> Finding:
    right = f"{token.algorithm}, made with a key of this server"
    if tokens is None:
        return Finding("signature", right, "this server has no key to check it with")
    try:
        await tokens.check_signature(token)
    except (InvalidToken, KeysUnavailable) as error:
        return Finding("signature", right, str(error))
    return Finding("signature", right, None)


def _look(what: str, right: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except InvalidToken as error:
        return Finding(what, right, str(error))
    return Finding(what, right, None)
