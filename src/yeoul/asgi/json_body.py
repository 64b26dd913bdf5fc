"""What a request's JSON body is checked with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["JsonBody"]

# No body of ours has a tenth of it.
_MOST_FIELDS = 100


class JsonBody(BaseModel):
    """Its fields, and no others: one that is misspelled must not be without effect. Too many others are refused at
    once, for each of them costs an error, and a megabyte holds a hundred thousand: seconds in which nobody else is
    served."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, value: Any) -> Any:
        if isinstance(value, dict) and len(value) > _MOST_FIELDS:
            raise ValueError(f"it has {len(value)} fields, of which at most {len(cls.model_fields)} are known")
        return value
