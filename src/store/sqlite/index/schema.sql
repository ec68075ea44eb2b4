-- What is derived from the messages, in a file of its own. Deleted or damaged, it is made anew from them.
-- Numbers stand for phone numbers (number.rs); 0 is any number. docs/storage.md explains each table.

-- What the tables below hold: every message up to an arrival number.
CREATE TABLE state (
    only         INTEGER PRIMARY KEY CHECK (only = 1),
    edition      BLOB    NOT NULL,   -- of the messages that this was derived from
    numbers_upto INTEGER NOT NULL,   -- all but by_text
    texts_upto   INTEGER NOT NULL    -- by_text
) STRICT;

-- Each message three times: by its sender, by its recipient, by both.
CREATE TABLE by_number (
    sender        INTEGER NOT NULL,
    recipient     INTEGER NOT NULL,
    ts_second     INTEGER NOT NULL,
    ts_nanosecond INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    PRIMARY KEY (sender, recipient, ts_second, ts_nanosecond, seq)
) WITHOUT ROWID, STRICT;

-- Messages of each sender.
CREATE TABLE sender (
    number   INTEGER PRIMARY KEY,
    messages INTEGER NOT NULL
) STRICT;

-- The steps (ranks.rs) of by_number and of the messages by time: where one begins, and its entries.
CREATE TABLE number_step (
    sender        INTEGER NOT NULL,
    recipient     INTEGER NOT NULL,
    ts_second     INTEGER NOT NULL,
    ts_nanosecond INTEGER NOT NULL,
    entries       INTEGER NOT NULL
) STRICT;
CREATE TABLE time_step (
    ts_second     INTEGER NOT NULL,
    ts_nanosecond INTEGER NOT NULL,
    entries       INTEGER NOT NULL
) STRICT;

-- Which messages have three characters in a row in their folded text. Says neither where nor how often.
CREATE VIRTUAL TABLE by_text USING fts5 (
    folded, content = '', detail = none, columnsize = 0, tokenize = 'trigram case_sensitive 1'
);
-- Half as many merges as by default: a third less time for writing; a search looks into a few more segments.
INSERT INTO by_text (by_text, rank) VALUES ('automerge', 8);
