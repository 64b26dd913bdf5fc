"""`yeoul token`, and keys that `yeoul serve` refuses to start with, as their users meet them."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from support.command import yeoul
from support.reader import ask
from support.serving import yeoul_serve
from support.tokens import SECRET, bearer, demo_token, make_jwt

KEYED = {"YEOUL_JWT_SECRET": SECRET}
ED = ed25519.Ed25519PrivateKey.generate()
PUBLIC = ED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PRIVATE = ED.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


# --- create


def test_a_token_is_printed_alone_and_says_what_was_asked(tmp_path: Path) -> None:
    options = ["--name", "Ann", "--email", "ann@example.com", "--role", "user", "--role", "cook", "--expires", "15m"]
    grants = ["--subscribe", "chat/*", "--subscribe", "news", "--publish", "chat/a"]
    env = {**KEYED, "YEOUL_JWT_AUDIENCE": "yeoul", "YEOUL_JWT_ISSUER": "me"}
    done = yeoul("token", "create", "--user", "u1", *options, *grants, cwd=tmp_path, **env)
    assert (done.returncode, done.stderr) == (0, "")
    text = done.stdout.removesuffix("\n")
    claims = jwt.decode(text, SECRET, algorithms=["HS256"], audience="yeoul", issuer="me")
    assert claims.pop("exp") - claims["iat"] == 900
    assert abs(claims.pop("iat") - time.time()) < 30
    assert claims == {
        "sub": "u1",
        "aud": "yeoul",
        "iss": "me",
        "name": "Ann",
        "email": "ann@example.com",
        "roles": ["user", "cook"],
        "yeoul": {"subscribe": ["chat/*", "news"], "publish": ["chat/a"]},
    }


def test_a_private_key_signs_by_its_own_algorithm(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(PRIVATE)
    command = ["token", "create", "--user", "u1", "--key", "key.pem"]
    done = yeoul(*command, YEOUL_JWT_PUBLIC_KEY=PUBLIC, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert jwt.decode(done.stdout.strip(), ED.public_key(), algorithms=["EdDSA"])["sub"] == "u1"
    done = yeoul(*command, cwd=tmp_path, **KEYED)
    assert done.returncode == 0
    assert "would refuse it" in done.stderr


def test_where_no_key_is_set_a_demo_token_is_made(tmp_path: Path) -> None:
    options = ["--name", "Ann", "--email", "ann@example.com", "--role", "user"]
    done = yeoul("token", "create", "--user", "u1", *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, demo_token() + "\n")
    assert "this is a demo token" in done.stderr


# --- explain


def test_a_good_token_is_explained(tmp_path: Path) -> None:
    text = make_jwt(
        "u1", seconds=3 * 86_400 + 3_600, name="Ann", iat=time.time() - 3 * 86_400, note="\x1b[31m\x9b\u202e<b>[red]"
    )
    done = yeoul("token", "explain", given=f"Bearer {text}\n", cwd=tmp_path, **KEYED)
    assert (done.returncode, done.stderr) == (0, "")
    for said in (
        "HS256",
        "3 days ago",
        "UTC, in 3 days",
        "✓ signature",
        "✓ exp",
        "notifications/u1",
        "accepted: as u1",
    ):
        assert said in done.stdout
    assert "✗" not in done.stdout
    assert "refused:" not in done.stdout
    assert r"\u001b[31m\u009b\u202e<b>[red]" in done.stdout  # what a terminal would obey is shown, not sent
    assert not any(char in done.stdout for char in "\x1b\x9b\u202e")
    assert text.rpartition(".")[2] not in done.stdout
    assert SECRET not in done.stdout


# --- serve


@pytest.mark.parametrize(
    ("arguments", "env", "said"),
    [
        (["--host", "0.0.0.0"], {}, "on 0.0.0.0 other machines can reach this server, and no key is set"),
        (
            [],
            {"YEOUL_JWT_SECRET": "hunter2"},
            "setting jwt_secret: it has 7 bytes: an HS256 secret has at least 32",
        ),
    ],
)
def test_the_server_does_not_start_with_weak_keys(
    tmp_path: Path, arguments: list[str], env: dict[str, str], said: str
) -> None:
    done = yeoul("serve", "--port", "0", *arguments, cwd=tmp_path, **env)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert "hunter2" not in done.stderr


async def test_the_demo_modes_start_lines_name_a_token_that_works() -> None:
    with yeoul_serve() as served:
        assert served.process.stderr is not None
        lines = iter(served.process.stderr.readline, "")
        line = next(line for line in lines if "Authorization: Bearer" in line)
        text = line.partition("Bearer ")[2].partition("'")[0]
        assert (await ask(served.port, "/topics/notifications/u1", method="HEAD", headers=bearer(text))).status == 200
        assert (await ask(served.port, "/topics/notifications/u2", method="HEAD", headers=bearer(text))).status == 403


async def test_a_token_of_the_command_line_is_taken_by_the_server(tmp_path: Path) -> None:
    text = yeoul("token", "create", "--user", "u1", "--publish", "news", cwd=tmp_path, **KEYED).stdout.strip()
    with yeoul_serve("--host", "0.0.0.0", env=KEYED) as served:
        for headers, status in (
            (bearer(text), 202),
            ({}, 401),
            (bearer(make_jwt()), 403),
            (bearer(make_jwt(secret=SECRET[::-1])), 401),
        ):
            answer = await ask(served.port, "/topics/news", method="POST", headers=headers, json_body={"data": "x"})
            assert answer.status == status
