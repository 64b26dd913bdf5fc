-- Recipes, and the words of their ingredients.
-- An id is never used again (AUTOINCREMENT): an old link must not show another recipe.
CREATE TABLE recipes (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL,
    category TEXT,
    ingredients JSON NOT NULL, -- a list of strings
    body TEXT NOT NULL,
    created FLOAT NOT NULL,
    updated FLOAT NOT NULL
);
CREATE INDEX recipes_by_category ON recipes (category, id);
-- The row of a recipe has its id.
CREATE VIRTUAL TABLE recipe_words USING fts5(ingredients, tokenize = 'porter unicode61 remove_diacritics 2');
