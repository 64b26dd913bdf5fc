"""What position, replay, gap and retry mean. Pure: no async, no clock, no I/O."""

from .cursor import Cursor, LastEventId, draw_epoch, draw_work_id
from .journal import Frame, Gap, Journal, Retention, Slice
from .retry import RetryPolicy

__all__ = [
    "Cursor",
    "Frame",
    "Gap",
    "Journal",
    "LastEventId",
    "Retention",
    "RetryPolicy",
    "Slice",
    "draw_epoch",
    "draw_work_id",
]
