-- Events about one object, in the order of arrival. docs/storage/postgresql.md explains it.
-- Each paragraph below is one statement, run by itself in the transaction of the migration. Its comment stands in the log.

-- removing an index by object that somebody began to make beforehand, and that was not finished
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('event_by_ref') AND NOT indisvalid) THEN
        DROP INDEX event_by_ref;
    END IF;
END $$;

-- making the index by object, unless somebody has made it beforehand
CREATE INDEX IF NOT EXISTS event_by_ref ON event (ref, seq) WHERE ref IS NOT NULL;
