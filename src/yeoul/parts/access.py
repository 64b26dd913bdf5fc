"""Who is let in, from where, and how often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ..asgi.origins import DEMO_ORIGINS
from ..asgi.rates import Rates
from ..auth.authenticator import Authenticator
from ..auth.claims import Rules
from ..auth.jwks import Jwks
from ..auth.keys import Key, public_keys, secret_key
from ..auth.loopback import is_loopback
from ..auth.tokens import Tokens
from ..settings import Settings

__all__ = ["make_authenticator", "make_rates", "origins_of", "token_rules"]


def make_authenticator(
    settings: Settings, *, revoked: Callable[[str, float | None], bool] | None = None
) -> Authenticator:
    """In demo mode where no key is set. `revoked`: see Authenticator. Raises ValueError for a key that is none, and for
    demo mode where others can reach it."""
    tokens = _tokens(settings)
    if tokens is None and not is_loopback(settings.host):
        raise ValueError(
            f"on {settings.host} others can reach this server, and it has no key to know them by: set YEOUL_JWT_SECRET "
            "(`openssl rand -base64 48`), YEOUL_JWT_PUBLIC_KEY or YEOUL_JWT_JWKS_URL, or listen on 127.0.0.1"
        )
    return Authenticator(
        demo=tokens is None,
        tokens=tokens,
        revoked=revoked,
        subscribe=settings.subscribe,
        publish=settings.publish,
        open_topics=settings.open_topics,
    )


def _tokens(settings: Settings) -> Tokens | None:
    """None where no key is set."""
    keys: list[Key] = []
    for name, secret in (("jwt_secret", settings.jwt_secret), ("jwt_previous_secret", settings.jwt_previous_secret)):
        if secret is not None:
            with _named(name):
                keys.append(secret_key(secret.get_secret_value()))
    if settings.jwt_public_key is not None:
        with _named("jwt_public_key"):
            keys += public_keys(settings.jwt_public_key)
    jwks = None
    if settings.jwt_jwks_url is not None:
        with _named("jwt_jwks_url"):
            jwks = Jwks(settings.jwt_jwks_url)
    if not keys and jwks is None:
        return None
    return Tokens(keys, token_rules(settings), jwks=jwks)


def token_rules(settings: Settings) -> Rules:
    """What a token's claims have to say."""
    return Rules(settings.jwt_audience, settings.jwt_issuer, settings.jwt_leeway_s, settings.max_token_s)


@contextmanager
def _named(setting: str) -> Iterator[None]:
    """What is wrong with a key is told with the setting that it stands in, and without the key."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"setting {setting}: {error}") from error


def origins_of(settings: Settings, demo: bool) -> Sequence[str]:
    """The pages of other sites that are let in."""
    if settings.cors_origins is not None:
        return settings.cors_origins
    return DEMO_ORIGINS if demo else ()


def make_rates(settings: Settings, demo: bool) -> Rates:
    publish, connect = (None, None) if demo else ("100/second", "300/minute")
    return Rates(publish=settings.publish_rate or publish, connect=settings.connect_rate or connect)
