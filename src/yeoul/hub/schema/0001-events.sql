-- Events in the order of their offsets, which is the order of writing: a batch is written to a few pages at the end.
-- `previous`: the offset of the event before it in its topic, 0 for the first; of the oldest event that is kept it is the
-- offset of the last one that was let go. `at`: Unix seconds. `final`: nothing follows in its topic.
CREATE TABLE events (
    offset INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    previous INTEGER NOT NULL,
    at REAL NOT NULL,
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    retry INTEGER,
    final INTEGER NOT NULL
) STRICT;

-- Topics of which no event is kept, and the offset of their last one: an older position is answered by a gap.
CREATE TABLE emptied (
    topic TEXT PRIMARY KEY,
    last INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row. `reserved`: no offset above it has been given out. `head`: the newest offset, where the file was closed in
-- order. `forgotten`: up to this offset, topics that are in neither table may have had events.
CREATE TABLE state (
    epoch TEXT NOT NULL,
    reserved INTEGER NOT NULL,
    head INTEGER,
    forgotten INTEGER NOT NULL
) STRICT;
