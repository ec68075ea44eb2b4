-- Segments of the file of texts: rows of blocks, one after the other.
CREATE TABLE text_segment (
    number              INTEGER PRIMARY KEY,   -- from 1 on, without a gap
    first_seq           INTEGER NOT NULL,      -- the first arrival number
    last_seq            INTEGER NOT NULL,
    place               INTEGER NOT NULL,      -- its first page in the file
    pages               INTEGER NOT NULL,
    messages            INTEGER NOT NULL,      -- that were not removed
    earliest_second     INTEGER NOT NULL,      -- instants of messages
    earliest_nanosecond INTEGER NOT NULL,
    latest_second       INTEGER NOT NULL,
    latest_nanosecond   INTEGER NOT NULL,
    crc                 INTEGER NOT NULL       -- CRC-32 of all other columns
) STRICT;

-- The lists of blocks for slots, each a row of three characters' hash; a row has those of a few slots in order.
CREATE TABLE text_list (
    id    INTEGER PRIMARY KEY,                 -- segment * 2^15 + the first slot
    lists BLOB NOT NULL                        -- CRC-32, then the lists (texts/lists.rs)
) STRICT;
