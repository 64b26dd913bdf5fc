"""Revoking the tokens of a user."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from ...asgi.authentication import require_admin
from ...asgi.body import JsonBody
from ...asgi.errors import Problem
from ...asgi.openapi import problems
from ...asgi.responses import NO_STORE
from ...asgi.routing import JsonRoute
from ...auth.tickets import Tickets
from ...hub import Hub
from ...hub.reasons import REVOKED
from ...storage.revocations import Revocations

__all__ = ["revocations_app"]


class NewRevocation(JsonBody):
    userId: str = Field(min_length=1, max_length=1_000, description="the `sub` of the tokens to revoke")


class Revocation(BaseModel):
    """`at`: Unix seconds; tokens that were issued until then are refused."""

    userId: str
    at: float


class NewlyRevoked(Revocation):
    closed: int = Field(description="how many streams of this user were closed")


class RevocationList(BaseModel):
    revocations: list[Revocation]


def revocations_app(hub: Hub, tickets: Tickets, revocations: Revocations) -> APIRouter:
    # A dependency, so that it is checked before the body is.
    router = APIRouter(tags=["auth"], dependencies=[Depends(require_admin)], route_class=JsonRoute)

    @router.post(
        "/auth/revocations", status_code=201, response_model=NewlyRevoked, summary="Revoke the tokens of a user"
    )
    async def revoke(new: NewRevocation) -> Response:
        """Closes the user's streams at once, and refuses what was issued to the user until now. 201 once that is on
        disk; 503 if it cannot be written: the streams are closed then, but the tokens stay valid."""
        closed = 0

        def at_once() -> None:
            nonlocal closed
            closed = hub.disconnect(lambda reader: reader.principal.user == new.userId, REVOKED)

        revocation = await revocations.revoke(new.userId, at_once)
        await tickets.drop(new.userId)
        shown = NewlyRevoked(userId=revocation.user, at=revocation.at, closed=closed)
        return JSONResponse(shown.model_dump(), 201, NO_STORE)

    @router.get("/auth/revocations", response_model=RevocationList, summary="List the revocations")
    async def list_revocations() -> Response:
        # There may be a hundred thousand: they are not built as models.
        return JSONResponse(
            {"revocations": [{"userId": user, "at": at} for user, at in revocations.all()]}, headers=NO_STORE
        )

    @router.delete(
        "/auth/revocations/{userId:rest}", status_code=204, responses=problems(404), summary="Lift a revocation"
    )
    async def lift(userId: Annotated[str, Path(description="the user of the revocation")]) -> Response:
        """The tokens of the user are accepted again."""
        if not await revocations.lift(userId):
            raise Problem(404, f"there is no revocation of user {userId!r}: GET /auth/revocations lists them")
        return Response(status_code=204)

    return router
