"""Taking back what was given to a user."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from ...asgi.authentication import require_admin
from ...asgi.body import JsonBody
from ...asgi.errors import Problem
from ...asgi.openapi import problems
from ...auth.tickets import Tickets
from ...hub import Hub
from ...hub.reasons import REVOKED
from ...storage.revocations import Revocations

__all__ = ["revocations_app"]

_NO_STORE = {"Cache-Control": "no-store"}


class NewRevocation(JsonBody):
    userId: str = Field(min_length=1, max_length=1_000, description="the `sub` of the tokens")


class Revoked(BaseModel):
    """`at`: Unix seconds; what was issued until then is refused."""

    userId: str
    at: float


class RevokedNow(Revoked):
    closed: int = Field(description="streams of this user that were open here, and have been ended")


class RevokedList(BaseModel):
    revocations: list[Revoked]


def revocations_app(hub: Hub, tickets: Tickets, revocations: Revocations) -> APIRouter:
    # Asked before the fields of a body are.
    router = APIRouter(tags=["auth"], dependencies=[Depends(require_admin)])

    @router.post(
        "/auth/revocations", status_code=201, response_model=RevokedNow, summary="Take back what was given to a user"
    )
    async def revoke(wish: NewRevocation) -> Response:
        """Ends the user's streams at once, and refuses what was issued to that user until now. 201 once that is on the
        disk; 503 where it cannot be written: then the streams are ended, and nothing is refused."""
        closed = 0

        def at_once() -> None:
            nonlocal closed
            closed = hub.disconnect(lambda reader: reader.principal.user == wish.userId, REVOKED)

        revocation = await revocations.revoke(wish.userId, at_once)
        await tickets.drop(wish.userId)
        shown = RevokedNow(userId=revocation.user, at=revocation.at, closed=closed)
        return JSONResponse(shown.model_dump(), 201, _NO_STORE)

    @router.get("/auth/revocations", response_model=RevokedList, summary="Whose tokens were taken back")
    async def list_revocations() -> Response:
        # They may be a hundred thousand: no model is made of each.
        return JSONResponse(
            {"revocations": [{"userId": user, "at": at} for user, at in revocations.all()]}, headers=_NO_STORE
        )

    @router.delete(
        "/auth/revocations/{userId:rest}", status_code=204, responses=problems(404), summary="Take them again"
    )
    async def forgive(userId: Annotated[str, Path(description="as it was revoked")]) -> Response:
        """Takes the user's tokens again."""
        if not await revocations.forgive(userId):
            raise Problem(404, f"user {userId!r} is not revoked: GET /auth/revocations lists those that are")
        return Response(status_code=204)

    return router
