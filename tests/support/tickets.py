"""Tickets and cookies as clients use them."""

from __future__ import annotations

from collections.abc import Sequence

from support.reader import Answer, RawStream, ask
from support.tokens import bearer, demo_token

__all__ = ["cookie_of", "issue_ticket", "revoke"]


async def issue_ticket(port: int, token: str | None = None, topics: Sequence[str] | None = None) -> str:
    """A ticket requested with this token, by default that of the demo user `u1`."""
    body = None if topics is None else {"topics": topics}
    answer = await ask(port, "/auth/tickets", method="POST", headers=bearer(token or demo_token()), json_body=body)
    assert answer.status == 201, answer
    return str(answer.json()["ticket"])


def cookie_of(answer: Answer | RawStream) -> dict[str, str]:
    """The header by which a browser sends back the cookie that it was given."""
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


async def revoke(port: int, user: str, *, by: str | None = None) -> Answer:
    headers = bearer(by or demo_token("root", roles="admin"))
    return await ask(port, "/auth/revocations", method="POST", headers=headers, json_body={"userId": user})
