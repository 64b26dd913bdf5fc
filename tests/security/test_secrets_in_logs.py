"""A server in a process of its own, as talkative as it gets: no secret is in what it writes, nor in what it answers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from pydantic import ValidationError
from typer.testing import CliRunner

from support.reader import Answer, ask, open_stream
from support.serving import yeoul_serve
from support.settings import make_settings
from support.tickets import cookie_of, issue_ticket, revoke
from support.tokens import SECRET, bearer, make_jwt
from yeoul.app import create_app
from yeoul.cli.token import token as token_command
from yeoul.settings import complaints

pytestmark = pytest.mark.timeout(240)

PREVIOUS = "previous-secret-of-more-than-32-bytes-9876543210"
KEY = "sk-upstream-0123456789abcdef"
PRIVATE = ed25519.Ed25519PrivateKey.generate()
PUBLIC_PEM = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
PRIVATE_PEM = PRIVATE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
SAVED = "what-somebody-has-saved-here"

ADMIN = make_jwt("root", roles=["admin"])


async def visit(port: int) -> tuple[list[str], list[Answer]]:
    """All ways in, with good and bad secrets: those, and all that was answered."""
    ann, late, forged = make_jwt("ann"), make_jwt("ann", seconds=-60), make_jwt("ann", secret="x" * 40)
    used, unused, bound = [await issue_ticket(port, ann, topics) for topics in (None, None, ["chat/a"])]
    session = cookie_of(await ask(port, "/auth/session", method="POST", headers=bearer(ann)))
    stream = await open_stream(port, f"/topics/chat/a?ticket={used}")
    its_pass = cookie_of(stream)
    await stream.take(1)
    await stream.close()
    answers = []
    for token in (ann, late, forged, ann[:-4], ann + "x", "x" * 9_000):
        for headers in (bearer(token), {"Cookie": f"yeoul_token={token}"}, {"Authorization": f"Ticket {token}"}):
            paths = ("/auth/me", "/topics/a%20b", "/admin/connections", "/nowhere")
            answers += [await ask(port, path, headers=headers) for path in paths]
        names = ("token", "access_token", "ticket")
        answers += [await ask(port, f"/chat/stream?room=a&{name}={token}") for name in names]
    again = f"/topics/nope?ticket={used}&lastEventId=bad"
    answers += [
        await ask(port, again, headers=headers) for headers in (its_pass, {"Cookie": "yeoul_pass=" + "x" * 3_000})
    ]
    answers.append(await ask(port, f"/topics/chat/b?ticket={bound}"))
    answers.append(await ask(port, f"/sse/chat?message=x&ticket={unused}"))  # its model cannot be reached
    open_paths = ("/sse/chat-normal?message=x", "/generations", "/metrics", "/openapi.json", "/docs", "/livez")
    answers += [await ask(port, path, headers=bearer(ann)) for path in open_paths]
    recipe = {"title": "t", "ingredients": ["a"], "body": SAVED}
    answers.append(await ask(port, "/auth/revocations", headers=bearer(ADMIN)))
    assert (await ask(port, "/recipes", method="POST", headers=bearer(ann), json_body=recipe)).status == 201
    lists = ("/admin/overview", "/admin/connections", "/admin/topics")
    answers += [await ask(port, path, headers=bearer(ADMIN)) for path in lists]
    answers.append(await revoke(port, "ann", by=ADMIN))
    answers.append(await ask(port, "/auth/me", headers=session))
    secrets = [ADMIN, ann, late, forged, used, unused, bound, its_pass["Cookie"].partition("=")[2]]
    return [*secrets, SECRET, PREVIOUS, KEY, *PRIVATE_PEM.splitlines()[1:-1]], answers


def assert_silent(secrets: list[str], told: str, where: str) -> None:
    for secret in secrets:
        for part in (secret, *secret.split(".")):
            assert len(part) < 20 or part not in told, where


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json"])
async def test_a_server_that_tells_all_that_it_does_tells_no_secret(form: str, tmp_path: Path) -> None:
    env = {
        "YEOUL_LOG_FORMAT": form,
        "YEOUL_LOG_LEVEL": "debug",
        "YEOUL_JWT_SECRET": SECRET,
        "YEOUL_JWT_PREVIOUS_SECRET": PREVIOUS,
        "YEOUL_JWT_PUBLIC_KEY": PUBLIC_PEM,
        "OPENAI_API_KEY": KEY,
        "YEOUL_OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
    }
    with yeoul_serve(env=env, cwd=tmp_path) as served:
        secrets, answers = await visit(served.port)
        served.signal()
        code, err = await asyncio.to_thread(served.wait)
    assert code == 0, err
    written = "".join(served.first_lines) + err
    assert "stream ended" in written
    assert SAVED not in written, "what people save is theirs"
    assert_silent(secrets, written, "the log")
    for answer in answers:
        assert_silent(secrets, f"{answer.headers} {answer.text}", str(answer.headers))


@pytest.mark.parametrize("secret", [SECRET, "x" * 40])
def test_a_token_that_is_explained_is_not_told_back(secret: str) -> None:
    token = make_jwt("ann", secret=secret)
    done = CliRunner().invoke(token_command, ["explain"], input=token, env={"YEOUL_JWT_SECRET": SECRET})
    assert "ann" in done.output
    assert_silent([token, SECRET], done.output, "the explanation")


@pytest.mark.parametrize(
    "wrong",
    [
        {"jwt_secret": "short-secret-0123456789ab"},
        {"jwt_secret": PRIVATE_PEM},
        {"jwt_public_key": PRIVATE_PEM},
        {"jwt_public_key": "-----BEGIN PUBLIC KEY-----short-secret-0123456789ab"},
        {"jwt_jwks_url": "https://user:password-0123456789ab@id.example.com/"},
        {"jwt_secret": SECRET, "port": "x"},
    ],
)
def test_a_start_that_fails_shows_no_key(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"it |port") as raised:
        create_app(make_settings(**wrong))
    secrets = ["short-secret-0123456789ab", SECRET, "password-0123456789ab", *PRIVATE_PEM.splitlines()[1:-1]]
    told = "\n".join(complaints(raised.value)) if isinstance(raised.value, ValidationError) else str(raised.value)
    assert_silent(secrets, told + str(raised.value), "the reason")


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "example.com", "127.0.0.1.example.com", "localhost.com"]
)
def test_without_a_key_it_listens_to_this_machine_alone(host: str) -> None:
    with pytest.raises(ValueError, match="other machines can reach this server"):
        create_app(make_settings(host=host))
