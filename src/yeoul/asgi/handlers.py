"""What fails in a route is answered by a problem document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from ..errors import YeoulError
from .problem import FAILED, Problem, problem, problem_of

__all__ = ["answer_errors_with_problems"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

# Fields that are named of a request that is wrong in many (a body of a megabyte can be wrong in half a million), and
# characters of each name: the answer must not be larger than the request.
_MOST_NAMED = 20
_MOST_CHARS = 100


def answer_errors_with_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    @app.exception_handler(YeoulError)
    async def ours(request: Request, error: Exception) -> Response:
        return problem_of(error)

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:
        return problem(500, FAILED)  # Starlette raises it again after this, and the server logs it

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # in the midst of its body: nobody reads this, and nothing has failed here

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            allowed = ", ".join(_methods_here(request)) or (error.headers or {}).get("Allow", "")
            return problem(405, f"there is no {request.method[:20]} here: use {allowed}", headers={"Allow": allowed})
        if error.status_code == 404:
            return problem(404, "nothing has this address: /docs lists what there is", headers=error.headers)
        return problem(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(request, error)


def _methods_here(request: Request) -> list[str]:
    """All that the address can be asked for (RFC 9110, 15.5.6); the route that has refused the request knows its own
    method alone."""
    routes = request.app.router.routes
    scopes = [{**request.scope, "method": method} for method in _METHODS]
    return [scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)]


def _invalid(request: Request, error: RequestValidationError) -> Response:
    errors = error.errors()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and any(entry["loc"][:1] == ("body",) for entry in errors):
        return problem(415, f"content type {kind or 'missing'!r}: send application/json")
    if any(entry["type"] == "json_invalid" for entry in errors):
        return problem(400, "the body is not JSON: " + str(errors[0].get("ctx", {}).get("error", "")))
    fields = [(_name(entry), _said(entry)) for entry in errors[:_MOST_NAMED]]
    said = [f"{name}: {text}" for name, text in fields]
    if len(errors) > _MOST_NAMED:
        said.append(f"and {len(errors) - _MOST_NAMED} more")
    return problem(422, "; ".join(said), fields=fields)


def _name(entry: dict[str, Any]) -> str:
    return (".".join(map(str, entry["loc"][1:])) or str(entry["loc"][0]))[:_MOST_CHARS]


def _said(entry: dict[str, Any]) -> str:
    """What is wrong with a field, in words for whoever sent it."""
    if entry["type"] == "extra_forbidden":
        return "there is no such field"
    return str(entry["msg"]).removeprefix("Value error, ")
