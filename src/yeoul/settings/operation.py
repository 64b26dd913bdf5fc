"""Chat rooms, the status stream, and what whoever runs the server sees."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from .values import Seconds

__all__ = ["Operation"]


class Operation(BaseModel):
    chat_history: int = Field(50, ge=0, le=1_000, description="Messages that whoever joins a chat room is shown.")
    chat_grace_s: float = Field(
        10.0,
        ge=0,
        le=600,
        description="Seconds after which somebody whose connections are gone has left a chat room. Longer than a "
        "reconnect, so that a reconnect is no leave.",
    )
    status_interval_s: Seconds = Field(
        2.0, description="Seconds between two samples of `/system/status/stream`; taken only while somebody watches."
    )
    open_metrics: bool = Field(
        True,
        description="Whether `/metrics` needs no token. It names no user, topic or address, but says how much goes on; "
        "without it, it is for admins (Prometheus sends a token with `authorization`).",
    )
    log_format: Literal["text", "json"] = Field("text", description="`text` for people, `json` for machines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="`info` has a line for each stream that ends; `warning` is for trouble alone."
    )
