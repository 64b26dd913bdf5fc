"""Saved recipes: what is stored, what is found, and by which way."""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yeoul.documents.words import index_text
from yeoul.sqlite import SqliteFile
from yeoul.storage import Database
from yeoul.storage.recipes import Page, Recipe, Recipes, query

CREATE = "CREATE VIRTUAL TABLE recipe_words USING fts5(ingredients, tokenize = 'porter unicode61 remove_diacritics 2')"


@pytest.fixture
async def recipes(tmp_path: Path) -> AsyncIterator[Recipes]:
    async with Database(tmp_path) as database:
        yield Recipes(database)


async def add(recipes: Recipes, *ingredients: str, title: str = "수프", category: str | None = None) -> Recipe:
    return await recipes.add(title=title, category=category, ingredients=ingredients or ("물",), body="끓인다")


async def found(recipes: Recipes, text: str) -> list[int]:
    page = await recipes.with_ingredient(query(text), 100, 0)
    assert page.total == len(page.recipes)
    return [recipe.id for recipe in page.recipes]


@pytest.mark.parametrize(
    "text",
    [
        "양파 수프 🍲 👩‍🍳",
        "a\x00b",
        "x" * 100_000,
        "'; DROP TABLE recipes; --",
        "%_\\",
        "\u202eabc\u2028\r\n\t\x1b[0m",
        "각",
    ],
    ids=["emoji", "nul", "long", "quote", "wildcards", "controls", "decomposed"],
)
async def test_text_comes_back_as_it_went_in(recipes: Recipes, text: str) -> None:
    added = await recipes.add(title=text, category=text, ingredients=[text, "물"], body=text)
    assert await recipes.get(added.id) == Recipe(
        id=added.id,
        title=text,
        category=text,
        ingredients=[text, "물"],
        body=text,
        created=added.created,
        updated=added.created,
    )


@pytest.mark.parametrize(
    ("ingredient", "text", "is_found"),
    [
        ("양파", "양파", True),
        ("양파를 썬 것", "양파", True),
        ("양파와 감자", "감자", True),
        ("자색양파 1개", "양파", True),
        ("양파", "양파를", True),
        ("고춧가루 두 큰술", "고춧가루는", True),
        ("감자 2개(300g)", "300g", True),
        ("파", "파", True),
        ("파슬리", "파", True),  # words that begin with it
        ("양파", "파", False),
        ("대파", "양파", False),
        ("밀가루", "고춧가루", False),
        ("청포도", "청포도", True),
        ("오이", "오이", True),  # the noun's own last syllable
        ("Onions, finely chopped", "onion", True),
        ("crème fraîche", "CREME", True),
        ("tofu", "양파", False),
        ("玉ねぎ", "玉ねぎ", True),
        (unicodedata.normalize("NFD", "양파"), "양파", True),
        ("양파", unicodedata.normalize("NFD", "양파를"), True),
    ],
)
async def test_an_ingredient_is_found_by_its_words(
    recipes: Recipes, ingredient: str, text: str, is_found: bool
) -> None:
    recipe = await add(recipes, "물", ingredient)
    await add(recipes, "소금")
    assert await found(recipes, text) == ([recipe.id] if is_found else [])


@pytest.mark.parametrize("text", ["", " ", "🍲", "!?", "\x00", "%", '"', "_"])
def test_a_text_without_a_word_is_no_query(text: str) -> None:
    assert query(text) == ""


@pytest.mark.parametrize(
    "text", ["양파 OR 감자", "NEAR(양파 감자)", "양파*", "ingredients:양파", '"양파', "양파 NOT 감자", "-양파"]
)
async def test_the_language_of_the_index_has_no_meaning_in_what_people_type(recipes: Recipes, text: str) -> None:
    await add(recipes, "감자")
    onion = await add(recipes, "양파")
    assert await found(recipes, text) in ([], [onion.id])


def finds(text: str) -> bool:
    """Whether a text finds itself."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(CREATE)
        connection.execute("INSERT INTO recipe_words VALUES (?)", [index_text(text)])
        found = connection.execute("SELECT 1 FROM recipe_words WHERE recipe_words MATCH ?", [query(text)])
        return found.fetchone() is not None


@given(st.text(max_size=60))
def test_whatever_people_type_is_a_query_of_the_index(text: str) -> None:
    if query(text):
        finds(text)


KITCHEN = st.sampled_from("가각양파를이청포도으로에서玉ねぎ葱タabZ19éñß \n.,-*\"'():^+🍲")


@given(st.text(KITCHEN, max_size=60))
def test_what_has_all_the_words_is_found(text: str) -> None:
    assert not query(text) or finds(text)


@pytest.mark.parametrize("text", ["가" * 200, "가나" * 100, "a " * 100, "다라 " * 66])
async def test_the_longest_text_that_is_let_in_is_a_query(recipes: Recipes, text: str) -> None:
    recipe = await add(recipes, text)
    assert await found(recipes, text) == [recipe.id]


async def test_a_change_of_the_ingredients_changes_what_is_found(recipes: Recipes) -> None:
    recipe = await add(recipes, "양파")
    await recipes.change(recipe.id, {"title": "감자 수프"})
    assert await found(recipes, "양파") == [recipe.id]
    changed = await recipes.change(recipe.id, {"ingredients": ["감자"]})
    assert changed is not None
    assert (changed.title, changed.ingredients, changed.created) == ("감자 수프", ["감자"], recipe.created)
    assert changed.updated > recipe.updated
    assert await found(recipes, "양파") == []
    assert await found(recipes, "감자") == [recipe.id]


async def test_a_removed_one_is_not_found_and_its_id_is_never_another_ones(recipes: Recipes) -> None:
    recipe = await add(recipes, "양파")
    assert await recipes.remove(recipe.id)
    assert not await recipes.remove(recipe.id)
    assert await recipes.get(recipe.id) is None
    assert await recipes.change(recipe.id, {"title": "x", "ingredients": ["양파"]}) is None
    assert await found(recipes, "양파") == []
    assert (await add(recipes, "감자")).id == recipe.id + 1
    assert await found(recipes, "양파") == []


async def test_pages_are_newest_first_and_know_how_many_there_are_in_all(recipes: Recipes) -> None:
    ids = [(await add(recipes, "양파", category="한식" if number % 2 else None)).id for number in range(7)]

    def shown(page: Page) -> tuple[list[int], int]:
        return [recipe.id for recipe in page.recipes], page.total

    newest = ids[::-1]
    assert shown(await recipes.newest(3, 0)) == (newest[:3], 7)
    assert shown(await recipes.newest(3, 6)) == (newest[6:], 7)
    assert shown(await recipes.newest(3, 7)) == ([], 7)
    assert shown(await recipes.newest(2, 1, category="한식")) == ([ids[3], ids[1]], 3)
    assert shown(await recipes.newest(2, 0, category="양식")) == ([], 0)
    assert shown(await recipes.with_ingredient(query("양파"), 2, 4)) == (newest[4:6], 7)


# --- the way it is found


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The SELECTs that connections opened meanwhile run, with their values."""
    seen: list[str] = []
    connect = SqliteFile._connect

    def note(sql: str) -> None:
        if sql.startswith("SELECT") and "'main'." not in sql:  # those are FTS5's own
            seen.append(sql)

    def traced(file: SqliteFile) -> sqlite3.Connection:
        connection = connect(file)
        connection.set_trace_callback(note)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(SqliteFile, "_connect", traced)
        yield seen


async def plans(path: Path, seen: list[str]) -> list[str]:
    with closing(sqlite3.connect(path / "yeoul.db")) as connection:
        return [row[3] for statement in seen for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]


async def test_a_search_goes_by_the_index_and_never_through_the_recipes(
    recipes: Recipes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(recipes, "양파")
    with statements(monkeypatch) as seen:
        assert await found(recipes, "양파")
    assert len(seen) == 2
    steps = await plans(tmp_path, seen)
    assert any(step.startswith("SCAN recipe_words VIRTUAL TABLE INDEX") for step in steps)
    assert any(step == "SEARCH recipes USING INTEGER PRIMARY KEY (rowid=?)" for step in steps)
    assert not [step for step in steps if step == "SCAN recipes" or step.startswith("SCAN recipes ")]
    assert not [step for step in steps if step.endswith("VIRTUAL TABLE INDEX 0:")]  # that would be a scan of all words


async def test_a_category_is_read_by_its_index_and_needs_no_sorting_of_it(
    recipes: Recipes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(recipes, category="한식")
    with statements(monkeypatch) as seen:
        assert (await recipes.newest(20, 0, category="한식")).total == 1
    steps = await plans(tmp_path, seen)
    assert len([step for step in steps if "recipes_by_category (category=?)" in step]) == 2
    assert not [step for step in steps if step.startswith("SCAN recipes")]
