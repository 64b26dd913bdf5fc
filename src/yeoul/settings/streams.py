"""Streams, and the events in them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from .values import Count, Seconds

__all__ = ["RetentionRule", "Streams"]


class RetentionRule(BaseModel):
    """How long the topics that fit a pattern keep their events."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str = Field(min_length=1, description="`*` stands for any characters: `chat/*`")
    events: Count = 1_000
    bytes: Count = 1_048_576
    seconds: Seconds = 600.0


class Streams(BaseModel):
    heartbeat_s: Seconds = Field(
        15.0, description="Seconds between comments on a silent stream. Below the shortest proxy idle time-out (30 s)."
    )
    send_timeout_s: Seconds = Field(
        60.0,
        description="Seconds for which a reader's socket may take nothing before the connection is ended. A slow "
        "reader costs only its cursor, so this is for dead ones; it comes back with its position.",
    )
    max_lifetime_s: Seconds = Field(
        3_600.0,
        description="Seconds until a stream is ended with `stream.bye` and the reader comes back, shortened at random "
        "by up to a fifth. Spreads readers over new servers, and bounds what a forgotten tab can hold.",
    )
    retry_ms: int = Field(
        2_000, ge=0, le=600_000, description="Milliseconds a client waits before it reconnects (the `retry:` field)."
    )
    max_topics_per_stream: Count = Field(50, description="Topics that one stream may follow. Bounds a catch-up's work.")
    max_event_bytes: Count = Field(
        262_144, description="Bytes of one event's data. Events are for news; put large things behind a URL."
    )
    max_body_bytes: Count = Field(1_048_576, description="Bytes of a request body, checked while it arrives.")
    retention_events: Count = Field(1_000, description="Events kept per topic for those who come back.")
    retention_bytes: Count = Field(1_048_576, description="Bytes of text kept per topic.")
    retention_s: Seconds = Field(
        600.0, description="Seconds for which an event is kept. Covers a lift, a tunnel, a laptop lid."
    )
    retention: tuple[RetentionRule, ...] = Field(
        (),
        description="Other bounds by topic pattern, first match wins: a list of `{pattern, events, bytes, seconds}`. "
        "They come before the built-in ones: `chat/*/presence` 500 events for a minute, `chat/*` 1000 events and 4 MiB "
        "for a day, `system/status` 5 samples.",
    )
    memory_max_topics: Count = Field(
        100_000,
        description="Topics that the memory broker holds at once; over it those go that "
        "were published to longest ago and that nobody follows.",
    )
    memory_max_bytes: Count = Field(
        536_870_912,
        description="Bytes of text that the memory broker holds in all; over it the topics published to longest ago "
        "lose theirs first, and their readers get a gap.",
    )
