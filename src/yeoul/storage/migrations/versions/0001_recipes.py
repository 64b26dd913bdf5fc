"""Recipes, and the words of their ingredients.

An id is never given to another recipe (AUTOINCREMENT): a kept link must not show something else one day.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "recipes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("category", sa.Text),
        sa.Column("ingredients", sa.JSON, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("recipes_by_category", "recipes", ["category", "id"])
    op.execute(
        "CREATE VIRTUAL TABLE recipe_words USING fts5(ingredients, tokenize = 'porter unicode61 remove_diacritics 2')"
    )
