"""Saved recipes: their table, and the index of the words of their ingredients."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    MetaData,
    Select,
    Table,
    Text,
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
    table,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from ..documents.words import index_text, match_all
from .database import Database

__all__ = ["METADATA", "Page", "Recipe", "Recipes", "Summary", "query"]

METADATA = MetaData()

_RECIPES = Table(
    "recipes",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("title", Text, nullable=False),
    Column("category", Text),
    Column("ingredients", JSON, nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    sqlite_autoincrement=True,
)
Index("recipes_by_category", _RECIPES.c.category, _RECIPES.c.id)

# FTS5: the row of a recipe has its id.
_WORDS = table("recipe_words", column("rowid", Integer), column("ingredients", Text))

_SUMMARY = [each for each in _RECIPES.c if each.name != "body"]

# Endings that a Korean noun of two syllables and more may carry. Some nouns only look so (청포도): the search then
# finds more, never less.
_ENDING = re.compile(r"(?<=[가-힣]{2})(?:으로|에서|하고|이랑|을|를|이|가|은|는|와|과|도|의|로|랑|에)(?!\w)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A recipe without its text. Times are Unix seconds."""

    id: int
    title: str
    category: str | None
    ingredients: Sequence[str]
    created: float
    updated: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(Summary):
    body: str


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the `total`, newest first."""

    recipes: Sequence[Summary]
    total: int


class Recipes:
    """Every change touches a recipe and its words in one transaction. All raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, *, title: str, category: str | None, ingredients: Sequence[str], body: str) -> Recipe:
        now = time.time()
        row = insert(_RECIPES).values(
            title=title, category=category, ingredients=[*ingredients], body=body, created=now, updated=now
        )
        async with self._database.write() as connection:
            id = (await connection.execute(row)).lastrowid
            await connection.execute(insert(_WORDS).values(rowid=id, ingredients=_words(ingredients)))
        return Recipe(
            id=id, title=title, category=category, ingredients=ingredients, body=body, created=now, updated=now
        )

    async def get(self, id: int) -> Recipe | None:
        async with self._database.read() as connection:
            return await _recipe(connection, id)

    async def change(self, id: int, values: dict[str, Any]) -> Recipe | None:
        """`values`: new ones by column. None where there is no such recipe."""
        async with self._database.write() as connection:
            await connection.execute(update(_RECIPES).where(_RECIPES.c.id == id).values(**values, updated=time.time()))
            if "ingredients" in values:
                words = _words(values["ingredients"])
                await connection.execute(update(_WORDS).where(_WORDS.c.rowid == id).values(ingredients=words))
            return await _recipe(connection, id)

    async def remove(self, id: int) -> bool:
        """False where there is no such recipe."""
        async with self._database.write() as connection:
            removed = await connection.execute(delete(_RECIPES).where(_RECIPES.c.id == id))
            await connection.execute(delete(_WORDS).where(_WORDS.c.rowid == id))
        return removed.rowcount > 0

    async def newest(self, limit: int, offset: int, *, category: str | None = None) -> Page:
        """Of one category, or of all."""
        chosen = select(_RECIPES.c.id)
        if category is not None:
            chosen = chosen.where(_RECIPES.c.category == category)
        return await self._page(chosen, _RECIPES.c.id, limit, offset)

    async def with_ingredient(self, words: str, limit: int, offset: int) -> Page:
        """Those with all of the words among their ingredients. `words`: made by `query`."""
        chosen = select(_WORDS.c.rowid).where(literal_column("recipe_words").op("MATCH")(words))
        return await self._page(chosen, _WORDS.c.rowid, limit, offset)

    async def _page(self, chosen: Select[tuple[int]], id: ColumnElement[int], limit: int, offset: int) -> Page:
        ids = chosen.order_by(id.desc()).limit(limit).offset(offset)
        page = select(*_SUMMARY).where(_RECIPES.c.id.in_(ids)).order_by(_RECIPES.c.id.desc())
        async with self._database.read() as connection:
            total = await connection.scalar(select(func.count()).select_from(chosen.subquery()))
            rows = await connection.execute(page)
            return Page([Summary(**row) for row in rows.mappings()], total or 0)


def query(text: str) -> str:
    """What people type (`양파를`) as a query of the index; "" where it has no word."""
    return match_all(_ENDING.sub("", unicodedata.normalize("NFC", text)))


def _words(ingredients: Sequence[str]) -> str:
    return index_text("\n".join(ingredients))


async def _recipe(connection: AsyncConnection, id: int) -> Recipe | None:
    rows = await connection.execute(select(_RECIPES).where(_RECIPES.c.id == id))
    row = rows.mappings().one_or_none()
    return None if row is None else Recipe(**row)
