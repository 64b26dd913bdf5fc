"""Reading the event stream of another server. Works without FastAPI."""

from ..stream import RetryPolicy
from .connection import EventStream, new_session, open_stream
from .refusal import redact
from .stream import BlockingStream, Closed, State, Stream, connect, connect_blocking
from .timeouts import Timeouts

__all__ = [
    "BlockingStream",
    "Closed",
    "EventStream",
    "RetryPolicy",
    "State",
    "Stream",
    "Timeouts",
    "connect",
    "connect_blocking",
    "new_session",
    "open_stream",
    "redact",
]
