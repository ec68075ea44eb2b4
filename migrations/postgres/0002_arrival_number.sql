-- Arrival numbers are unique, and this database's own, whoever adds a message. What is derived names the latest message
-- in it. Functions find what they touch by the schema of the table, whatever the search_path of who changes a message.

-- Whoever stores messages waits from here on, whoever reads them does not.
LOCK TABLE message IN SHARE ROW EXCLUSIVE MODE;

-- No batch gets a number whose arrival numbers would not fit.
ALTER SEQUENCE message_batch MAXVALUE 140737488355327;

-- A sequence that did not come along with its messages is moved on, and messages get numbers of their own that have none,
-- by hand, or share one. To spare those who store messages the wait for the index, make it beforehand:
-- CREATE UNIQUE INDEX CONCURRENTLY message_by_seq ON message (seq);
DO $$
BEGIN
    PERFORM setval('message_batch', greatest(last_value, (SELECT max(seq) >> 16 FROM message),
        (SELECT greatest(figures_upto, texts_upto) >> 16 FROM derived))) FROM message_batch;
    IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('message_by_seq')
               AND NOT (indisvalid AND indisunique)) THEN
        DROP INDEX message_by_seq;
    END IF;
    IF EXISTS (SELECT FROM message WHERE seq <= 0) THEN
        UPDATE message SET seq = nextval('message_batch') << 16 WHERE seq <= 0;
    END IF;
    BEGIN
        CREATE UNIQUE INDEX IF NOT EXISTS message_by_seq ON message (seq);
    EXCEPTION WHEN unique_violation THEN
        UPDATE message SET seq = nextval('message_batch') << 16 WHERE message_id IN (
            SELECT message_id FROM (
                SELECT message_id, row_number() OVER (PARTITION BY seq ORDER BY message_id) AS nth FROM message
                WHERE seq IN (SELECT seq FROM message GROUP BY seq HAVING count(*) > 1)
            ) AS numbered WHERE nth > 1);
        CREATE UNIQUE INDEX message_by_seq ON message (seq);
    END;
END $$;

-- The latest message in the figures. If it is not there any more, they are of other messages, and void.
ALTER TABLE derived ADD COLUMN latest_seq bigint, ADD COLUMN latest_id text COLLATE "C";
UPDATE derived SET (latest_seq, latest_id) =
    (SELECT seq, message_id FROM message WHERE seq <= figures_upto ORDER BY seq DESC LIMIT 1);

-- Messages are only ever added. Should a hand take one away or change one, what was derived from it is void. Said once a
-- transaction, and for as long as that lasts.
CREATE OR REPLACE FUNCTION message_was_touched() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('lyftr.touched', true) IS DISTINCT FROM TG_RELID::text THEN
        EXECUTE format('UPDATE %I.derived SET is_void = true', TG_TABLE_SCHEMA);
        PERFORM set_config('lyftr.touched', TG_RELID::text, true);
    END IF;
    RETURN NULL;
END $$;
ALTER TABLE message ENABLE ALWAYS TRIGGER message_was_touched;
-- Replication tells of each row, and of no statement.
CREATE TRIGGER message_was_replicated AFTER UPDATE OR DELETE ON message
    FOR EACH ROW EXECUTE FUNCTION message_was_touched();
ALTER TABLE message ENABLE REPLICA TRIGGER message_was_replicated;

-- A message that is added by a hand, a restore or replication gets a number of this database too, and a lock by which a
-- reader knows that it is under way, as a batch does: see insert.rs and horizon.rs. A batch says its number in
-- lyftr.batch. The place in the batch stays, for the release before this one reads it from the number.
CREATE FUNCTION message_gets_number() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    batches CONSTANT regclass := format('%I.message_batch', TG_TABLE_SCHEMA);
BEGIN
    IF current_setting('lyftr.under_way', true) IS DISTINCT FROM TG_RELID::text THEN
        PERFORM pg_advisory_xact_lock_shared(
            1283024500, (coalesce(pg_sequence_last_value(batches), 0) & 2147483647)::integer);
        PERFORM set_config('lyftr.under_way', TG_RELID::text, true);
    END IF;
    NEW.seq := (nextval(batches) << 16) + (coalesce(NEW.seq, 0) & 65535);
    RETURN NEW;
END $$;
CREATE TRIGGER message_was_added BEFORE INSERT ON message FOR EACH ROW
    WHEN (current_setting('lyftr.batch', true) IS DISTINCT FROM (NEW.seq >> 16)::text)
    EXECUTE FUNCTION message_gets_number();
ALTER TABLE message ENABLE ALWAYS TRIGGER message_was_added;

-- What is changed where it was replicated from has another number there.
CREATE FUNCTION message_keeps_number() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.seq := OLD.seq; RETURN NEW; END';
CREATE TRIGGER message_was_changed BEFORE UPDATE ON message FOR EACH ROW
    WHEN (NEW.seq IS DISTINCT FROM OLD.seq) EXECUTE FUNCTION message_keeps_number();
ALTER TABLE message ENABLE REPLICA TRIGGER message_was_changed;

-- The index that message_by_seq takes the place of. Last, since it keeps readers out until the end.
DROP INDEX IF EXISTS message_by_arrival;
