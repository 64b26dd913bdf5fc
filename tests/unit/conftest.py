"""What unit tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from yeoul import Hub


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """A hub in memory, with its defaults."""
    async with Hub() as made:
        yield made
