"""What routes ask about their caller."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from yeoul.asgi.authentication import (
    IDENTITY,
    caller_of,
    principal_of,
    require_admin,
    require_publish,
    require_subscribe,
    require_user,
)
from yeoul.asgi.errors import Problem
from yeoul.auth.identity import OPERATOR, Grants, Identity

USER = Identity(user="u1", name="Ann", grants=Grants.of(["chat/*"], ["chat/a"]), expires=9.0, way="bearer")


def request(identity: Identity | None = None) -> Request:
    scope = {"type": "http", "path": "/", "query_string": b"", "headers": [], "client": ("10.0.0.1", 5)}
    if identity is not None:
        scope[IDENTITY] = identity
    return Request(scope)


def refusal(call: object, *arguments: object) -> Problem:
    with pytest.raises(Problem) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value


def test_without_authentication_the_caller_is_anonymous() -> None:
    assert not caller_of(request()).known
    problem = refusal(require_user, request())
    assert problem.status == 401
    assert problem.headers == {"WWW-Authenticate": 'Bearer realm="yeoul"'}


def test_a_stream_is_for_whom_it_was_asked_by() -> None:
    principal = principal_of(request(USER))
    assert (principal.user, principal.name, principal.address, principal.expires) == ("u1", "Ann", "10.0.0.1", 9.0)


def test_what_is_granted_may_be_done_and_denials_name_topic_and_claim() -> None:
    assert require_subscribe(request(USER), ["chat/a", "chat/b"]) is USER
    assert require_publish(request(USER), "chat/a") is USER
    denied = refusal(require_subscribe, request(USER), ["chat/a", "realtime"])
    assert denied.status == 403
    assert "'realtime'" in denied.detail
    assert "yeoul.subscribe" in denied.detail
    denied = refusal(require_publish, request(USER), "chat/b")
    assert "'chat/b'" in denied.detail
    assert "yeoul.publish" in denied.detail
    assert denied.headers == {"WWW-Authenticate": 'Bearer realm="yeoul", error="insufficient_scope"'}


def test_an_anonymous_request_gets_401_before_403() -> None:
    assert refusal(require_subscribe, request(), ["chat/a"]).status == 401
    assert refusal(require_publish, request(), "chat/a").status == 401
    assert refusal(require_admin, request()).status == 401


def test_a_ticket_is_for_its_topics_and_for_following_alone() -> None:
    bound = Identity(user="u1", grants=Grants.of(["*"], ["*"]), way="ticket", topics=frozenset({"chat/a"}))
    assert require_subscribe(request(bound), ["chat/a"]) is bound
    assert "ticket is not for" in refusal(require_subscribe, request(bound), ["chat/b"]).detail
    assert refusal(require_publish, request(bound), "chat/a").status == 403


def test_only_admins_may_do_what_admins_do() -> None:
    assert require_admin(request(OPERATOR)) is OPERATOR
    assert require_subscribe(request(OPERATOR), ["anything/at/all"]) is OPERATOR
    assert refusal(require_admin, request(USER)).status == 403
