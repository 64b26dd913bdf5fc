"""Why a stream ends: the one table of reasons, and what each of them means for the reader."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum

__all__ = [
    "BROKER_FAILED",
    "CLIENT_LEFT",
    "CONNECTION_RESET",
    "DRAIN",
    "ERROR",
    "EXPIRED",
    "FINAL",
    "KICKED",
    "LIFETIME",
    "LOOP_GONE",
    "OVER",
    "PROBE_DONE",
    "REVOKED",
    "SEND_TIMEOUT",
    "SOURCE_FAILED",
    "EndReason",
    "Last",
]


class Last(Enum):
    """What is written to the reader last."""

    FAREWELL = "a `stream.bye` event, then the end of the response"
    END = "the end of the response"
    ABORT = "nothing: the connection is closed at once"
    NOTHING = "nothing: there is no response, or its client has closed the connection"


@dataclass(frozen=True, slots=True)
class EndReason:
    """`name` stands in `stream.bye`, in log lines and in metrics.

    `last`: what the reader is sent. `reconnect`: whether the farewell asks it to come back. `patient`: the farewell is
    written even where the reader's socket is full; otherwise the connection of such a reader is aborted. `log_level`:
    of the line "stream ended".

    Applications may define reasons of their own for `Hub.disconnect`.
    """

    name: str
    last: Last = Last.FAREWELL
    reconnect: bool = True
    patient: bool = False
    log_level: int = logging.INFO


#                              name             last            reconnect
CLIENT_LEFT = EndReason("client", Last.NOTHING)
FINAL = EndReason("final", Last.END, reconnect=False)  # the topic's final event has been sent
OVER = EndReason("over", Last.NOTHING, reconnect=False)  # it came back after the end: answered with 204
DRAIN = EndReason("drain", patient=True)  # this server shuts down
LIFETIME = EndReason("lifetime")  # `max_lifetime` is over
EXPIRED = EndReason("expired")  # the reader's credential has expired
REVOKED = EndReason("revoked", reconnect=False)  # its user's tokens were revoked
KICKED = EndReason("kicked", reconnect=False)  # an administrator ended the stream
BROKER_FAILED = EndReason("broker", patient=True)  # the broker's history could not be read
SOURCE_FAILED = EndReason("failed", log_level=logging.WARNING)  # the topic's source yielded what cannot be sent
SEND_TIMEOUT = EndReason("send timeout", Last.ABORT)  # its socket took nothing for `send_timeout`
ERROR = EndReason("error", Last.ABORT)  # its encoding or outlet raised an exception
LOOP_GONE = EndReason("event loop", Last.NOTHING)  # the event loop that it was served on has ended
PROBE_DONE = EndReason("probe", Last.NOTHING, reconnect=False)  # the health probe's own reader

# Watchers only: the connection was reset right after the stream's end, so that the end may not have arrived.
CONNECTION_RESET = EndReason("reset", Last.NOTHING)
