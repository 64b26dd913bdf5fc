"""What is used of uvicorn beyond its documented API. A new version of uvicorn that changes one of these fails here, and
not in a connection."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import uvicorn
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState


async def app(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.fixture
def config() -> uvicorn.Config:
    config = uvicorn.Config(app, http="httptools", ws="none", proxy_headers=False, log_config=None)
    config.load()
    return config


@pytest.mark.parametrize(
    "name",
    [
        "access_log",
        "asgi_version",
        "http_protocol_class",
        "limit_concurrency",
        "loaded_app",
        "root_path",
        "timeout_keep_alive",
        "ws_protocol_class",
    ],
)
def test_a_loaded_configuration_has(config: uvicorn.Config, name: str) -> None:
    assert hasattr(config, name), f"uvicorn.Config has no {name} any more: server/uvicorn.py reads it"


def test_the_application_is_not_wrapped_where_uvicorn_reads_no_proxy_headers(config: uvicorn.Config) -> None:
    assert config.loaded_app is app, "an `eager` application would not be recognised"


def test_a_server_state_has_what_connections_report_to() -> None:
    state = ServerState()
    assert (state.total_requests, state.connections, state.tasks, state.default_headers) == (0, set(), set(), [])
    vars(state)["yeoul_service"] = None  # it is no class with slots


@pytest.mark.parametrize("name", ["startup", "shutdown", "on_tick", "main_loop", "capture_signals", "handle_exit"])
def test_a_server_has_the_methods_that_are_overridden_or_called(name: str) -> None:
    assert callable(getattr(uvicorn.Server, name, None)), f"uvicorn.Server has no {name} any more"


def test_a_server_has_the_attributes_that_are_read(config: uvicorn.Config) -> None:
    server = uvicorn.Server(config)
    assert (server.started, server.should_exit, server.force_exit, server._captured_signals) == (
        False,
        False,
        False,
        [],
    )
    assert isinstance(server.server_state, ServerState)
    assert LifespanOn(config).state == {}


def test_startup_and_shutdown_take_sockets() -> None:
    for method in (uvicorn.Server.startup, uvicorn.Server.shutdown):
        assert list(inspect.signature(method).parameters) == ["self", "sockets"]


def test_a_protocol_is_made_with_these_arguments_and_told_of_the_shutdown() -> None:
    assert list(inspect.signature(HttpToolsProtocol).parameters) == ["config", "server_state", "app_state", "_loop"]
    assert list(inspect.signature(HttpToolsProtocol.shutdown).parameters) == ["self"]
    source = inspect.getsource(uvicorn.Server.startup)
    assert "_loop=_loop" in source
    assert "app_state=self.lifespan.state" in source


def test_a_websocket_protocol_takes_over_a_connection() -> None:
    source = inspect.getsource(HttpToolsProtocol.handle_websocket_upgrade)
    for step in ("protocol.connection_made(self.transport)", "protocol.data_received(", "self.transport.set_protocol("):
        assert step in source, f"uvicorn hands over a connection without {step}: server/uvicorn.py does the same"
