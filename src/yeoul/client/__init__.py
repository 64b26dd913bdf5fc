"""Reading somebody else's SSE. Installs without the server."""

from .connection import EventStream, Timeouts, new_session, open_stream
from .refusal import redact

__all__ = ["EventStream", "Timeouts", "new_session", "open_stream", "redact"]
