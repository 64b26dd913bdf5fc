"""JSON Web Tokens (RFC 7519), verified as RFC 8725 recommends: their form, their claims, their signature.

PyJWT has the algorithms. The text is read here: PyJWT takes the last of two members of one name, claims of the wrong
type, and twice the time, and cannot say of a refused token all that is wrong with it (`explanation`).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import jwt

from ..errors import InvalidToken
from .duration import duration_text
from .jwks import Jwks
from .keys import ALGORITHMS, Key, candidates

__all__ = [
    "CHECKS",
    "MAX_TOKEN_BYTES",
    "Check",
    "Claims",
    "CompactToken",
    "Rules",
    "Tokens",
    "check_header",
    "looks_like_jwt",
    "read_compact",
    "read_object",
    "shown",
]

# --- the compact form

# No identity provider's token is nearly as long, and servers bound a request's head to about as much.
MAX_TOKEN_BYTES = 8 * 1024

# Characters of a value that a message quotes: enough to know it again.
_MAX_SHOWN = 60

# Microseconds of today have 16 digits: no number in a token needs more.
_MAX_DIGITS = 16

_ENCRYPTED_PARTS = 5

# Headers that are remembered, each at most this long: all tokens of one key have the same.
_MAX_HEADERS = 64
_MAX_HEADER_CHARS = 512

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_TYPES = ("jwt", "at+jwt")


@dataclass(frozen=True, slots=True)
class CompactToken:
    """A JWT as text (RFC 7515, 7.1), unverified: `header` and `payload` are the token's own claims about itself until
    `signature` is verified to be that of `signed`."""

    header: Mapping[str, Any]
    payload: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    @property
    def algorithm(self) -> str:
        return str(self.header["alg"])

    @property
    def key_id(self) -> str | None:
        return self.header.get("kid")


def looks_like_jwt(text: str) -> bool:
    return text.count(".") >= 2


def read_compact(text: str) -> CompactToken:
    """Raises InvalidToken for text that is not a signed token. The header is not checked yet."""
    if len(text) > MAX_TOKEN_BYTES:
        raise InvalidToken(f"the token is longer than {MAX_TOKEN_BYTES // 1024} KiB: put less into it")
    if text.count(".") == _ENCRYPTED_PARTS - 1:
        raise InvalidToken("the token is encrypted (JWE): send a signed one (JWS)")
    parts = _FORM.fullmatch(text)
    if parts is None:
        raise InvalidToken("not a JWT: a JWT has three parts in Base64url, separated by dots")
    header, payload, signature = parts.groups()
    read = _remembered_header if len(header) <= _MAX_HEADER_CHARS else _header
    signed = text[: -len(signature) - 1].encode()
    return CompactToken(read(header), _decoded(payload), signed, _decoded(signature))


def read_object(data: bytes, what: str) -> dict[str, Any]:
    """The JSON object of a part of a token. Raises InvalidToken, also for a duplicate member (RFC 8725, 2.6: issuer and
    reader may use different ones) and for a number that a float cannot hold."""
    try:
        value = _JSON.decode(data.decode())
    except InvalidToken as error:
        raise InvalidToken(f"the token's {what} {error}") from None
    except (ValueError, RecursionError):
        raise InvalidToken(f"the token's {what} is not JSON") from None
    if not isinstance(value, dict):
        raise InvalidToken(f"the token's {what} is not a JSON object")
    return value


def check_header(header: Mapping[str, Any]) -> None:
    """Raises InvalidToken for a header that this server does not accept. Keys that the token brings along (`jku`,
    `jwk`, `x5u`, `x5c`) are ignored."""
    for name in ("crit", "b64"):
        if name in header:
            # RFC 7515, 4.1.11: extensions that are not understood must not be ignored.
            raise InvalidToken(f"the token's header has `{name}`, an extension that this server does not support")
    kind = header.get("typ")
    if kind is not None and not (isinstance(kind, str) and kind.lower() in _TYPES):
        # RFC 8725, 3.11: other kinds of token (a logout token, a DPoP proof) must not pass for an access token.
        raise InvalidToken(f"the token's `typ` is {shown(kind)}: it must be absent, 'JWT' or 'at+jwt'")
    if not isinstance(header.get("alg"), str):
        raise InvalidToken("the token's header has no `alg`")
    if not isinstance(header.get("kid", ""), str):
        raise InvalidToken("the token's `kid` must be a string")


def shown(value: object) -> str:
    """A value from a token, for a message: shortened, and without control characters of terminals."""
    text = value if isinstance(value, str) else json.dumps(value)
    return ascii(text) if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]!a}…"


def _header(part: str) -> Mapping[str, Any]:
    return MappingProxyType(read_object(_decoded(part), "header"))


_remembered_header = lru_cache(_MAX_HEADERS)(_header)


def _decoded(part: str) -> bytes:
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        data = b""
    # Unused bits are zero (RFC 4648, 3.5): a token can be written in one way only.
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise InvalidToken("not a JWT: one of its parts is not Base64url")
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise InvalidToken("has a duplicate member")
    return made


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS or text in ("NaN", "Infinity", "-Infinity"):
        raise InvalidToken("has a number that is not finite, or too long")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidToken("has a number that is not finite, or too long")
    return number


# One for all tokens: `json.loads` builds a decoder on each call.
_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_integer)


# --- claims

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

# In a user's id also invisible characters: two ids must not look the same.
_UNSEEN = _UNPRINTABLE | {"Cf"}


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of an accepted token. `expires`: the Unix second from which it is refused (`exp` and the leeway), None
    for never (a demo token); `issued`: its `iat`. `subscribe` and `publish` are None where the token has no claim
    `yeoul`; where it has one, only what that names is granted."""

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
    """What the claims must be. `audience` and `issuer`: what `aud` must contain and `iss` must equal, None for no such
    check. `leeway`: seconds by which clocks may differ; `max_seconds`: the longest life of a token, from its `iat`, or
    else from now."""

    audience: str | None = None
    issuer: str | None = None
    leeway: float = 5.0
    max_seconds: float = 2_592_000.0

    def read(self, payload: Mapping[str, Any], now: float) -> Claims:
        """`now` in Unix seconds. Raises InvalidToken, which names the first wrong claim."""
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
    """One claim, what is required of it, and the function that raises InvalidToken where it is wrong."""

    claim: str
    right: str
    run: Callable[[Mapping[str, Any], Rules, float], None]


def _subject(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    user = payload.get("sub")
    if user is None:
        raise InvalidToken("the token has no `sub`: it must name its user")
    if not isinstance(user, str) or not 0 < len(user) <= _MAX_SUB or _has(_UNSEEN, user):
        raise InvalidToken(f"`sub` must be a string of 1 to {_MAX_SUB} visible characters")


def _expiry(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    expires = _time(payload, "exp")
    if expires is None:
        raise InvalidToken("the token has no `exp`: it must expire")
    if now >= expires + rules.leeway:
        raise InvalidToken(f"the token expired {duration_text(now - expires)} ago: get a new one")
    # From its `iat`, where it has one: else a long-lived token would be accepted in its last days, when a revocation of
    # it is no longer remembered.
    issued = payload.get("iat")
    life = expires - (min(issued, now) if isinstance(issued, int | float) else now)
    if life > rules.max_seconds:
        most = duration_text(rules.max_seconds)
        raise InvalidToken(f"the token's `exp` gives it {duration_text(life)}: the limit is {most}")


def _not_before(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    begins = _time(payload, "nbf")
    if begins is not None and begins > now + rules.leeway:
        raise InvalidToken(f"the token is not valid yet: its `nbf` is {duration_text(begins - now)} ahead")


def _issued(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    issued = _time(payload, "iat")
    if issued is not None and issued > now + rules.leeway:
        ahead = duration_text(issued - now)
        raise InvalidToken(f"the token's `iat` is {ahead} ahead: correct the clock of its issuer")


def _audience(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    if rules.audience is None:
        return
    named = payload.get("aud")
    if named is None:
        raise InvalidToken(f"the token has no `aud`: it must contain {rules.audience!r}")
    if rules.audience not in (named if isinstance(named, list) else [named]):
        raise InvalidToken(f"`aud` is {shown(named)}, but must contain {rules.audience!r}")


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
    if roles is not None and not _is_list_of_strings(roles, _MAX_ROLES, _MAX_ROLE):
        raise InvalidToken(f"`roles` must be a list of at most {_MAX_ROLES} strings of 1 to {_MAX_ROLE} characters")


def _grants(payload: Mapping[str, Any], rules: Rules, now: float) -> None:
    if "yeoul" not in payload:
        return
    grants = payload["yeoul"]
    if not isinstance(grants, dict):
        raise InvalidToken('`yeoul` must be an object: {"subscribe": […], "publish": […]}')
    for name, patterns in grants.items():
        if name not in _GRANTS:
            # A misspelled member must not be ignored.
            raise InvalidToken(f"`yeoul` has {shown(name)}: its members are `subscribe` and `publish`")
        if not _is_list_of_strings(patterns, _MAX_PATTERNS, _MAX_PATTERN):
            most = f"at most {_MAX_PATTERNS} topics or patterns of 1 to {_MAX_PATTERN} characters"
            raise InvalidToken(f"`yeoul.{name}` must be a list of {most}")


CHECKS = (
    Check("exp", "in the future, within the longest life of a token", _expiry),
    Check("nbf", "not in the future, where present", _not_before),
    Check("iat", "not in the future, where present", _issued),
    Check("iss", "equal to the setting jwt_issuer, where that is set", _issuer),
    Check("aud", "contains the setting jwt_audience, where that is set", _audience),
    Check("sub", "names a user", _subject),
    Check("name", "a string, where present", _name),
    Check("email", "a string, where present", _email),
    Check("roles", "a list of strings, where present", _roles),
    Check("yeoul", "lists of topics, where present", _grants),
)


def _time(payload: Mapping[str, Any], claim: str) -> float | None:
    """A NumericDate; `read_object` has checked that numbers are finite."""
    if claim not in payload:
        return None
    value = payload[claim]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"`{claim}` must be a number of seconds since 1970")
    return float(value)


def _check_text(payload: Mapping[str, Any], claim: str, most: int) -> None:
    text = payload.get(claim)
    if text is not None and not (isinstance(text, str) and len(text) <= most and not _has(_UNPRINTABLE, text)):
        raise InvalidToken(f"`{claim}` must be a string of at most {most} characters, without control characters")


def _is_list_of_strings(value: object, most: int, longest: int) -> bool:
    if not isinstance(value, list) or len(value) > most:
        return False
    return all(isinstance(text, str) and 0 < len(text) <= longest and not _has(_UNPRINTABLE, text) for text in value)


def _has(categories: frozenset[str], text: str) -> bool:
    if text.isascii() and text.isprintable():
        return False  # most texts; looking at each character's category costs more than the signature
    return any(unicodedata.category(char) in categories for char in text)


# --- verification

# By the key's algorithm, never by the token's.
_VERIFIERS = {name: jwt.PyJWS().get_algorithm_by_name(name) for name in ALGORITHMS}

# The algorithms of published keys: a secret is never published.
_PUBLISHED = ALGORITHMS[1:]


class Tokens:
    """Verifies JWTs. `keys` are this server's own, `jwks` those of an identity provider; `clock`: Unix seconds."""

    def __init__(
        self,
        keys: Sequence[Key],
        rules: Rules | None = None,
        *,
        jwks: Jwks | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises ValueError where there is no key."""
        if not keys and jwks is None:
            raise ValueError("tokens cannot be checked without a key: give a secret, a public key or a JWKS")
        self.rules = rules or Rules()
        self._keys = tuple(keys)
        self._jwks = jwks
        self._clock = clock
        own = {key.algorithm for key in keys}
        self._algorithms = [name for name in ALGORITHMS if name in own or (jwks is not None and name in _PUBLISHED)]

    async def read(self, text: str) -> Claims:
        """The claims of an accepted token. Raises InvalidToken, which says why it is refused, and KeysUnavailable."""
        token = read_compact(text)
        check_header(token.header)
        await self.check_signature(token)
        return self.rules.read(read_object(token.payload, "payload"), self._clock())

    async def check_signature(self, token: CompactToken) -> None:
        """After `check_header`. Raises InvalidToken where no key made the signature, and KeysUnavailable where the keys
        cannot be fetched."""
        algorithm = token.algorithm
        if algorithm not in self._algorithms:
            right = " or ".join(self._algorithms)
            raise InvalidToken(
                f"the token's `alg` is {shown(algorithm)}: this server accepts tokens signed with {right}"
            )
        matches = self._matches(token, self._keys)
        if not matches and self._jwks is not None and algorithm in _PUBLISHED:
            matches = self._matches(token, await self._jwks.keys(token.key_id))
        if not matches:
            why = "it was changed, or signed with another key"
            raise InvalidToken(f"the token's signature matches no key of this server: {why}")

    @property
    def key_set(self) -> object | None:
        """An object that stands for the keys of this moment: a token verified while it was the same one need not be
        verified again. None where the keys have to be asked for first."""
        return self._keys if self._jwks is None else self._jwks.current

    def now(self) -> float:
        """Unix seconds, by the clock that tokens are checked with."""
        return self._clock()

    def open(self) -> None:
        if self._jwks is not None:
            self._jwks.open()

    async def close(self) -> None:
        if self._jwks is not None:
            await self._jwks.close()

    def _matches(self, token: CompactToken, keys: Sequence[Key]) -> bool:
        return any(
            _VERIFIERS[key.algorithm].verify(token.signed, key.material, token.signature)
            for key in candidates(keys, token.algorithm, token.key_id)
        )
