-- Events in place of messages: a message is an event of kind 0. docs/storage/sqlite.md explains each column.
--
-- Reads and writes no row, so that it takes as long with ten million messages as with none: a row that ends before a column
-- has that column's default value, and an index of all messages holds what an index of all events of kind 0 must hold.
DROP TRIGGER message_was_deleted;
DROP TRIGGER message_was_changed;

ALTER TABLE message RENAME TO event;
ALTER TABLE event RENAME COLUMN message_id TO identity;
ALTER TABLE event ALTER COLUMN sender DROP NOT NULL;
ALTER TABLE event ALTER COLUMN recipient DROP NOT NULL;
ALTER TABLE event ALTER COLUMN ts_second DROP NOT NULL;
ALTER TABLE event ALTER COLUMN ts_nanosecond DROP NOT NULL;
ALTER TABLE event ALTER COLUMN ts_digits DROP NOT NULL;

-- ADD COLUMN would read every row of a STRICT table again for each column, and a new index would sort them all. So the
-- texts that ADD COLUMN would write are written here. A column that somebody has added stays where it is.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema
SET sql = replace(substr(sql, 1, length(sql) - length(') STRICT')),
                  'never reused, for rows are never deleted by hand', 'never given twice') || ',
    kind          INTEGER NOT NULL DEFAULT 0,         -- 0: a message
    received_ms   INTEGER,                            -- milliseconds since 1970-01-01T00:00:00Z
    type          TEXT,
    user_id       TEXT,
    thread        TEXT,
    ref           TEXT,
    account       TEXT,
    data          TEXT                                -- JSON, byte for byte as it was sent
) STRICT'
WHERE type = 'table' AND name = 'event' AND substr(sql, -8) = ') STRICT';
UPDATE sqlite_schema
SET name = 'event_by_instant', sql = 'CREATE INDEX event_by_instant ON event (ts_second, ts_nanosecond) WHERE kind = 0'
WHERE type = 'index' AND name = 'message_by_instant';
PRAGMA writable_schema = RESET;
SELECT kind, data FROM event LIMIT 0;
-- Only where somebody has removed the index.
CREATE INDEX IF NOT EXISTS event_by_instant ON event (ts_second, ts_nanosecond) WHERE kind = 0;

-- The events that are messages. The identity of an event of the built-in source is its key; that of another one has the
-- source before it, between two characters that neither a key nor the name of a source can hold.
CREATE VIEW message AS SELECT
    seq,
    CASE WHEN identity >= ' ' THEN 'webhook' ELSE substr(identity, 2, instr(substr(identity, 2), char(31)) - 1) END AS source,
    CASE WHEN identity >= ' ' THEN identity ELSE substr(identity, 2 + instr(substr(identity, 2), char(31))) END AS message_id,
    sender, recipient, ts_second, ts_nanosecond, ts_digits, text, received_ms
FROM event WHERE kind = 0;

-- The order of arrival: its name, and the greatest arrival number of an event that is gone.
CREATE TABLE log (
    only     INTEGER PRIMARY KEY CHECK (only = 1),
    id       BLOB    NOT NULL,
    last_seq INTEGER NOT NULL
) STRICT;
INSERT INTO log VALUES (1, randomblob(16), 0);

-- The places of followers in it.
CREATE TABLE cursor (
    name       TEXT    PRIMARY KEY,
    seq        INTEGER NOT NULL,
    tag        INTEGER NOT NULL,
    updated_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Events are only ever added. Should a hand take one away or change one, its arrival number is not given again, and what was
-- derived from messages is void if it was one, or is one now.
CREATE TRIGGER event_was_deleted AFTER DELETE ON event
BEGIN
    UPDATE log SET last_seq = max(last_seq, old.seq);
    UPDATE edition SET name = randomblob(16) WHERE old.kind = 0;
END;
CREATE TRIGGER event_was_changed AFTER UPDATE ON event
BEGIN
    UPDATE log SET last_seq = max(last_seq, old.seq);
    UPDATE edition SET name = randomblob(16) WHERE old.kind = 0 OR new.kind = 0;
END;
