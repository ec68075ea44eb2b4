-- Events about one object, in the order of arrival. docs/storage/sqlite.md explains it. Reads every event once.
--
-- The built-in source says of no event what it is about, and so has nothing in it.
CREATE INDEX event_by_ref ON event (ref) WHERE ref IS NOT NULL;
