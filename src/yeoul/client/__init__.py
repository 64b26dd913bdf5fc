"""Reading the event stream of another server. Works without FastAPI."""

from ..stream import RetryPolicy
from .connection import EventStream, new_session, open_stream
from .refusal import redact
from .timeouts import Timeouts

__all__ = ["EventStream", "RetryPolicy", "Timeouts", "new_session", "open_stream", "redact"]
