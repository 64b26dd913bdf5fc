-- Users whose tokens are revoked, and when (Unix seconds).
CREATE TABLE revocations (
    user TEXT NOT NULL PRIMARY KEY,
    at FLOAT NOT NULL
);
