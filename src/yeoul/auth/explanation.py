"""Why a token is taken or not, check by check, for whoever has to find out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from ..errors import InvalidToken, KeysUnavailable
from .claims import CHECKS, Rules
from .compact import CompactToken, check_header, read_compact, read_object
from .tokens import Tokens

__all__ = ["Explanation", "Finding", "explain"]


class Finding(NamedTuple):
    """One check: what would be right, and what is wrong, None where nothing is."""

    what: str
    right: str
    wrong: str | None


@dataclass(slots=True)
class Explanation:
    """`header` and `payload` as far as they could be read. `findings` goes on after the first that is wrong, where
    `Tokens.read` stops."""

    header: Mapping[str, Any] = field(default_factory=dict)
    payload: Mapping[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


async def explain(text: str, tokens: Tokens | None, now: float) -> Explanation:
    """`tokens` is None where a server has no key; `now` in Unix seconds. With a token that `tokens` takes, nothing is
    found to be wrong; with every other, something."""
    told = Explanation()
    note = told.findings.append
    try:
        token = read_compact(text)
    except InvalidToken as error:
        note(Finding("form", "a signed JWT", str(error)))
        return told
    note(Finding("form", "a signed JWT", None))
    told.header = token.header
    header = _look("header", "nothing in it that this server does not take", lambda: check_header(token.header))
    note(header)
    if header.wrong is None:
        note(await _signature(token, tokens))
    try:
        told.payload = read_object(token.payload, "payload")
    except InvalidToken as error:
        note(Finding("payload", "a JSON object", str(error)))
        return told
    rules = Rules() if tokens is None else tokens.rules
    for claim, right, run in CHECKS:
        note(_look(claim, right, partial(run, told.payload, rules, now)))
    return told


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
