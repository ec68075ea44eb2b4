-- Every message. docs/storage.md explains each column. Text is compared by bytes, whatever the database's collation.
CREATE TABLE message (
    message_id    text COLLATE "C" PRIMARY KEY,      -- the promise "exactly once" rests on this index
    seq           bigint   NOT NULL,                 -- arrival number: that of the batch times 65,536, and the place in it
    sender        text COLLATE "C" NOT NULL,
    recipient     text COLLATE "C" NOT NULL,
    ts_second     bigint   NOT NULL,                 -- seconds since 1970-01-01T00:00:00Z
    ts_nanosecond integer  NOT NULL,                 -- nanoseconds into that second
    ts_digits     smallint NOT NULL,                 -- digits of the fraction that were written, 0 to 9
    text          text COLLATE "C"
);
CREATE INDEX message_by_time ON message (ts_second, ts_nanosecond, message_id);
CREATE INDEX message_by_arrival ON message (seq);
CREATE INDEX message_by_sender ON message (sender, ts_second, ts_nanosecond, message_id);
CREATE INDEX message_by_recipient ON message (recipient, ts_second, ts_nanosecond, message_id);

-- Numbers the batches. The first one is taken here, so that last_value is always one that was taken.
CREATE SEQUENCE message_batch;
SELECT nextval('message_batch');

-- What follows is derived from the messages, behind the writers. It is made anew once derived.is_void is true.

-- How far that has come, and the figures over all messages up to there.
CREATE TABLE derived (
    one_row      boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    is_void      boolean NOT NULL DEFAULT false,     -- messages were changed or taken away by hand
    figures_upto bigint  NOT NULL DEFAULT 0,         -- all but message_text holds every message up to this one
    texts_upto   bigint  NOT NULL DEFAULT 0,         -- message_text does
    messages     bigint  NOT NULL DEFAULT 0,
    senders      bigint  NOT NULL DEFAULT 0
);
INSERT INTO derived DEFAULT VALUES;

-- Messages of each number, and at each time: days and minutes since 1970.
CREATE TABLE sender_total    (number text COLLATE "C" PRIMARY KEY, messages bigint NOT NULL);
CREATE TABLE recipient_total (number text COLLATE "C" PRIMARY KEY, messages bigint NOT NULL);
CREATE TABLE day_total       (day    bigint PRIMARY KEY, messages bigint NOT NULL);
CREATE TABLE minute_total    (minute bigint PRIMARY KEY, messages bigint NOT NULL);
CREATE INDEX sender_by_messages ON sender_total (messages DESC, number);

-- The texts, case-folded, and what a search may ask of a message besides.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE TABLE message_text (
    seq           bigint PRIMARY KEY,
    message_id    text COLLATE "C" NOT NULL,
    sender        text COLLATE "C" NOT NULL,
    recipient     text COLLATE "C" NOT NULL,
    ts_second     bigint  NOT NULL,
    ts_nanosecond integer NOT NULL,
    folded        text COLLATE "C" NOT NULL
);
CREATE INDEX message_text_by_trigram ON message_text USING gin (folded gin_trgm_ops);

-- Messages are only ever added. Should a hand take one away or change one, what was derived from it is void.
CREATE FUNCTION message_was_touched() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN UPDATE derived SET is_void = true; RETURN NULL; END';
CREATE TRIGGER message_was_touched AFTER UPDATE OR DELETE OR TRUNCATE ON message
    FOR EACH STATEMENT EXECUTE FUNCTION message_was_touched();
