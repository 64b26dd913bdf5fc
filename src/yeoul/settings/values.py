"""Kinds of values that several settings have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

__all__ = ["Count", "Seconds"]

Seconds = Annotated[float, Field(gt=0, le=86_400 * 365)]
Count = Annotated[int, Field(ge=1)]
