"""Who may ask: keys, tokens, tickets, and the pages and names that are let in."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from ..asgi.hosts import check_host
from ..asgi.origins import check_origin
from .values import Seconds

__all__ = ["Identification"]


def _check_proxy(text: str) -> str:
    try:
        ip_network(text)  # uvicorn would take a mistake for a name, and trust nobody
    except ValueError as error:
        raise ValueError(f"{text!r} is no address or network: write '10.0.0.5' or '10.0.0.0/8'") from error
    return text


Origin = Annotated[str, AfterValidator(check_origin)]
Host = Annotated[str, AfterValidator(check_host)]
Proxy = Annotated[str, AfterValidator(_check_proxy)]
Pattern = Annotated[str, Field(min_length=1)]


class Identification(BaseModel):
    jwt_secret: SecretStr | None = Field(
        None,
        description="Secret of HS256 tokens, 32 bytes and more (`openssl rand -base64 48`). With it, a public key or a "
        "JWKS, the server asks who you are; without any it runs in demo mode, on loopback alone.",
    )
    jwt_previous_secret: SecretStr | None = Field(
        None, description="The HS256 secret before: its tokens are still taken while you change over."
    )
    jwt_public_key: str | None = Field(
        None,
        description="Public keys of RS256, ES256 or EdDSA tokens: PEM text, or a file of it. A key takes tokens of its "
        "own algorithm alone.",
    )
    jwt_jwks_url: str | None = Field(
        None, pattern=r"^https?://", description="Where your identity provider publishes its keys (JWKS)."
    )
    jwt_audience: str | None = Field(None, description="What a token's `aud` must name; without it `aud` is not asked.")
    jwt_issuer: str | None = Field(None, description="What a token's `iss` must be; without it `iss` is not asked.")
    jwt_leeway_s: float = Field(
        5.0, ge=0, le=300, description="Seconds by which the clock of whoever makes the tokens may differ from ours."
    )
    max_token_s: Seconds = Field(
        2_592_000.0,
        description="Seconds for which a token may be valid, from its `iat`, or else from now; longer ones are "
        "refused. A revocation is remembered for as long, so that no token that has an `iat` outlives it.",
    )
    cookie: str = Field(
        "yeoul_token",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Name of the cookie that may hold a token (HttpOnly).",
    )
    ticket_s: float = Field(
        30.0,
        ge=1,
        le=300,
        description="Seconds in which a ticket must be used: long enough for a slow phone.",
    )
    query_tokens: bool = Field(
        False,
        description="Whether a token is taken from `?token=`. Addresses end up in logs and histories: tickets are for "
        "that. The demo token is taken there in demo mode.",
    )
    subscribe: tuple[Pattern, ...] = Field(
        ("notifications/{user}", "notifications", "realtime", "realtime/*", "chat/*"),
        description="Topics that users may follow whose token has no `yeoul` claim. `*` stands for any characters, "
        "`{user}` for the user.",
    )
    publish: tuple[Pattern, ...] = Field(
        ("notifications/{user}", "chat/*"),
        description="Topics that users may send to whose token has no `yeoul` claim: here, themselves and chat rooms.",
    )
    open_topics: tuple[Pattern, ...] = Field(
        ("system/status",), description="Topics that everybody may follow, with a token or without."
    )
    open_answers: bool = Field(
        False,
        description="Whether answers (`/generations`, `/sse`, `/ask`, recipes, challenges, the gateway) need no token "
        "where the server asks who you are. They cost money.",
    )
    cors_origins: tuple[Origin, ...] | None = Field(
        None,
        description="Origins of the pages that may use this server from elsewhere, exactly: "
        '`["https://app.example.com"]`. In demo mode ports 3000 and 5173 of localhost by default, else none.',
    )
    allowed_hosts: tuple[Host, ...] = Field(
        (),
        description="Names under which this server may be asked for (the `Host` header), without ports. On loopback "
        "its own names always are, and no others (DNS rebinding); elsewhere all are, unless this is set.",
    )
    trusted_proxies: tuple[Proxy, ...] = Field(
        ("127.0.0.1", "::1"),
        description="Addresses and networks of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.",
    )
