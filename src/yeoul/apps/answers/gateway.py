"""The gateway: the routes of the table over HTTP, and the built-in route for recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response

from ...asgi.errors import Problem
from ...asgi.openapi import PROBLEM, problems
from ...asgi.relayed import RelayService
from ...asgi.resume import find_job
from ...asgi.routing import STARTED, stream_route
from ...relay.parameter import Parameter
from ...relay.route import EndMarker, Route, Upstream

__all__ = ["gateway", "recipes_route", "with_built_in"]

# As OpenAPI has them.
_SCHEMAS: Mapping[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "strings": {"type": "array", "items": {"type": "string"}},
    "json": {},
}
_IN_JSON = ("strings", "json")


def recipes_route(ai_service_url: str | None = None) -> Route:
    """For `EventSource`, which can only GET: the POST of the recipe generator. `ai_service_url`: its server, by default
    this one. All failures are events."""
    return Route(
        path="/recipes/generate-ai-stream",
        parameters={
            "ingredients": Parameter(
                type="strings",
                required="ingredients 파라미터가 필요합니다",
                wrong='ingredients 파라미터는 문자열의 JSON 배열이어야 합니다: ["양파", "감자"]',
            ),
            "preferences": Parameter(max_length=1_000),
            "provider": Parameter(max_length=100),
        },
        errors="event",
        messages={
            "unreachable": "AI 서비스에 연결할 수 없습니다: 잠시 후 다시 시도해 주세요",
            "timeout": "AI 서비스가 제때 응답하지 않았습니다: 다시 시도해 주세요",
            "cut": "AI 서비스와의 연결이 끊겼습니다: 다시 시도해 주세요",
        },
        upstream=Upstream(
            url=f"{(ai_service_url or '').rstrip('/')}/api/recipes/generate-stream",
            name="the AI service",
            body={"ingredients": "$ingredients", "preferences": "$preferences", "provider": "$provider"},
            end=(EndMarker(field="done"), EndMarker(field="error")),
        ),
    )


def with_built_in(routes: Iterable[Route], built_in: Iterable[Route]) -> list[Route]:
    """The routes, and the built-in ones whose path none of them has."""
    routes = list(routes)
    taken = {route.path for route in routes}
    return [*routes, *(route for route in built_in if route.path not in taken)]


def gateway(
    service: RelayService, routes: Sequence[Route], variable: Callable[[str], str | None] = lambda name: None
) -> APIRouter:
    """`variable`: the environment, for credentials. To be included before routes whose paths have parameters.

    Raises ValueError for a credential that is missing, or that cannot be sent in a header.
    """
    router = APIRouter(tags=["gateway"])

    def add(route: Route) -> None:
        credential = _credential(route, variable)

        async def answer(request: Request) -> Response:
            return await service.stream(request, route, credential)

        answers = _answers(route)
        about = f"Relays {route.upstream.name}'s stream"
        if "GET" in route.methods:
            in_query = {"parameters": [_in_query(name, p) for name, p in route.parameters.items() if p.where != "body"]}
            stream_route(router, route.path, summary=about, responses=answers, openapi_extra=in_query)(answer)
        if "POST" in route.methods:
            router.add_api_route(
                route.path,
                answer,
                methods=["POST"],
                response_class=Response,
                response_model=None,
                summary=about,
                responses=answers,
                openapi_extra=_in_body(route),
            )

    for route in routes:
        add(route)

    @router.delete(
        "/relays/{id}",
        status_code=204,
        responses=problems(404),
        summary="Stop it: the connection to the upstream is closed",
    )
    async def stop(request: Request, id: Annotated[str, Path(max_length=64)]) -> None:
        relay = find_job(service.relays, id, request)
        if relay is None:
            raise Problem(404, "unknown stream: it never existed, or it is no longer kept")
        relay.cancel()
        await relay.ended()

    return router


def _credential(route: Route, variable: Callable[[str], str | None]) -> str | None:
    auth = route.upstream.auth
    if auth is None:
        return None
    value = (variable(auth.variable) or "").strip()
    if not value:
        raise ValueError(f"route {route.path!r}: set {auth.variable}, its credential, in the environment or in .env")
    if not all(" " < char <= "~" for char in value):
        raise ValueError(
            f"route {route.path!r}: the value of {auth.variable} cannot be sent in a header: it may have printable "
            "ASCII characters only"
        )
    return value


def _answers(route: Route) -> dict[int | str, dict[str, Any]]:
    if route.errors == "event":
        return STARTED
    upstream = {"description": "As the upstream has it.", "content": {"application/problem+json": {"schema": PROBLEM}}}
    return {**STARTED, **problems(422, 502, 504), "default": upstream}


def _in_query(name: str, parameter: Parameter) -> dict[str, Any]:
    schema = _SCHEMAS[parameter.type]
    shape = {"content": {"application/json": {"schema": schema}}} if parameter.type in _IN_JSON else {"schema": schema}
    return {"name": name, "in": "query", "required": bool(parameter.required), **shape}


def _in_body(route: Route) -> dict[str, Any]:
    fields = {name: _SCHEMAS[p.type] for name, p in route.parameters.items() if p.where != "query"}
    schema = {"type": "object", "properties": fields}
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}} if fields else {}
