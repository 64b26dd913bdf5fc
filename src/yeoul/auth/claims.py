"""What a token must say to be taken, claim by claim (RFC 7519, 4.1; RFC 8725, 3). Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InvalidToken
from .compact import shown
from .duration import duration_text

__all__ = ["CHECKS", "Check", "Claims", "Rules"]

_MAX_SUB = 200
_MAX_NAME = 200
_MAX_EMAIL = 320  # 64 before the @, 255 after it (RFC 5321, 4.5.3.1)
_MAX_ROLES = 50
_MAX_ROLE = 100
_MAX_PATTERNS = 100
_MAX_PATTERN = 250

_GRANTS = ("subscribe", "publish")

# Control characters, halves of surrogate pairs, line and paragraph separators: they break lines of logs and headers.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})

# In a user's id also what cannot be seen: two ids must not look the same.
_UNSEEN = _UNPRINTABLE | {"Cf"}


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token that is taken says. `expires`: the Unix second from which it is not taken any more (`exp` and the
    leeway), None for never (a demo token); `issued`: its `iat`. `subscribe` and `publish` are None where the token has
    no claim `yeoul`; where it has one, what that does not name is not granted."""

    user: str
    expires: float | None = None
    issued: float | None = None
    name: str | None = None
    email: str | None = None
    roles: frozenset[str] = frozenset()
    subscribe: tuple[str, ...] | None = None
    publish: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """`audience` and `issuer`: what `aud` must name and `iss` must be, None where they are not asked. `leeway`: seconds
    by which clocks may differ; `max_seconds`: for how long a token may be valid, from its `iat`, or else from now."""

    audience: str | None = None
    issuer: str | None = None
    leeway: float = 5.0
    max_seconds: float = 2_592_000.0

    def read(self, payload: Mapping[str, Any], now: float) -> Claims:
        """`now` in Unix seconds. Raises InvalidToken, naming the first claim that is wrong."""
        for check in CHECKS:
            check.run(payload, self, now)
        grants = payload.get("yeoul")
        issued = payload.get("iat")
        return Claims(
            user=payload["sub"],
            expires=payload["exp"] + self.leeway,
            issued=None if issued is None else float(issued),
            name=payload.get("name") or None,
            email=payload.get("email") or None,
            roles=frozenset(payload.get("roles") or ()),
            subscribe=None if grants is None else tuple(grants.get("subscribe", ())),
            publish=None if grants is None else tuple(grants.get("publish", ())),
        )


class Check(NamedTuple):
    """One claim, what is right of it, and what raises InvalidToken where it is not."""

    claim: str
    right: str
    run: Callable[[Mapping[str, Any], Rules, float], None]


def _subject(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    user = payload.get("sub")
    if user is None:
        raise InvalidToken("the token has no `sub`: it must say whose it is")
    if not isinstance(user, str) or not 0 < len(user) <= _MAX_SUB or _has(_UNSEEN, user):
        raise InvalidToken(f"`sub` must be text of 1 to {_MAX_SUB} characters, all of which can be seen")


def _expiry(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    expires = _time(payload, "exp")
    if expires is None:
        raise InvalidToken("the token has no `exp`: it must say until when it is valid")
    if now >= expires + rules.leeway:
        raise InvalidToken(f"the token has expired {duration_text(now - expires)} ago: get a new one")
    # From its beginning, where it tells that: else a long token would be good for its last days, when a revocation that
    # was meant for it is no longer remembered.
    issued = payload.get("iat")
    life = expires - (min(issued, now) if isinstance(issued, int | float) else now)
    if life > rules.max_seconds:
        most = duration_text(rules.max_seconds)
        raise InvalidToken(f"the token's `exp` gives it {duration_text(life)}: it may be valid for {most} at most")


def _not_before(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    begins = _time(payload, "nbf")
    if begins is not None and begins > now + rules.leeway:
        raise InvalidToken(f"the token is not valid yet: its `nbf` is {duration_text(begins - now)} ahead")


def _issued(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    issued = _time(payload, "iat")
    if issued is not None and issued > now + rules.leeway:
        ahead = duration_text(issued - now)
        raise InvalidToken(f"the token's `iat` is {ahead} ahead: set the clock of whoever made it")


def _audience(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    if rules.audience is None:
        return
    named = payload.get("aud")
    if named is None:
        raise InvalidToken(f"the token has no `aud`: it must name {rules.audience!r}")
    if rules.audience not in (named if isinstance(named, list) else [named]):
        raise InvalidToken(f"`aud` is {shown(named)}, but must name {rules.audience!r}")


def _issuer(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    if rules.issuer is None:
        return
    issuer = payload.get("iss")
    if issuer is None:
        raise InvalidToken(f"the token has no `iss`: it must be {rules.issuer!r}")
    if issuer != rules.issuer:
        raise InvalidToken(f"`iss` is {shown(issuer)}, but must be {rules.issuer!r}")


def _name(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    _check_text(payload, "name", _MAX_NAME)


def _email(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    _check_text(payload, "email", _MAX_EMAIL)


def _roles(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    roles = payload.get("roles")
    if roles is not None and not _is_list_of_texts(roles, _MAX_ROLES, _MAX_ROLE):
        raise InvalidToken(f"`roles` must be a list of at most {_MAX_ROLES} texts of 1 to {_MAX_ROLE} characters")


def _grants(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    if "yeoul" not in payload:
        return
    grants = payload["yeoul"]
    if not isinstance(grants, dict):
        raise InvalidToken('`yeoul` must be an object: {"subscribe": […], "publish": […]}')
    for name, patterns in grants.items():
        if name not in _GRANTS:
            # One that is misspelled must not be without effect.
            raise InvalidToken(f"`yeoul` has {shown(name)}: it may have `subscribe` and `publish`")
        if not _is_list_of_texts(patterns, _MAX_PATTERNS, _MAX_PATTERN):
            most = f"at most {_MAX_PATTERNS} topics or patterns of 1 to {_MAX_PATTERN} characters"
            raise InvalidToken(f"`yeoul.{name}` must be a list of {most}")


CHECKS = (
    Check("exp", "in the future, and not too far", _expiry),
    Check("nbf", "not in the future, where there is one", _not_before),
    Check("iat", "not in the future, where there is one", _issued),
    Check("iss", "what the setting jwt_issuer says, where it is set", _issuer),
    Check("aud", "names what the setting jwt_audience says, where it is set", _audience),
    Check("sub", "names a user", _subject),
    Check("name", "text, where there is one", _name),
    Check("email", "text, where there is one", _email),
    Check("roles", "a list of texts, where there is one", _roles),
    Check("yeoul", "lists of topics, where there is one", _grants),
)


def _time(payload: Mapping[str, Any], claim: str) -> float | None:
    """A NumericDate, whose numbers `read_object` has found to be finite."""
    if claim not in payload:
        return None
    value = payload[claim]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"`{claim}` must be a number of seconds since 1970")
    return float(value)


def _check_text(payload: Mapping[str, Any], claim: str, most: int) -> None:
    text = payload.get(claim)
    if text is not None and not (isinstance(text, str) and len(text) <= most and not _has(_UNPRINTABLE, text)):
        raise InvalidToken(f"`{claim}` must be text of at most {most} characters, without control characters")


def _is_list_of_texts(value: object, most: int, longest: int) -> bool:
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(isinstance(text, str) and 0 < len(text) <= longest and not _has(_UNPRINTABLE, text) for text in value)


def _has(categories: frozenset[str], text: str) -> bool:
    if text.isascii() and text.isprintable():
        return False  # most texts; looking at each character's category costs more than the signature
    return any(unicodedata.category(char) in categories for char in text)
