-- Documents, their passages, and the terms of the passages. `words.index_text` must not change without a new script.
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    collection TEXT NOT NULL,
    title TEXT NOT NULL,
    source TEXT NOT NULL,
    digest BLOB NOT NULL,
    passages INTEGER NOT NULL,
    added REAL NOT NULL,
    UNIQUE (collection, digest)
) STRICT;
CREATE TABLE passages (
    id INTEGER PRIMARY KEY,
    document INTEGER NOT NULL REFERENCES documents (id),
    position INTEGER NOT NULL,
    heading TEXT NOT NULL,
    text TEXT NOT NULL
) STRICT;
CREATE INDEX passages_of ON passages (document);
CREATE VIRTUAL TABLE terms USING fts5 (title, heading, text, tokenize = 'porter unicode61 remove_diacritics 2');
