-- Erasure: what Lyftr erases is told from a manual change, and does not come back. docs/storage/postgresql.md explains it.
-- Each paragraph below is one statement, run by itself in the transaction of the migration. Its comment stands in the log.

-- making the table that has a row once anything was erased
CREATE TABLE erasure (
    one_row     boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    key         bytea  NOT NULL,           -- of the keyed hash, HMAC-SHA-256
    inner_block bytea  NOT NULL,           -- what its inner and its outer hash begin with: the key, masked
    outer_block bytea  NOT NULL,
    steps       bigint NOT NULL DEFAULT 0  -- transactions that added tombstones
);

-- making the table of tombstones
CREATE TABLE erased (
    hash   bytea    NOT NULL,  -- the tombstone: half of the keyed hash of source and key
    bucket smallint NOT NULL,  -- that of the event; -1 if it is unknown, since another store erased the event
    step   bigint   NOT NULL,  -- erasure.steps by the transaction that added it
    seq    bigint,             -- the position that the event had in this log
    tag    bigint,
    PRIMARY KEY (hash, bucket)
);

-- making the index of erased events by arrival
CREATE INDEX erased_by_seq ON erased (seq, bucket) WHERE seq IS NOT NULL;

-- making the table that says which process erases what is too old to be kept
CREATE TABLE keeper (
    one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
    process text        NOT NULL,
    until   timestamptz NOT NULL  -- then any other process may take its place
);

-- noticing manual changes, which Lyftr's own erasure is not
CREATE OR REPLACE FUNCTION event_was_touched() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changes CONSTANT regclass := format('%I.event_change', TG_TABLE_SCHEMA);
BEGIN
    -- An erasure adjusts derived data itself. It says the id of its transaction, so that the setting means nothing to any
    -- other one, wherever it was left behind.
    IF TG_OP = 'DELETE' AND current_setting('lyftr.erasing', true) = pg_current_xact_id()::text THEN
        RETURN NULL;
    END IF;
    -- Said once a transaction, which holds the lock until its end: see change.rs.
    IF current_setting('lyftr.touched', true) IS DISTINCT FROM TG_RELID::text THEN
        PERFORM pg_advisory_xact_lock_shared(1283024501, 3);
        PERFORM setval(changes, nextval(changes));
        PERFORM set_config('lyftr.touched', TG_RELID::text, true);
    END IF;
    RETURN NULL;
END $$;

-- telling which events of a batch were erased
CREATE FUNCTION event_erased(places integer[], sources text[], keys text[]) RETURNS integer[]
    LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
#variable_conflict use_column
BEGIN
    -- HMAC-SHA-256, whose two hashes each begin with a block of the key.
    RETURN (
        SELECT coalesce(array_agg(place), '{}')
        FROM erasure, unnest(places, sources, keys) AS given (place, source, key)
        WHERE (
            SELECT true FROM erased
            WHERE erased.bucket IN ((given.place & 63)::smallint, -1) AND erased.hash = substring(
                sha256(erasure.outer_block || sha256(erasure.inner_block || convert_to(
                    coalesce(nullif(given.source, ''), 'webhook') || E'\x1f' || given.key, 'UTF8'))), 1, 16)
            LIMIT 1
        )
    );
END $$;

-- storing a batch without what was erased: returns arrival numbers, and of an erased event the complement of its place
CREATE OR REPLACE FUNCTION event_add_messages(seen bigint, places integer[], keys text[], senders text[], recipients text[], seconds bigint[],
                       nanoseconds integer[], digits smallint[], received bigint[], texts text[])
    RETURNS SETOF bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    -- Null if nothing was ever erased.
    erasures bigint := (SELECT steps FROM erasure);
    gone integer[] := '{}';
BEGIN
    IF erasures IS NOT NULL THEN
        gone := event_erased(places, NULL, keys);
    END IF;
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
    WHERE place <> ALL (gone)
    ON CONFLICT (bucket, source, key) DO NOTHING
    RETURNING seq;
    -- The insert waits for an erasure that is under way, and would then store what that has just erased. Each statement
    -- sees what was committed before it, so this one sees such an erasure; the next try leaves out what it erased.
    IF (SELECT steps FROM erasure) IS DISTINCT FROM erasures THEN
        IF cardinality(event_erased(places, NULL, keys)) <> cardinality(gone) THEN
            RAISE serialization_failure USING MESSAGE = 'events of this batch were erased meanwhile';
        END IF;
    END IF;
    IF gone <> '{}' THEN
        RETURN QUERY SELECT (~place)::bigint FROM unnest(gone) AS erased (place);
    END IF;
END $$;

-- the same for events that have more than the fields of a message
CREATE OR REPLACE FUNCTION event_add(seen bigint, places integer[], keys text[], senders text[], recipients text[], seconds bigint[],
                       nanoseconds integer[], digits smallint[], received bigint[], texts text[],
                       sources text[], kinds smallint[], types text[], user_ids text[], threads text[], refs text[],
                       accounts text[], datas text[])
    RETURNS SETOF bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    -- Null if nothing was ever erased.
    erasures bigint := (SELECT steps FROM erasure);
    gone integer[] := '{}';
BEGIN
    IF erasures IS NOT NULL THEN
        gone := event_erased(places, sources, keys);
    END IF;
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
    WHERE place <> ALL (gone)
    ON CONFLICT (bucket, source, key) DO NOTHING
    RETURNING seq;
    IF (SELECT steps FROM erasure) IS DISTINCT FROM erasures THEN
        IF cardinality(event_erased(places, sources, keys)) <> cardinality(gone) THEN
            RAISE serialization_failure USING MESSAGE = 'events of this batch were erased meanwhile';
        END IF;
    END IF;
    IF gone <> '{}' THEN
        RETURN QUERY SELECT (~place)::bigint FROM unnest(gone) AS erased (place);
    END IF;
END $$;
