-- The entries of all lists (entries.rs), sorted; key.rs has the form of a key.
CREATE TABLE entry (
    key BLOB PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- How many entries there are (tree.rs): the tree is cut into spans, a span into blocks.
CREATE TABLE span (
    first   BLOB    PRIMARY KEY, -- no entry of the span is less
    entries INTEGER NOT NULL,
    blocks  BLOB    NOT NULL     -- of each: length of its first, its first, its entries
) STRICT, WITHOUT ROWID;

-- Lists and moments that so many messages share that their entries have ties.
CREATE TABLE crowd (
    instant BLOB PRIMARY KEY     -- what the keys of its entries begin with
) STRICT, WITHOUT ROWID;
