"""`yeoul token`: create a token, or explain why a server accepts or refuses one."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..auth.authenticator import Authenticator
from ..auth.demo import make_demo_token
from ..auth.duration import duration_text, parse_duration
from ..auth.explanation import Explanation, Finding, explain
from ..auth.identity import Identity
from ..auth.keys import Key, secret_key, sign, signing_key
from ..auth.tokens import MAX_TOKEN_BYTES, Rules, looks_like_jwt, read_compact
from ..errors import InvalidToken, KeysUnavailable
from ..printable import json_line, printable
from ..settings import Settings
from .console import note, reporting_errors, results

__all__ = ["token"]

token = typer.Typer(help="Create and explain tokens.", no_args_is_help=True)

# Claims that are a time in Unix seconds.
_TIMES = ("exp", "nbf", "iat", "auth_time")

_LIFE = "1h"


@token.command("create")
def _create(
    *,
    user: Annotated[str, typer.Option(help="The user's id (`sub`).")],
    name: Annotated[str | None, typer.Option(help="The user's display name.")] = None,
    email: Annotated[str | None, typer.Option(help="The user's email address.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role; may be repeated. `admin` may do everything.")] = None,
    subscribe: Annotated[
        list[str] | None, typer.Option(help="A topic or pattern that may be followed, instead of the defaults.")
    ] = None,
    publish: Annotated[
        list[str] | None, typer.Option(help="A topic or pattern that may be published to, instead of the defaults.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Lifetime: 30s, 15m, 1h, 7d.", show_default=_LIFE)] = None,
    key: Annotated[
        Path | None, typer.Option(help="A private key (PEM) to sign with.", show_default="jwt_secret")
    ] = None,
) -> None:
    """Print a token for this server, signed with its secret or with a private key. In demo mode, a demo token."""
    grants = {kind: list(patterns) for kind, patterns in (("subscribe", subscribe), ("publish", publish)) if patterns}
    with reporting_errors(2):
        settings, authenticator, rules = _server()
        if authenticator.demo and key is None:
            if grants or expires is not None:
                raise ValueError("a demo token has no grants and does not expire: set YEOUL_JWT_SECRET, or pass --key")
            typer.echo(make_demo_token(user, name or "", email or "", role or ()))
            note("this is a demo token, since no key is configured: only a server on this machine accepts it")
            return
        made = _claims(settings, user, parse_duration(expires or _LIFE))
        said = {"name": name, "email": email, "roles": role, "yeoul": grants}
        made |= {claim: value for claim, value in said.items() if value}
        rules.read(made, time.time())
        text = sign(made, _signer(settings, key))
        if len(text) > MAX_TOKEN_BYTES:
            raise ValueError(
                f"the token would be longer than {MAX_TOKEN_BYTES // 1024} KiB: use fewer or shorter claims"
            )
    typer.echo(text)
    if key is not None and not asyncio.run(_has_key(authenticator, text)):
        note("note: the server configured here does not have the public key for this token, and would refuse it")


@token.command("explain")
def _explain(
    text: Annotated[str, typer.Argument(metavar="[TOKEN|-]", help="Read from standard input by default.")] = "-",
) -> None:
    """Show a token's claims, and whether this server would accept it. Exit code 1 if it would not.

    An argument stays in the shell's history: prefer standard input.
    """
    with reporting_errors(2):
        _, authenticator, _ = _server()
    if text == "-":
        text = _read()
    explanation, identity, refused = asyncio.run(_judge(authenticator, text))
    console = results()
    for title, values in (("header", explanation.header), ("claims", explanation.payload)):
        if values:
            _show(console, title, [(claim, _shown(claim, value)) for claim, value in values.items()])
    _show(console, "checks", [_row(finding) for finding in explanation.findings])
    if identity is None:
        console.print(Text(f"refused: {refused}", style="bold red"))
        raise typer.Exit(1)
    _show(console, "grants", _granted(identity))
    console.print(Text(f"accepted: {_verdict(identity)}", style="bold green"))


async def _judge(authenticator: Authenticator, text: str) -> tuple[Explanation, Identity | None, str]:
    """Each check, and the verdict of the server's own authenticator, which is what counts."""
    explanation, identity, refused = Explanation(), None, ""
    try:
        try:
            identity = await authenticator.token(text, "bearer")
        except (InvalidToken, KeysUnavailable) as error:
            refused = str(error)
        if looks_like_jwt(text):
            explanation = await explain(text, authenticator.tokens, time.time())
        else:
            explanation.findings.append(Finding("form", "a demo token", refused or None))
    finally:
        await authenticator.close()
    return explanation, identity, refused


async def _has_key(authenticator: Authenticator, text: str) -> bool:
    try:
        if authenticator.tokens is not None:
            await authenticator.tokens.check_signature(read_compact(text))
    except (InvalidToken, KeysUnavailable):
        return False
    finally:
        await authenticator.close()
    return True


def _server() -> tuple[Settings, Authenticator, Rules]:
    from ..factories import make_authenticator, token_rules  # noqa: PLC0415 (slow to import, and not needed by the other commands)

    settings = Settings()
    return settings, make_authenticator(settings), token_rules(settings)


def _claims(settings: Settings, user: str, seconds: int) -> dict[str, Any]:
    now = int(time.time())
    set_here = {"aud": settings.jwt_audience, "iss": settings.jwt_issuer}
    return {"sub": user, "iat": now, "exp": now + seconds, **{claim: it for claim, it in set_here.items() if it}}


def _signer(settings: Settings, file: Path | None) -> Key:
    if file is not None:
        return signing_key(str(file))
    if settings.jwt_secret is None:
        raise ValueError("this server has only public keys: pass the private key with --key, or set YEOUL_JWT_SECRET")
    return secret_key(settings.jwt_secret.get_secret_value())


def _read() -> str:
    if sys.stdin.isatty():
        note("paste the token, then Enter and Ctrl+D")
    # More than the longest token, so that the check of the length reports one that is too long.
    text = sys.stdin.buffer.read(4 * MAX_TOKEN_BYTES).decode("latin-1").strip()
    return text.removeprefix("Bearer ").strip()


def _row(finding: Finding) -> tuple[Text, Text]:
    if finding.wrong is None:
        return Text(f"✓ {finding.what}", style="green"), Text(finding.right)
    return Text(f"✗ {finding.what}", style="red"), Text(finding.wrong)


def _shown(claim: str, value: Any) -> str:
    text = printable(value) if isinstance(value, str) else json_line(value)
    if claim not in _TIMES or isinstance(value, bool) or not isinstance(value, int | float):
        return text
    try:
        when = datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        return text
    away = value - time.time()
    ahead = f"in {duration_text(away)}" if away >= 0 else f"{duration_text(-away)} ago"
    return f"{text}  ({when:%Y-%m-%d %H:%M:%S} UTC, {ahead})"


def _granted(identity: Identity) -> list[tuple[str, str]]:
    if identity.is_admin:
        return [("everything", "role admin")]
    kinds = (("follow", identity.grants.subscribe), ("publish to", identity.grants.publish))
    return [(what, printable(", ".join(it.text for it in patterns)) or "nothing") for what, patterns in kinds]


def _verdict(identity: Identity) -> str:
    until = "for ever" if identity.expires is None else f"for {duration_text(identity.expires - time.time())} more"
    return f"as {printable(identity.user or '')}, {until}, unless it has been revoked (only the running server knows)"


def _show(console: Console, title: str, rows: Sequence[tuple[Text | str, Text | str]]) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for left, right in rows:
        table.add_row(*(it if isinstance(it, Text) else Text(printable(it)) for it in (left, right)))
    console.print(Text(title, style="bold"))
    console.print(table)
