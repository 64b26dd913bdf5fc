"""From a token to an identity, in demo mode and with keys."""

from __future__ import annotations

import time

import pytest

from support.tokens import SECRET, demo_token, make_jwt
from yeoul.auth.authenticator import Authenticator
from yeoul.auth.demo import make_demo_token
from yeoul.auth.identity import Grants
from yeoul.auth.keys import secret_key
from yeoul.auth.tokens import CompactToken, Rules, Tokens
from yeoul.errors import InvalidToken

TOKENS = Tokens([secret_key(SECRET)], Rules(leeway=5))
USUAL = {"subscribe": ["notifications/{user}", "chat/*"], "publish": ["chat/*"], "open_topics": ["system/status"]}


def with_key(**options: object) -> Authenticator:
    return Authenticator(demo=False, tokens=TOKENS, **{**USUAL, **options})  # type: ignore[arg-type]


async def refusal(authenticator: Authenticator, text: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        await authenticator.token(text, "bearer")
    assert text not in str(caught.value)
    return str(caught.value)


async def test_a_token_becomes_an_identity() -> None:
    expires = time.time() + 60
    text = make_jwt("auth0|42", name="Ann", email="ann@example.com", roles=["user"], exp=expires)
    identity = await with_key().token(text, "cookie")
    assert (identity.user, identity.name, identity.email) == ("auth0|42", "Ann", "ann@example.com")
    assert (identity.roles, identity.way, identity.topics) == (frozenset({"user"}), "cookie", None)
    assert identity.expires == expires + 5
    assert identity.grants == Grants.of(["notifications/auth0~7C42", "chat/*", "system/status"], ["chat/*"])


async def test_a_yeoul_claim_replaces_the_default_grants() -> None:
    identity = await with_key().token(make_jwt(yeoul={"subscribe": ["news"]}), "bearer")
    assert identity.grants == Grants.of(["news", "system/status"])
    assert not identity.may_publish("chat/a")


async def test_revoked_tokens_are_refused() -> None:
    issued = time.time() - 7
    asked: list[tuple[str, float | None]] = []

    def revoked(user: str, issued: float | None) -> bool:
        asked.append((user, issued))
        return user == "bad"

    authenticator = with_key(revoked=revoked)
    assert (await authenticator.token(make_jwt("good", iat=issued), "bearer")).user == "good"
    assert "has been revoked: log in again" in await refusal(authenticator, make_jwt("bad"))
    await refusal(authenticator, make_jwt("worse", seconds=-100))  # refused before `revoked` is asked
    assert asked[0] == ("good", issued)
    assert [user for user, _ in asked] == ["good", "bad"]
    demo = Authenticator(demo=True, revoked=revoked)
    assert "has been revoked" in await refusal(demo, demo_token("bad"))
    assert asked[-1] == ("bad", None)


async def test_demo_tokens_are_accepted_in_demo_mode_only() -> None:
    identity = await Authenticator(demo=True, **USUAL).token(demo_token(), "query")
    assert (identity.user, identity.name, identity.expires, identity.way) == ("u1", "Ann", None, "query")
    assert identity.may_subscribe("notifications/u1")
    assert not identity.may_subscribe("notifications/u2")
    said = await refusal(with_key(), demo_token())
    assert "demo token, which only demo mode accepts, since it proves nothing" in said


@pytest.mark.parametrize("key", ["sk-1234567890abcdef", "sk-proj-a.b.c", "EMPTY", "ollama", "hf_abcdef", ""])
async def test_an_api_key_in_demo_mode_is_refused_with_what_to_send_instead(key: str) -> None:
    with pytest.raises(InvalidToken) as caught:
        await Authenticator(demo=True).token(key, "bearer")
    said = str(caught.value)
    assert ("this is an API key, not a token of this server" in said) == key.startswith("sk-")
    assert "Send one (clients of OpenAI's API: as the API key), or no Authorization header" in said
    assert "set YEOUL_JWT_SECRET" in said
    example = said.partition("for example ")[2].partition(". ")[0]
    assert (await Authenticator(demo=True).token(example, "bearer")).user == "u1"


async def test_an_api_key_is_refused_with_what_to_send_instead() -> None:
    said = await refusal(with_key(), "sk-1234567890abcdef")
    assert "this is an API key, not a token of this server: send a JWT" in said


async def test_a_jwt_in_demo_mode_is_refused_with_the_setting_to_change() -> None:
    said = await refusal(Authenticator(demo=True), make_jwt())
    assert "runs in demo mode" in said
    assert "YEOUL_JWT_SECRET" in said


async def test_other_text_is_refused_with_the_right_form() -> None:
    assert "not a JWT" in await refusal(with_key(), "nonsense!")
    assert "Base64 of" in await refusal(Authenticator(demo=True), "nonsense!")


async def test_without_keys_and_demo_mode_every_token_is_refused() -> None:
    for text in (make_jwt(), demo_token()):
        assert "has no key to verify tokens with" in await refusal(Authenticator(demo=False), text)


def test_make_demo_token_refuses_fields_that_cannot_be_read_back() -> None:
    assert make_demo_token("u1", "Ann", "ann@example.com", ["user"]) == demo_token()
    for user, name in (("", ""), ("a:b", ""), ("a", "b:c"), ("a\n", ""), ("a" * 2_000, "")):
        with pytest.raises(ValueError, match="a demo token is Base64"):
            make_demo_token(user, name)
    for role in ("a,b", " a", ""):
        with pytest.raises(ValueError, match="no role a comma"):
            make_demo_token("u1", roles=[role])


def count_signatures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    checked: list[str] = []
    check = Tokens.check_signature

    async def counted(self: Tokens, token: CompactToken) -> None:
        checked.append(token.algorithm)
        await check(self, token)

    monkeypatch.setattr(Tokens, "check_signature", counted)
    return checked


async def test_a_verified_token_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = count_signatures(monkeypatch)
    authenticator = with_key()
    text = make_jwt("ann")
    first = await authenticator.token(text, "bearer")
    assert await authenticator.token(text, "bearer") is first
    assert authenticator.remembered(text, "bearer") is first
    assert checked == ["HS256"]
    # Another way to send it makes another identity: a cookie counts only for pages of our own.
    assert (await authenticator.token(text, "cookie")).way == "cookie"
    assert authenticator.remembered(make_jwt("ann", seconds=61), "bearer") is None


async def test_a_remembered_token_expires() -> None:
    now = time.time()
    clock = [now]
    tokens = Tokens([secret_key(SECRET)], Rules(leeway=5), clock=lambda: clock[0])
    authenticator = Authenticator(demo=False, tokens=tokens)
    text = make_jwt("ann", exp=now + 60)
    await authenticator.token(text, "bearer")
    clock[0] = now + 64.9
    assert authenticator.remembered(text, "bearer") is not None
    clock[0] = now + 65
    assert authenticator.remembered(text, "bearer") is None
    assert "expired" in await refusal(authenticator, text)


async def test_a_remembered_token_can_be_revoked() -> None:
    revoked: set[str] = set()
    authenticator = with_key(revoked=lambda user, issued: user in revoked)
    text = make_jwt("ann")
    await authenticator.token(text, "bearer")
    revoked.add("ann")
    assert "has been revoked" in await refusal(authenticator, text)
    with pytest.raises(InvalidToken):
        authenticator.remembered(text, "bearer")


async def test_a_changed_token_is_not_mistaken_for_a_remembered_one() -> None:
    authenticator = with_key()
    text = make_jwt("ann")
    await authenticator.token(text, "bearer")
    head, payload, signature = text.split(".")
    for changed in (f"{head}.{payload}.{signature[:-2]}AA", f"{head}.{payload}.", f"{head}.{payload}A.{signature}"):
        assert authenticator.remembered(changed, "bearer") is None
        await refusal(authenticator, changed)


async def test_the_number_of_remembered_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yeoul.auth.authenticator._MAX_REMEMBERED", 3)
    authenticator = with_key()
    texts = [make_jwt(f"user{number}") for number in range(5)]
    for text in texts:
        await authenticator.token(text, "bearer")
    assert [authenticator.remembered(text, "bearer") is not None for text in texts] == [False, False, True, True, True]


async def test_a_refused_token_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = count_signatures(monkeypatch)
    authenticator = with_key()
    for _ in range(2):
        await refusal(authenticator, make_jwt("ann", secret=SECRET[::-1]))
    assert len(checked) == 2
