-- Erasing events. docs/storage/sqlite.md explains each table. Reads and writes no event.

-- The messages that are gone, in the order in which they went, until nothing that is derived from them is left.
CREATE TABLE removed (
    number        INTEGER PRIMARY KEY AUTOINCREMENT,
    seq           INTEGER NOT NULL,
    identity      TEXT    NOT NULL,
    sender        TEXT,
    recipient     TEXT,
    ts_second     INTEGER,
    ts_nanosecond INTEGER
) STRICT;

-- What stays of an event that Lyftr has erased: a keyed hash over source and key, so that it is not stored again ...
CREATE TABLE erased (hash BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
-- ... and its position, so that whoever has read up to there can go on.
CREATE TABLE erased_position (
    seq INTEGER PRIMARY KEY,
    tag INTEGER NOT NULL
) STRICT;

CREATE TABLE erasure (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    key      BLOB    NOT NULL,                        -- of the hashes
    erasures INTEGER NOT NULL,                        -- events that are gone
    wiped    INTEGER NOT NULL                         -- as many of them left nothing in the files
) STRICT;
INSERT INTO erasure VALUES (1, randomblob(32), 0, 0);

-- An event that is gone, erased by Lyftr or taken away by a hand. Its arrival number is not given again.
DROP TRIGGER event_was_deleted;
CREATE TRIGGER event_was_deleted AFTER DELETE ON event
BEGIN
    UPDATE log SET last_seq = max(last_seq, old.seq);
    UPDATE erasure SET erasures = erasures + 1;
    INSERT INTO removed (seq, identity, sender, recipient, ts_second, ts_nanosecond)
        SELECT old.seq, old.identity, old.sender, old.recipient, old.ts_second, old.ts_nanosecond WHERE old.kind = 0;
END;
