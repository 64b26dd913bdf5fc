"""What position, replay, gap and retry mean. Pure: no async, no clock, no I/O."""

from .cursor import END_EVENT, FINAL_MARK, Cursor, LastEventId, UnknownId, draw_epoch, draw_work_id
from .journal import Frame, Gap, GapReason, Journal, Retention, Slice
from .position import Position
from .retry import RETRYABLE_STATUSES, RetryPolicy, jitter, parse_retry_after

__all__ = [
    "END_EVENT",
    "FINAL_MARK",
    "RETRYABLE_STATUSES",
    "Cursor",
    "Frame",
    "Gap",
    "GapReason",
    "Journal",
    "LastEventId",
    "Position",
    "Retention",
    "RetryPolicy",
    "Slice",
    "UnknownId",
    "draw_epoch",
    "draw_work_id",
    "jitter",
    "parse_retry_after",
]
