-- Names the messages that figures and indexes were made from. A new name means: make them anew.
CREATE TABLE edition (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    name BLOB    NOT NULL
) STRICT;
INSERT INTO edition VALUES (1, randomblob(16));

-- Messages are only ever added. Should a hand take one away or change one, what was derived from it is void.
CREATE TRIGGER message_was_deleted AFTER DELETE ON message
BEGIN UPDATE edition SET name = randomblob(16); END;
CREATE TRIGGER message_was_changed AFTER UPDATE ON message
BEGIN UPDATE edition SET name = randomblob(16); END;
