"""Saved recipes, and the index of the words of their ingredients."""

from __future__ import annotations

import json
import re
import sqlite3
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..documents.words import index_text, match_all
from ..sse import json_data
from .database import Database

__all__ = ["Page", "Recipe", "Recipes", "Summary", "query"]

_SUMMARY = ("id", "title", "category", "ingredients", "created", "updated")
_RECIPE = (*_SUMMARY, "body")

# Particles after a Korean noun of two or more syllables. Some nouns end like one (청포도): the search then finds more,
# never less.
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
    """A page of the `total` recipes, newest first."""

    recipes: Sequence[Summary]
    total: int


class Recipes:
    """A change writes a recipe and its words in one transaction. All methods raise DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, *, title: str, category: str | None, ingredients: Sequence[str], body: str) -> Recipe:
        now = time.time()
        row = (title, category, json_data([*ingredients]), body, now, now)
        sql = "INSERT INTO recipes (title, category, ingredients, body, created, updated) VALUES (?, ?, ?, ?, ?, ?)"

        def write(connection: sqlite3.Connection) -> int:
            id = connection.execute(sql, row).lastrowid
            assert id is not None
            words = (id, _words(ingredients))
            connection.execute("INSERT INTO recipe_words (rowid, ingredients) VALUES (?, ?)", words)
            return id

        id = await self._database.write(write)
        return Recipe(
            id=id, title=title, category=category, ingredients=ingredients, body=body, created=now, updated=now
        )

    async def get(self, id: int) -> Recipe | None:
        return await self._database.read(lambda connection: _recipe(connection, id))

    async def change(self, id: int, values: Mapping[str, Any]) -> Recipe | None:
        """`values`: the new values by column (`title`, `category`, `ingredients`, `body`). None where there is no such
        recipe."""
        columns = [column for column in ("title", "category", "ingredients", "body") if column in values]
        row = {**values, "updated": time.time(), "id": id}
        if "ingredients" in values:
            row["ingredients"] = json_data([*values["ingredients"]])
        assignments = ", ".join(f"{column} = :{column}" for column in (*columns, "updated"))

        def write(connection: sqlite3.Connection) -> Recipe | None:
            connection.execute(f"UPDATE recipes SET {assignments} WHERE id = :id", row)  # noqa: S608 (our columns)
            if "ingredients" in values:
                words = (_words(values["ingredients"]), id)
                connection.execute("UPDATE recipe_words SET ingredients = ? WHERE rowid = ?", words)
            return _recipe(connection, id)

        return await self._database.write(write)

    async def remove(self, id: int) -> bool:
        """False where there is no such recipe."""

        def write(connection: sqlite3.Connection) -> bool:
            removed = connection.execute("DELETE FROM recipes WHERE id = ?", (id,)).rowcount
            connection.execute("DELETE FROM recipe_words WHERE rowid = ?", (id,))
            return removed > 0

        return await self._database.write(write)

    async def newest(self, limit: int, offset: int, *, category: str | None = None) -> Page:
        """Of one category, or of all."""
        if category is None:
            return await self._page("SELECT id FROM recipes", (), limit, offset)
        return await self._page("SELECT id FROM recipes WHERE category = ?", (category,), limit, offset)

    async def with_ingredient(self, words: str, limit: int, offset: int) -> Page:
        """Recipes with all of the words among their ingredients. `words`: made by `query`."""
        chosen = "SELECT rowid AS id FROM recipe_words WHERE recipe_words MATCH ?"
        return await self._page(chosen, (words,), limit, offset)

    async def _page(self, chosen: str, values: tuple[str, ...], limit: int, offset: int) -> Page:
        count = f"SELECT count(*) FROM ({chosen})"  # noqa: S608 (our statements)
        ids = f"{chosen} ORDER BY id DESC LIMIT ? OFFSET ?"
        page = f"SELECT {', '.join(_SUMMARY)} FROM recipes WHERE id IN ({ids}) ORDER BY id DESC"  # noqa: S608

        def read(connection: sqlite3.Connection) -> Page:
            total = connection.execute(count, values).fetchone()[0]
            rows = connection.execute(page, (*values, limit, offset))
            return Page([Summary(**_fields(_SUMMARY, row)) for row in rows], total)

        return await self._database.read(read)


def query(text: str) -> str:
    """A user's text (`양파를`) as a query of the index; "" if it has no words."""
    return match_all(_ENDING.sub("", unicodedata.normalize("NFC", text)))


def _words(ingredients: Sequence[str]) -> str:
    return index_text("\n".join(ingredients))


def _recipe(connection: sqlite3.Connection, id: int) -> Recipe | None:
    sql = f"SELECT {', '.join(_RECIPE)} FROM recipes WHERE id = ?"  # noqa: S608 (our columns)
    row = connection.execute(sql, (id,)).fetchone()
    return None if row is None else Recipe(**_fields(_RECIPE, row))


def _fields(columns: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    fields = dict(zip(columns, row, strict=True))
    fields["ingredients"] = json.loads(fields["ingredients"])
    return fields
