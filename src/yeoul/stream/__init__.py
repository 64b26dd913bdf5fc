"""What position, replay, gap and retry mean. Pure: no async, no clock, no I/O."""

from .cursor import END_EVENT, FINAL_MARK, Cursor, LastEventId, draw_epoch, draw_work_id
from .journal import Frame, Gap, GapReason, Journal, Retention, Slice
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
    "Retention",
    "RetryPolicy",
    "Slice",
    "draw_epoch",
    "draw_work_id",
    "jitter",
    "parse_retry_after",
]
