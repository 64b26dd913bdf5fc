"""A stream of one's own in a few lines: a route, a topic, and what is published into it while somebody reads."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from ..auth.identity import topic_part
from ..errors import YeoulError
from ..hub import Hub
from ..hub.producer import Producer
from ..sse import Event, json_data
from .authentication import IDENTITY, principal_of, require_subscribe
from .errors import Problem, problem_of
from .event_stream import EventStream
from .rates import count_connect
from .routing import stream_route

__all__ = ["live_stream"]

_Source = TypeVar("_Source", bound=Callable[..., AsyncIterator[Any]])

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


def live_stream(
    app: FastAPI | APIRouter, hub: Hub, path: str, *, newest: int = 1, linger: float = 5.0, **options: Any
) -> Callable[[_Source], _Source]:
    """`@live_stream(app, hub, "/prices/{symbol}/stream")` above an async generator: GET on that path follows what it
    yields.

    The generator's parameters are the path's. For each set of values it runs once, however many read, and only while
    somebody does (and `linger` seconds longer). It yields an `Event`, text, or anything that JSON can hold. Each has
    its place in the topic `prices/<symbol>/stream`: whoever comes back gets what was missed, whoever is new begins with
    the `newest` events kept. `options` are those of FastAPI's routes, `dependencies` among them: that is where an app
    of one's own says who may read. Beside Yeoul's server (`create_app`) the caller must be allowed to follow the topic.
    Raises ValueError where the parameters are not those of the path.
    """

    def add(source: _Source) -> _Source:
        signature = inspect.signature(source, eval_str=True)
        _check(path, list(signature.parameters))
        producers: dict[str, Producer] = {}

        async def follow(request: Request, **values: object) -> Response:
            topic = _topic(path, values)
            if IDENTITY in request.scope:
                require_subscribe(request, [topic])
            if topic not in producers and request.method != "HEAD":

                def forget() -> None:
                    producers.pop(topic).close()

                try:
                    count_connect(request)
                    hub.check_admission(principal_of(request))  # or whoever is refused could make any number of them
                    producers[topic] = Producer(
                        hub, topic, lambda: _events(source(**values)), linger=linger, on_idle=forget
                    )
                except (Problem, YeoulError) as error:
                    return problem_of(error)
            return EventStream(hub, topic, request, newest=newest)

        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values()]
        asked = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)
        follow.__signature__ = inspect.Signature([asked, *parameters])  # type: ignore[attr-defined]
        follow.__name__, follow.__doc__ = getattr(source, "__name__", "stream"), source.__doc__
        stream_route(app, path, **options)(follow)
        return source

    return add


async def _events(values: AsyncIterator[Any]) -> AsyncIterator[Event]:
    async for value in values:
        yield value if isinstance(value, Event) else Event(value if isinstance(value, str) else json_data(value))


def _topic(path: str, values: dict[str, object]) -> str:
    return _PARAMETER.sub(lambda found: topic_part(str(values[found[1]])), path).strip("/")


def _check(path: str, parameters: list[str]) -> None:
    in_path = [found[1] for found in _PARAMETER.finditer(path)]
    if sorted(in_path) != sorted(parameters) or len(set(in_path)) != len(in_path):
        raise ValueError(
            f"the parameters of a live stream are those of its path: {path!r} has {in_path}, the generator {parameters}"
        )
