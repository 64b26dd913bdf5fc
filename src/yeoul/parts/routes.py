"""The gateway's routes."""

from __future__ import annotations

from ..apps.gateway import recipes_route, with_built_in
from ..relay.route import Route
from ..relay.table import check_table
from ..settings import Settings

__all__ = ["gateway_routes"]


def gateway_routes(settings: Settings) -> list[Route]:
    """The table's, and the built-in ones that it does not replace. Raises ValueError for a mistake in it."""
    routes, mistakes = check_table(list(settings.routes))
    if mistakes:
        raise ValueError("; ".join(map(str, mistakes)) + " (`yeoul routes check` names the lines)")
    return with_built_in(routes, [recipes_route(settings.ai_service_url)])
