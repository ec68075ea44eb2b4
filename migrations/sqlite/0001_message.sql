-- Every message, in the order of arrival. docs/storage.md explains each column.
CREATE TABLE message (
    seq           INTEGER PRIMARY KEY,                -- arrival number; never reused, for rows are never deleted by hand
    message_id    TEXT    NOT NULL UNIQUE,            -- the promise "exactly once" rests on this index
    sender        TEXT    NOT NULL,
    recipient     TEXT    NOT NULL,
    ts_second     INTEGER NOT NULL,                   -- seconds since 1970-01-01T00:00:00Z
    ts_nanosecond INTEGER NOT NULL,                   -- nanoseconds into that second
    ts_digits     INTEGER NOT NULL,                   -- digits of the fraction that were written, 0 to 9
    text          TEXT
) STRICT;

-- Narrow on purpose: each index that is random is a page written per message. Ties are sorted by message_id on reading.
CREATE INDEX message_by_instant ON message (ts_second, ts_nanosecond);
