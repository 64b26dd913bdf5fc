"""`yeoul token`: what it refuses to make, and how it explains what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from typer.testing import CliRunner

from support.tokens import SECRET, demo_token, make_jwt
from yeoul.cli.token import token

KEYED = {"YEOUL_JWT_SECRET": SECRET}
ED = ed25519.Ed25519PrivateKey.generate()
PUBLIC = ED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PRIVATE = ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without the settings of whoever runs the tests."""
    for name in os.environ:
        if name.startswith(("YEOUL_", "OPENAI_", "HF_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def yeoul(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Any:
    return CliRunner().invoke(token, list(arguments), input=stdin, env=env)


@pytest.mark.parametrize(
    ("options", "env", "said"),
    [
        (["--user", "", "--expires", "1h"], KEYED, "`sub` must be a string"),
        (["--user", "a\nb"], KEYED, "`sub` must be a string"),
        (["--user", "u1", "--expires", "soon"], KEYED, "write 30s, 15m, 1h or 7d"),
        (["--user", "u1", "--expires", "0s"], {**KEYED, "YEOUL_JWT_LEEWAY_S": "0"}, "token expired"),
        (["--user", "u1", "--expires", "31d"], KEYED, "the limit is 30 days"),
        (["--user", "u1", "--subscribe", "x" * 251], KEYED, "`yeoul.subscribe` must be a list"),
        (["--user", "u1", *(["--publish", "x" * 200] * 90)], KEYED, "longer than 8 KiB"),
        (["--user", "u1", "--key", "none.pem"], KEYED, "neither PEM text nor a readable PEM file"),
        (["--user", "u1"], {"YEOUL_JWT_PUBLIC_KEY": PUBLIC}, "pass the private key with --key"),
        (["--user", "u1"], {"YEOUL_JWT_SECRET": "short"}, "jwt_secret: it has 5 bytes"),
        (["--user", "u1", "--expires", "1h"], {}, "set YEOUL_JWT_SECRET, or pass --key"),
        (["--user", "a:b"], {}, "no field may hold a colon|four fields"),
    ],
)
def test_what_no_server_would_take_is_not_made(options: list[str], env: dict[str, str], said: str) -> None:
    done = yeoul("create", *options, env=env)
    assert (done.exit_code, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert any(text in done.stderr for text in said.split("|"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (make_jwt(seconds=-3_600), ["✗ exp", "token expired", "✓ signature"]),
        (make_jwt(secret=SECRET[::-1], roles="admin"), ["✗ signature", "matches no key", "✗ roles"]),
        (jwt.encode({"sub": "u1"}, PRIVATE, algorithm="EdDSA"), ["✗ signature", "'EdDSA'", "✗ exp"]),
        (demo_token(), ["only demo mode accepts"]),
        ("nonsense", ["not a JWT"]),
        ("", ["not a JWT"]),
        ("x" * 100_000, ["longer than 8 KiB"]),
    ],
)
def test_a_token_that_is_not_taken_is_explained(text: str, said: list[str]) -> None:
    done = yeoul("explain", stdin=text, env=KEYED)
    assert (done.exit_code, done.stderr) == (1, "")
    assert "refused: " in done.stdout
    assert [each for each in said if each not in done.stdout] == []
    assert SECRET not in done.stdout


def test_an_argument_is_taken_too_and_demo_tokens_are_explained() -> None:
    done = yeoul("explain", demo_token("u1", roles="admin"))
    assert done.exit_code == 0
    assert "everything" in done.stdout
    assert "accepted: as u1" in done.stdout
    done = yeoul("explain", make_jwt("u1"))
    assert done.exit_code == 1
    assert "u1" in done.stdout
    assert "set YEOUL_JWT_SECRET" in done.stdout
