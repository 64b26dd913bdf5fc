"""How much one may have, and all together."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from ..asgi.rates import check_rate
from .values import Count, Seconds

__all__ = ["Limits"]

RateText = Annotated[str, AfterValidator(check_rate)]


class Limits(BaseModel):
    max_connections: Count = Field(1_000, description="Streams open at once; more are refused (429).")
    max_connections_per_user: Count | None = Field(
        None, description="Streams of one user. By default 50; in demo mode, where all are one user, no bound."
    )
    max_connections_per_address: Count | None = Field(
        None,
        description="Streams of one address (of one /64 in IPv6). By default 200; addresses of this machine have no "
        "bound unless this is set.",
    )
    max_answers_per_user: Count | None = Field(
        None,
        description="Answers, and relayed streams, being written at once for one user, who must not take all places. "
        "By default 50; in demo mode, where all are one user, no bound.",
    )
    publish_rate: RateText | None = Field(
        None,
        description="Publishes of one user, such as `100/second`. By default that; in demo mode no bound.",
    )
    connect_rate: RateText | None = Field(
        None,
        description="Streams that one user, or one address of nobody known, may open. By default `300/minute`; in demo "
        "mode no bound.",
    )
    max_newest: Count = Field(
        1_000, description="Kept events that a new reader may ask for (`?newest=`), per topic: how far history is read."
    )
    max_replay_bytes: Count = Field(
        8_388_608,
        description="Bytes of events that one reader that comes back is given; it is told of a gap for what is before "
        "the newest that fit. Bounds what a wave of returning readers costs.",
    )
    header_timeout_s: Seconds = Field(
        10.0, description="Seconds in which a request's head must be here (under `yeoul serve`), against slow senders."
    )
    body_timeout_s: Seconds = Field(30.0, description="Seconds in which a request's body must be here.")
    idempotency_keep_s: Seconds = Field(
        600.0, description="Seconds for which a publish with an `Idempotency-Key` is answered again, not done again."
    )
