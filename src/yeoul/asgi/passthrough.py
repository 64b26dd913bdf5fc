"""Which wrappers of ASGI's `send` pass the body of a response on unchanged."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.types import Scope, Send

__all__ = ["PassesBodies", "has_open_dependencies", "innermost_send"]

# Closures of Starlette that look at the messages of a response, or add headers, and call the `send` around them.
_KNOWN = frozenset(
    {
        ("starlette._exception_handler", "wrap_app_handling_exceptions.<locals>.wrapped_app.<locals>.sender"),
        ("starlette.middleware.errors", "ServerErrorMiddleware.__call__.<locals>._send"),
    }
)


# Where FastAPI keeps dependencies that are open until the response has been sent: from 0.118 on, and before 0.106.
_STACKS = ("fastapi_inner_astack", "fastapi_astack")


class PassesBodies:
    """The base of a class whose method `send` passes bodies to `passed_to` unchanged."""

    __slots__ = ()

    passed_to: Send


def innermost_send(send: Send) -> Send:
    """The `send` that is reached through such wrappers alone: the server's own, or that of a middleware which may
    change the body, such as each `@app.middleware("http")`."""
    while True:
        owner = getattr(send, "__self__", None)
        inner = owner.passed_to if isinstance(owner, PassesBodies) else _inner(send)
        if inner is None:
            return send
        send = inner


def _inner(send: Any) -> Send | None:
    if isinstance(send, partial):
        method = send.func
        if isinstance(method, MethodType) and method.__func__ is CORSMiddleware.send:
            inner: Send = send.keywords["send"]
            return inner
    elif isinstance(send, FunctionType) and (send.__module__, send.__qualname__) in _KNOWN and send.__closure__:
        found = dict(zip(send.__code__.co_freevars, send.__closure__, strict=True)).get("send")
        return None if found is None else found.cell_contents
    return None


def has_open_dependencies(scope: Scope) -> bool:
    """Whether a FastAPI dependency with `yield` is open, which ends with the response."""
    return any(_holds(scope.get(name)) for name in _STACKS)


def _holds(stack: object) -> bool:
    return isinstance(stack, AsyncExitStack) and bool(getattr(stack, "_exit_callbacks", ()))
