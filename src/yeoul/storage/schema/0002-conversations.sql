-- The turns of conversations, by owner and session.
CREATE TABLE turns (
    id INTEGER NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    session TEXT NOT NULL,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    at FLOAT NOT NULL
);
CREATE INDEX turns_by_session ON turns (owner, session, id);
CREATE INDEX turns_by_age ON turns (at);
