-- What is derived from the messages, in a file of its own. Deleted or damaged, it is rebuilt from them.
-- docs/storage/sqlite.md explains each table; entries.sql and texts.sql have the others.

-- What the tables hold: every message up to an arrival number, but for those whose removal is up to a number.
CREATE TABLE state (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    edition      BLOB    NOT NULL,   -- the dataset id of the messages that this was derived from
    upto         INTEGER NOT NULL,   -- the watermark
    removed_upto INTEGER NOT NULL    -- the last row of the change log that was followed
) STRICT;

-- Messages of each sender, by its number.
CREATE TABLE sender (
    number   INTEGER PRIMARY KEY,
    messages INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Numbers of senders and recipients that are no phone numbers.
CREATE TABLE name (
    number INTEGER PRIMARY KEY,
    name   TEXT    NOT NULL UNIQUE
) STRICT, WITHOUT ROWID;
