"""From a request to an identity: which way in counts, which is refused, and what is said then."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from support.gate import gated, http_scope
from support.tokens import SECRET, demo_token, make_jwt
from yeoul.asgi.authentication import IDENTITY, Authentication
from yeoul.asgi.headers import RawHeaders
from yeoul.asgi.origins import TRUSTED_PAGE, Origins
from yeoul.auth.authenticator import Authenticator
from yeoul.auth.identity import Identity
from yeoul.auth.keys import secret_key
from yeoul.auth.tickets import Tickets
from yeoul.auth.tokens import Rules, Tokens


class _Pages(Origins):
    """Takes the word of the test for which page sent the request."""

    def check(self, scope: Scope, headers: RawHeaders) -> None:
        pass


@dataclass
class Site:
    """The gate in front of an application that notes who came."""

    demo: bool = False
    query_tokens: bool = False
    revoked: set[str] = field(default_factory=set)
    revoke_meanwhile: str | None = None
    content_type: str = "text/event-stream; charset=utf-8"
    came: list[Identity] = field(default_factory=list)
    left: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        tokens = None if self.demo else Tokens([secret_key(SECRET)], Rules())
        authenticator = Authenticator(demo=self.demo, tokens=tokens, revoked=self.is_revoked, open_topics=["open"])
        self.tickets = Tickets(revoked=self.is_revoked)
        authentication = Authentication(
            authenticator, self.tickets, revoked=self.is_revoked, cookie="session", query_tokens=self.query_tokens
        )
        self.app = gated(self._note, origins=_Pages(), authentication=authentication)

    def is_revoked(self, user: str, issued: float | None) -> bool:
        return user in self.revoked

    async def _note(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.came.append(scope[IDENTITY])
        if self.revoke_meanwhile is not None:
            self.revoked.add(self.revoke_meanwhile)
        try:
            headers = [(b"content-type", self.content_type.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        except BaseException as error:
            self.left.append(error)
            raise
        await send({"type": "http.response.body"})

    async def ask(
        self,
        query: str = "",
        *,
        method: str = "GET",
        server: tuple[str, int | None] | None = ("127.0.0.1", 8000),
        client: str = "127.0.0.1",
        own: bool | None = None,
        **headers: str,
    ) -> Told:
        sent = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = http_scope(method, "/topics/a", headers=[(b"host", b"localhost"), *sent], query=query.encode())
        scope |= {"client": (client, 5), "server": server, TRUSTED_PAGE: own}
        told: list[Message] = []

        async def send(message: Message) -> None:
            told.append(message)

        came = len(self.came)
        await self.app(scope, None, send)  # type: ignore[arg-type]
        body = b"".join(message.get("body", b"") for message in told[1:])
        got = [(name.decode(), value.decode()) for name, value in told[0]["headers"]]
        return Told(told[0]["status"], got, body, self.came[came] if len(self.came) > came else None)


@dataclass
class Told:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    identity: Identity | None

    @property
    def user(self) -> str | None:
        assert self.identity is not None, self.body
        return self.identity.user

    @property
    def detail(self) -> str:
        assert self.status >= 400
        return str(json.loads(self.body)["detail"])

    @property
    def cookies(self) -> list[str]:
        return [value for name, value in self.headers if name == "set-cookie"]


def bearer(token: str) -> str:
    return f"Bearer {token}"


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def demo() -> Site:
    return Site(demo=True)


async def ticket_of(site: Site, token: str) -> str:
    identity = (await site.ask(authorization=bearer(token))).identity
    assert identity is not None
    return await site.tickets.issue(identity)


# --- which way in


async def test_a_bearer_token_comes_before_the_cookie(site: Site) -> None:
    told = await site.ask(authorization=bearer(make_jwt("ann")), cookie=f"session={make_jwt('bob')}")
    assert told.user == "ann"
    assert told.identity is not None
    assert told.identity.way == "bearer"


async def test_a_ticket_comes_before_the_cookie(site: Site) -> None:
    text = await ticket_of(site, make_jwt("ann"))
    told = await site.ask(f"ticket={text}", cookie=f"session={make_jwt('bob')}")
    assert told.user == "ann"


async def test_without_a_credential_the_caller_is_anonymous(site: Site) -> None:
    told = await site.ask()
    assert told.user is None
    assert told.identity is not None
    assert told.identity.refused is None
    assert told.identity.may_subscribe("open")
    assert not told.identity.is_admin


async def test_more_than_one_explicit_credential_is_a_bad_request(site: Site) -> None:
    text = await ticket_of(site, make_jwt("ann"))
    told = await site.ask(f"ticket={text}", authorization=bearer(make_jwt("ann")))
    assert (told.status, told.identity) == (400, None)
    assert (await site.ask(f"ticket={text}")).status == 200, "it was not used"


async def test_a_bad_credential_is_refused_even_where_a_good_cookie_comes_with_it(site: Site) -> None:
    told = await site.ask(authorization="Bearer nonsense", cookie=f"session={make_jwt('bob')}")
    assert (told.status, told.identity) == (401, None)
    assert ("www-authenticate", 'Bearer realm="yeoul", error="invalid_token"') in told.headers


async def test_an_invalid_cookie_is_anonymous_and_the_reason_is_kept(site: Site) -> None:
    for cookie in ("nonsense", make_jwt("bob", seconds=-60), make_jwt("bob", secret="x" * 40)):
        told = await site.ask(cookie=f"session={cookie}")
        assert (told.status, told.user) == (200, None)
        assert told.identity is not None
        assert told.identity.refused is not None
        assert told.identity.refused.startswith("the cookie 'session' is not accepted (")
        assert cookie not in told.identity.refused
    assert (await site.ask(cookie=f"other={make_jwt('bob')}")).user is None
    assert (await site.ask(cookie=f"session={make_jwt('bob')}")).user == "bob"


async def test_a_token_in_the_query_is_refused_and_told_of_tickets(site: Site) -> None:
    token = make_jwt("ann")
    told = await site.ask(f"token={token}")
    assert told.status == 401
    assert "/auth/tickets" in told.detail
    assert token not in told.body.decode()


async def test_a_token_in_the_query_is_taken_where_that_is_wanted() -> None:
    site = Site(query_tokens=True)
    told = await site.ask(f"access_token={make_jwt('ann')}")
    assert told.user == "ann"
    assert told.identity is not None
    assert told.identity.way == "query"


# --- tickets


async def test_a_ticket_is_used_up_by_a_get_and_a_pass_comes_of_it(site: Site) -> None:
    text = await ticket_of(site, make_jwt("ann", seconds=86_400))
    told = await site.ask(f"ticket={text}")
    assert told.user == "ann"
    (cookie,) = told.cookies
    name, _, value = cookie.partition(";")[0].partition("=")
    assert name == "yeoul_pass"
    assert "; HttpOnly; SameSite=Strict" in cookie
    assert 85_000 <= int(cookie.partition("Max-Age=")[2].partition(";")[0]) <= 86_405
    again = await site.ask(f"ticket={text}", cookie=f"yeoul_pass={value}")
    assert again.identity is not None
    assert (again.user, again.identity.way, again.cookies) == ("ann", "pass", [])
    without = await site.ask(f"ticket={text}")
    assert without.status == 401
    assert "has been used" in without.detail


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("header", [False, True])
async def test_no_other_method_uses_it_up(site: Site, method: str, header: bool) -> None:
    text = await ticket_of(site, make_jwt("ann"))
    query, headers = ("", {"authorization": f"Ticket {text}"}) if header else (f"ticket={text}", {})
    told = await site.ask(query, method=method, **headers)
    if method in ("HEAD", "OPTIONS"):
        assert told.user is None
        assert told.identity is not None
        assert told.identity.refused is not None
    else:
        assert told.status == 401
        assert "for GET" in told.detail
    assert (await site.ask(query, **headers)).user == "ann"


async def test_an_internal_ticket_is_for_any_method_and_once(site: Site) -> None:
    identity = (await site.ask(authorization=bearer(make_jwt("ann")))).identity
    assert identity is not None
    text = await site.tickets.issue(identity, internal=True)
    assert (await site.ask(f"ticket={text}")).status == 401
    told = await site.ask(method="POST", authorization=f"Ticket {text}")
    assert (told.user, told.cookies) == ("ann", [])
    assert (await site.ask(method="POST", authorization=f"Ticket {text}")).status == 401


# --- cookies, and whose pages send them


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_cookie_changes_something_only_from_an_own_page(site: Site, method: str) -> None:
    cookie = f"session={make_jwt('bob')}"
    told = await site.ask(method=method, cookie=cookie)
    assert (told.status, told.identity) == (403, None)
    assert "Authorization: Bearer" in told.detail
    assert (await site.ask(method=method, cookie=cookie, own=True)).user == "bob"
    assert (await site.ask(method=method, authorization=bearer(make_jwt("bob")))).user == "bob"
    assert (await site.ask(method="GET", cookie=cookie)).user == "bob"


# --- demo mode


async def test_in_demo_mode_local_requests_are_the_operators(demo: Site) -> None:
    for server in (("127.0.0.1", 1), ("::1", 1), ("::ffff:127.0.0.1", 1)):
        told = await demo.ask(server=server)
        assert told.identity is not None
        assert told.identity.is_admin
        assert told.user is None
    for headers in ({"x_forwarded_for": "1.2.3.4"}, {"forwarded": "for=1.2.3.4"}, {"via": "1.1 x"}):
        told = await demo.ask(**headers)
        assert told.identity is not None
        assert not told.identity.is_admin


async def test_in_demo_mode_the_demo_token_is_taken_in_the_query_too(demo: Site) -> None:
    token = demo_token("u1")
    assert (await demo.ask(f"token={token}")).user == "u1"
    assert (await demo.ask(authorization=bearer(token))).user == "u1"
    assert (await demo.ask(cookie=f"session={token}")).user == "u1"


async def test_a_demo_token_through_a_proxy_makes_no_admin(demo: Site) -> None:
    token = demo_token("u1", roles="admin,user")
    local, proxied = await demo.ask(f"token={token}"), await demo.ask(f"token={token}", x_forwarded_for="1.2.3.4")
    assert local.identity is not None
    assert proxied.identity is not None
    assert local.identity.roles == {"admin", "user"}
    assert (proxied.user, proxied.identity.roles) == ("u1", {"user"})


@pytest.mark.parametrize("server", [("192.168.0.7", 8000), ("0.0.0.0", 8000), ("/run/yeoul.sock", None), None])
async def test_in_demo_mode_nothing_is_trusted_that_came_to_another_address(
    demo: Site, server: tuple[str, int | None] | None
) -> None:
    told = await demo.ask(server=server)
    assert told.user is None
    assert told.identity is not None
    assert not told.identity.is_admin
    assert told.identity.refused is not None
    assert "YEOUL_JWT_SECRET" in told.identity.refused
    text = await ticket_of(demo, demo_token("u1"))
    for query, headers in (
        (f"token={demo_token('u1')}", {}),
        (f"ticket={text}", {}),
        ("", {"authorization": bearer(demo_token("u1"))}),
        ("", {"authorization": f"Ticket {text}"}),
    ):
        told = await demo.ask(query, server=server, **headers)
        assert (told.status, told.identity) == (401, None)
        assert "YEOUL_JWT_SECRET" in told.detail
    told = await demo.ask(server=server, cookie=f"session={demo_token('u1')}")
    assert told.user is None


async def test_with_a_key_it_does_not_matter_where_a_request_came_to(site: Site) -> None:
    told = await site.ask(server=("/run/yeoul.sock", None), authorization=bearer(make_jwt("ann")))
    assert told.user == "ann"
    nobody = await site.ask()
    assert nobody.identity is not None
    assert not nobody.identity.is_admin


# --- revoked meanwhile


async def test_who_is_revoked_while_a_stream_opens_gets_none(site: Site) -> None:
    site.revoke_meanwhile = "ann"
    told = await site.ask(authorization=bearer(make_jwt("ann")))
    assert told.status == 401
    assert "revoked" in told.detail
    assert len(site.left) == 1, "whoever answers is told, to let go of what it holds"
    site.revoke_meanwhile = None
    assert (await site.ask(authorization=bearer(make_jwt("bob")))).status == 200


async def test_another_answer_that_was_under_way_is_given(site: Site) -> None:
    """So an admin who revokes himself hears that it is done."""
    site.revoke_meanwhile, site.content_type = "ann", "application/json"
    assert (await site.ask(authorization=bearer(make_jwt("ann")))).status == 200
    assert (await site.ask(authorization=bearer(make_jwt("ann")))).status == 401


async def test_a_failure_of_the_application_stays_what_it_is(site: Site) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    site.app._app.pass_on = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        await site.ask(authorization=bearer(make_jwt("ann")))
