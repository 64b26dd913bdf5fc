"""`yeoul serve`: the server."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from ..app import create_app
from ..auth.demo import make_demo_token
from ..observe import logger
from ..server.logs import configure_logs, writing_logs
from ..server.run import CannotListen
from ..server.run import serve as run
from ..settings import Settings, empty_keys, unknown_variables, variables
from .console import fail, note, reporting_errors, say

__all__ = ["serve"]

_TRY = """\

  An answer, token by token:     curl -N '{url}/sse/chat?message=안녕'
  One that outlives its reader:  curl -N -H 'Accept: text/event-stream' --json '{{"prompt": "hello"}}' {url}/generations
  Follow a topic:                curl -N {url}/topics/news
  Publish to it:                 curl -H 'Content-Type: text/plain' -d 'hello' {url}/topics/news
  Ask the documentation:         curl -NG --data-urlencode 'question=연결이 끊기면?' {url}/ask
  In a browser:                  {url}/
  Answers come from:             {provider}
"""

_TRY_WITH_KEY = """\

  A token, with the same secret: TOKEN=$(yeoul token create --user ada --expires 1h)
  Who it says you are:           curl -H "Authorization: Bearer $TOKEN" {url}/auth/me
  A chat room:                   curl -N -H "Authorization: Bearer $TOKEN" '{url}/chat/stream?room=general'
  An answer, token by token:     curl -N -H "Authorization: Bearer $TOKEN" '{url}/sse/chat?message=안녕'
  Answers come from:             {provider}
"""

# A demo token of a user u1. Demo tokens are accepted from this machine only.
_DEMO = f"""\
  Demo mode, since no key is set: this machine's users may do everything, and others nothing.
  As the user u1:                curl -N -H 'Authorization: Bearer {make_demo_token("u1", "Ann", roles=["user"])}' \
{{url}}/notifications/stream
"""


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 for any free one.", show_default="8000")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of processes.", show_default="1")] = None,
    broker: Annotated[
        str | None,
        typer.Option(
            help="Where events are kept: sqlite:///FILE, over restarts, or memory://.",
            metavar="URL",
            show_default="broker.db in the data directory",
        ),
    ] = None,
    root_path: Annotated[
        str | None, typer.Option(help="Path under which a proxy publishes the server.", metavar="/PATH")
    ] = None,
) -> None:
    """Run the server until SIGTERM or Ctrl+C.

    All other settings are YEOUL_* variables, in the environment or in .env, or stand in yeoul.toml.
    """
    given = {"host": host, "port": port, "workers": workers, "broker": broker, "root_path": root_path}
    found = variables()
    with reporting_errors(2):
        if empty := empty_keys(found):
            raise ValueError("; ".join(empty))
        settings = Settings.model_validate({name: value for name, value in given.items() if value is not None})
        if unknown := unknown_variables(found, settings.routes):
            if not settings.allow_unknown_settings:
                raise ValueError("; ".join(unknown))
            note("; ".join(unknown))
        configure_logs(settings.log_format, settings.log_level)
        app = create_app(settings)

    def ready(url: str) -> None:
        if settings.log_format == "json":  # machines read this: each line is a record
            logger.info("yeoul ready on %s", url, extra={"url": url, "version": __version__})
            return
        say(f"yeoul ready on {url}")
        demo = settings.demo
        say((_TRY if demo else _TRY_WITH_KEY).format(url=url, provider=app.state.providers.describe()))
        if demo:
            say(_DEMO.format(url=url))

    try:
        with writing_logs():
            run(app, settings, ready, app.state.hub.close)
    except CannotListen as error:
        fail(str(error))
