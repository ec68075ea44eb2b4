-- Events in place of messages: a message is an event of kind 0. docs/storage/postgresql.md explains each column.
-- Each paragraph below is one statement, run by itself in the transaction of the migration. Its comment stands in the log.

-- keeping readers and writers out
LOCK TABLE derived, message, message_text IN ACCESS EXCLUSIVE MODE;

-- removing the triggers of messages
DROP TRIGGER IF EXISTS message_was_touched ON message;

-- removing the triggers of messages
DROP TRIGGER IF EXISTS message_was_replicated ON message;

-- removing the triggers of messages
DROP TRIGGER IF EXISTS message_was_added ON message;

-- removing the triggers of messages
DROP TRIGGER IF EXISTS message_was_changed ON message;

-- removing the functions of these triggers
DROP FUNCTION IF EXISTS message_was_touched(), message_gets_number(), message_keeps_number();

-- removing the indexes, which the new table makes anew
DROP INDEX IF EXISTS message_by_time, message_by_seq, message_by_sender, message_by_recipient;

-- removing the key of messages
ALTER TABLE message DROP CONSTRAINT message_pkey;

-- naming the table of events
ALTER TABLE message RENAME TO event;

-- naming the key of an event
ALTER TABLE event RENAME COLUMN message_id TO key;

-- adding the columns of events
ALTER TABLE event
    ADD COLUMN bucket      smallint,                           -- 0 to 63, by a hash of source and key
    ADD COLUMN source      text COLLATE "C" NOT NULL DEFAULT '', -- empty for the built-in one
    ADD COLUMN kind        smallint NOT NULL DEFAULT 0,
    ADD COLUMN received_ms bigint,                             -- milliseconds since 1970-01-01T00:00:00Z
    ADD COLUMN type        text COLLATE "C",
    ADD COLUMN user_id     text COLLATE "C",
    ADD COLUMN thread      text COLLATE "C",
    ADD COLUMN ref         text COLLATE "C",
    ADD COLUMN account     text COLLATE "C",
    ADD COLUMN data        text COLLATE "C",                   -- JSON, byte for byte as it was sent
    ALTER COLUMN sender DROP NOT NULL,
    ALTER COLUMN recipient DROP NOT NULL,
    ALTER COLUMN ts_second DROP NOT NULL,
    ALTER COLUMN ts_nanosecond DROP NOT NULL,
    ALTER COLUMN ts_digits DROP NOT NULL;

-- giving each message its bucket, which writes the table anew
ALTER TABLE event
    ALTER COLUMN bucket TYPE smallint
        USING (get_byte(sha256(convert_to(source || E'\x1f' || key, 'UTF8')), 0) & 63)::smallint,
    ALTER COLUMN bucket SET NOT NULL,
    ADD CONSTRAINT message_has_time
        CHECK (kind <> 0 OR ts_second IS NOT NULL AND ts_nanosecond IS NOT NULL AND ts_digits IS NOT NULL);

-- making the key of events
ALTER TABLE event ADD CONSTRAINT event_pkey PRIMARY KEY (bucket, source, key);

-- making the index by arrival
CREATE UNIQUE INDEX event_by_seq ON event (seq, bucket);

-- making the index by time
CREATE INDEX event_by_time ON event (ts_second, ts_nanosecond, key) WHERE kind = 0;

-- making the index by sender
CREATE INDEX event_by_sender ON event (sender, ts_second, ts_nanosecond, key) WHERE kind = 0;

-- making the index by recipient
CREATE INDEX event_by_recipient ON event (recipient, ts_second, ts_nanosecond, key) WHERE kind = 0;

-- making the view of messages
CREATE VIEW message AS
    SELECT seq, bucket, CASE source WHEN '' THEN 'webhook' ELSE source END AS source, key AS message_id, sender, recipient,
           ts_second, ts_nanosecond, ts_digits, text, received_ms
    FROM event WHERE kind = 0;

-- naming the sequence of batches
ALTER SEQUENCE message_batch RENAME TO event_batch;

-- bounding the sequence of batches to what an arrival number holds
ALTER SEQUENCE event_batch MAXVALUE 2199023255551;

-- making the sequence of manual changes
CREATE SEQUENCE event_change;

-- making the sequence of manual changes
SELECT setval('event_change', 1);

-- naming the manual change after which derived data was made
ALTER TABLE derived ADD COLUMN change bigint NOT NULL DEFAULT 1;

-- naming the latest event in derived data
ALTER TABLE derived RENAME COLUMN latest_id TO latest_key;

-- adding bucket and source to the texts
ALTER TABLE message_text
    ADD COLUMN bucket smallint NOT NULL DEFAULT -1,            -- -1: made before there were buckets
    ADD COLUMN source text COLLATE "C" NOT NULL DEFAULT '',
    ALTER COLUMN sender DROP NOT NULL,
    ALTER COLUMN recipient DROP NOT NULL;

-- adding bucket and source to the texts
ALTER TABLE message_text ALTER COLUMN bucket DROP DEFAULT;

-- making the key of texts
ALTER TABLE message_text DROP CONSTRAINT message_text_pkey, ADD CONSTRAINT message_text_pkey PRIMARY KEY (bucket, seq);

-- naming the log
CREATE TABLE log (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    id      uuid NOT NULL DEFAULT gen_random_uuid()
);

-- naming the log
INSERT INTO log DEFAULT VALUES;

-- making the table of cursors
CREATE TABLE cursor (
    name       text COLLATE "C" PRIMARY KEY,
    seq        bigint NOT NULL,
    tag        bigint NOT NULL,
    updated_ms bigint NOT NULL
);

-- numbering events that are added past Lyftr
CREATE FUNCTION event_gets_number() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    batches CONSTANT regclass := format('%I.event_batch', TG_TABLE_SCHEMA);
BEGIN
    -- The lock by which a reader knows that a batch is under way, as insert.rs takes it: see horizon.rs.
    IF current_setting('lyftr.under_way', true) IS DISTINCT FROM TG_RELID::text THEN
        PERFORM pg_advisory_xact_lock_shared(
            1283024500, (coalesce(pg_sequence_last_value(batches), 0) & 2147483647)::integer);
        PERFORM set_config('lyftr.under_way', TG_RELID::text, true);
    END IF;
    IF NEW.source = 'webhook' THEN
        NEW.source := '';
    END IF;
    NEW.bucket := get_byte(sha256(convert_to(NEW.source || E'\x1f' || NEW.key, 'UTF8')), 0) & 63;
    NEW.seq := (nextval(batches) << 22) | NEW.bucket;
    RETURN NEW;
END $$;

-- numbering events that are added past Lyftr
CREATE TRIGGER event_was_added BEFORE INSERT ON event FOR EACH ROW
    WHEN (NEW.seq IS NULL OR current_setting('lyftr.batch', true) IS DISTINCT FROM (NEW.seq >> 22)::text)
    EXECUTE FUNCTION event_gets_number();

-- numbering events that are added past Lyftr
ALTER TABLE event ENABLE ALWAYS TRIGGER event_was_added;

-- moving events with their key into another bucket
CREATE FUNCTION event_gets_bucket() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    NEW.bucket := get_byte(sha256(convert_to(NEW.source || E'\x1f' || NEW.key, 'UTF8')), 0) & 63;
    RETURN NEW;
END $$;

-- moving events with their key into another bucket
CREATE TRIGGER event_was_renamed BEFORE UPDATE ON event FOR EACH ROW
    WHEN (NEW.bucket IS DISTINCT FROM OLD.bucket OR NEW.source IS DISTINCT FROM OLD.source OR NEW.key IS DISTINCT FROM OLD.key)
    EXECUTE FUNCTION event_gets_bucket();

-- moving events with their key into another bucket
ALTER TABLE event ENABLE ALWAYS TRIGGER event_was_renamed;

-- keeping arrival numbers where an event is changed by replication
CREATE FUNCTION event_keeps_number() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.seq := OLD.seq; RETURN NEW; END';

-- keeping arrival numbers where an event is changed by replication
CREATE TRIGGER event_was_changed BEFORE UPDATE ON event FOR EACH ROW
    WHEN (NEW.seq IS DISTINCT FROM OLD.seq) EXECUTE FUNCTION event_keeps_number();

-- keeping arrival numbers where an event is changed by replication
ALTER TABLE event ENABLE REPLICA TRIGGER event_was_changed;

-- noticing manual changes
CREATE FUNCTION event_was_touched() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changes CONSTANT regclass := format('%I.event_change', TG_TABLE_SCHEMA);
BEGIN
    -- Said once a transaction, which holds the lock until its end: see change.rs.
    IF current_setting('lyftr.touched', true) IS DISTINCT FROM TG_RELID::text THEN
        PERFORM pg_advisory_xact_lock_shared(1283024501, 3);
        PERFORM setval(changes, nextval(changes));
        PERFORM set_config('lyftr.touched', TG_RELID::text, true);
    END IF;
    RETURN NULL;
END $$;

-- noticing manual changes
CREATE TRIGGER event_was_touched AFTER UPDATE OR DELETE OR TRUNCATE ON event
    FOR EACH STATEMENT EXECUTE FUNCTION event_was_touched();

-- noticing manual changes
ALTER TABLE event ENABLE ALWAYS TRIGGER event_was_touched;

-- noticing manual changes by replication, which tells of each row and of no statement
CREATE TRIGGER event_was_replicated AFTER UPDATE OR DELETE ON event
    FOR EACH ROW EXECUTE FUNCTION event_was_touched();

-- noticing manual changes by replication, which tells of each row and of no statement
ALTER TABLE event ENABLE REPLICA TRIGGER event_was_replicated;

-- storing a batch, by a function, since each session plans its statement once, whoever else uses the session
CREATE FUNCTION event_add_messages(seen bigint, places integer[], keys text[], senders text[], recipients text[], seconds bigint[],
                       nanoseconds integer[], digits smallint[], received bigint[], texts text[])
    RETURNS SETOF bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    -- The lock is taken before the number, so that a reader knows that the batch is under way: see horizon.rs. A number must
    -- exceed those that were seen before, or nothing is stored: see batch_sequence.rs. The setting tells the number to the
    -- trigger event_was_added, which replaces the arrival numbers of all other inserts.
    RETURN QUERY
    WITH begun AS MATERIALIZED (
        SELECT last_value AS latest, pg_advisory_xact_lock_shared(1283024500, (last_value & 2147483647)::integer)
        FROM event_batch
    ), taken AS MATERIALIZED (
        SELECT nextval('event_batch') AS number, latest FROM begun
    ), batch AS MATERIALIZED (
        SELECT number, set_config('lyftr.batch', number::text, true) FROM taken WHERE number > greatest(latest, event_add_messages.seen)
    )
    INSERT INTO event (bucket, seq, key, sender, recipient, ts_second, ts_nanosecond, ts_digits, received_ms, text)
    SELECT (place & 63)::smallint, (number << 22) + place, key, sender, recipient, second, nanosecond, digit, received_ms, text
    FROM batch, unnest(places, keys, senders, recipients, seconds, nanoseconds, event_add_messages.digits, event_add_messages.received, texts)
        AS given (place, key, sender, recipient, second, nanosecond, digit, received_ms, text)
    ON CONFLICT (bucket, source, key) DO NOTHING
    RETURNING seq;
END $$;

-- the same for events that have more than the fields of a message
CREATE FUNCTION event_add(seen bigint, places integer[], keys text[], senders text[], recipients text[], seconds bigint[],
                       nanoseconds integer[], digits smallint[], received bigint[], texts text[],
                       sources text[], kinds smallint[], types text[], user_ids text[], threads text[], refs text[],
                       accounts text[], datas text[])
    RETURNS SETOF bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH begun AS MATERIALIZED (
        SELECT last_value AS latest, pg_advisory_xact_lock_shared(1283024500, (last_value & 2147483647)::integer)
        FROM event_batch
    ), taken AS MATERIALIZED (
        SELECT nextval('event_batch') AS number, latest FROM begun
    ), batch AS MATERIALIZED (
        SELECT number, set_config('lyftr.batch', number::text, true) FROM taken WHERE number > greatest(latest, event_add.seen)
    )
    INSERT INTO event (bucket, seq, key, sender, recipient, ts_second, ts_nanosecond, ts_digits, received_ms, text,
                       source, kind, type, user_id, thread, ref, account, data)
    SELECT (place & 63)::smallint, (number << 22) + place, key, sender, recipient, second, nanosecond, digit, received_ms, text,
                       source, kind, type, user_id, thread, ref, account, data
    FROM batch, unnest(places, keys, senders, recipients, seconds, nanoseconds, event_add.digits, event_add.received, texts,
                       sources, kinds, types, user_ids, threads, refs, accounts, datas)
        AS given (place, key, sender, recipient, second, nanosecond, digit, received_ms, text,
                       source, kind, type, user_id, thread, ref, account, data)
    ON CONFLICT (bucket, source, key) DO NOTHING
    RETURNING seq;
END $$;

-- gathering statistics for the planner
ANALYZE event;
