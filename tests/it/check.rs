//! `lyftr check`: sound is what is sound, and nothing else is.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use lyftr::event::Kind;
use lyftr::store::Store as _;
use lyftr::store::sqlite::{Sqlite, Tuning};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::postgres::Database;
use crate::support::process::{Finished, Process};
use crate::support::{
    Messages as _, filled_store, message_with, mixed, open_store, parsed, settle, sqlite_url,
};

const MANY: usize = 3_000;

/// Fills a store, and waits until everything is derived.
fn fill(url: &str) {
    let store = filled_store(url, &mixed(0..MANY));
    settle(store.as_ref());
    store.close();
}

/// The same on SQLite, with everything in the index files.
fn fill_file(path: &Path) {
    let tuning = Tuning { part_messages: 1, ..Tuning::default() };
    let store = Sqlite::open(path, tuning).unwrap();
    store.insert_messages(&mixed(0..MANY)).unwrap();
    settle(&store);
    store.close();
}

/// A copy of a database that is filled once.
fn filled() -> (TempDir, PathBuf) {
    static ONE: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        fill_file(&folder.path().join("app.db"));
        folder
    });
    let folder = tempfile::tempdir().unwrap();
    for name in ["app.db", "app.db-index", "app.db-texts"] {
        std::fs::copy(ONE.path().join(name), folder.path().join(name)).unwrap();
    }
    let path = folder.path().join("app.db");
    (folder, path)
}

fn check(url: &str) -> Finished {
    Process::builder().env("DATABASE_URL", url).args(&["check"]).run()
}

#[track_caller]
fn assert_sound(url: &str, said: &str) {
    let done = check(url);
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""), "{}", done.stdout);
    assert_eq!(done.stdout, said);
}

/// It finds something, says what, counts it, and says nothing of what the messages hold.
#[track_caller]
fn assert_found(url: &str, problems: &[&str]) {
    let done = check(url);
    assert_eq!((done.code(), done.stderr.as_str()), (Some(1), ""), "{}", done.stdout);
    for problem in problems {
        assert!(done.stdout.lines().any(|line| line.starts_with(problem)), "{problem}:\n{}", done.stdout);
    }
    let (found, last) = done.stdout.trim_end().rsplit_once('\n').unwrap();
    let found = found.lines().count();
    assert_eq!(last, format!("{found} {}", if found == 1 { "problem" } else { "problems" }));
    assert!(!done.stdout.contains("ecret") && !done.stdout.contains("+4917"), "{}", done.stdout);
}

/// Runs statements that the index does not get to know of: without the triggers that notice them.
pub(crate) fn behind_the_index(path: &Path, sql: &str) {
    let conn = Connection::open(path).unwrap();
    let names = ["event_was_deleted", "event_was_changed"];
    let triggers = names.map(|name| {
        let sql: String = conn
            .query_row("SELECT sql FROM sqlite_schema WHERE name = ?1", [name], |row| row.get(0))
            .unwrap();
        conn.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
        sql
    });
    conn.execute_batch(sql).unwrap();
    conn.execute_batch(&triggers.join(";")).unwrap();
}

#[test]
fn a_database_is_sound_at_rest_at_work_and_as_a_backup() {
    let (folder, path) = filled();
    assert_sound(&sqlite_url(&path), "sound: 3000 events\n");
    let service = Process::builder().folder(folder.path()).start();
    let send = |client: &mut Client, sender, n| {
        let (id, from, text) = (format!("{sender} {n}"), format!("+{}", n % 9), format!("Text {n}"));
        client.store(&message_with(&id, &from, "2025-01-15T10:00:00Z", Some(&text)));
    };
    service.while_sending(3, send, || {
        for _ in 0..4 {
            let done = check(&sqlite_url(&path));
            assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""), "{}", done.stdout);
            assert!(done.stdout.starts_with("sound: "), "{}", done.stdout);
        }
    });
    drop(service);
    // Killed, so that its log is still there.
    let done = check(&sqlite_url(&path));
    assert!(done.stdout.starts_with("sound: "), "{}{}", done.stdout, done.stderr);
    let backup = folder.path().join("backup.db");
    let made = Process::builder()
        .env("DATABASE_URL", &sqlite_url(&path))
        .args(&["backup", backup.to_str().unwrap()])
        .run();
    assert_eq!(made.code(), Some(0), "{}", made.stderr);
    let done = check(&sqlite_url(&backup));
    assert_eq!(done.code(), Some(0), "{}", done.stdout);
    assert!(done.stdout.starts_with("index: missing"), "{}", done.stdout);
    let beside = ["-wal", "-shm", "-journal", "-index", "-lock"];
    assert!(!beside.iter().any(|ending| folder.path().join(format!("backup.db{ending}")).exists()));
}

#[test]
fn a_row_that_was_deleted_behind_the_index_is_found() {
    let (_folder, path) = filled();
    behind_the_index(&path, "DELETE FROM event WHERE seq = 1234");
    assert_found(
        &sqlite_url(&path),
        &["index: entries: expected 11996, found 12000", "index: texts: expected 2399, found 2400"],
    );
}

#[test]
fn a_row_that_was_changed_behind_the_index_is_found() {
    let (_folder, path) = filled();
    behind_the_index(&path, "UPDATE event SET sender = '+49999', text = 'zzz' WHERE seq = 1234");
    assert_found(
        &sqlite_url(&path),
        &[
            "index: entries: 12000, as expected, but not those",
            "index: texts: 2400, as expected, but not those",
        ],
    );
}

/// A manual change makes the index void, or leaves something for it to follow, which is no damage.
#[test]
fn an_index_that_is_void_or_missing_is_no_problem() {
    let (_folder, path) = filled();
    Connection::open(&path).unwrap().execute("DELETE FROM event WHERE seq = 1234", ()).unwrap();
    let behind = "index: it has yet to follow the last removals, and is not compared\n";
    assert_sound(&sqlite_url(&path), &format!("{behind}sound: 2999 events\n"));
    Connection::open(&path).unwrap().execute("UPDATE event SET text = 'new' WHERE seq = 1235", ()).unwrap();
    let void = "index: it was derived from other messages, and is not compared; the service rebuilds it\n";
    assert_sound(&sqlite_url(&path), &format!("{void}sound: 2999 events\n"));
    let index = path.with_extension("db-index");
    Connection::open(&index).unwrap().execute_batch("PRAGMA user_version = 77").unwrap();
    let older = "index: it has another version; the service rebuilds it\n";
    assert_sound(&sqlite_url(&path), &format!("{older}sound: 2999 events\n"));
    std::fs::remove_file(index).unwrap();
    let none = "index: missing; a start of the service creates it\n";
    assert_sound(&sqlite_url(&path), &format!("{none}sound: 2999 events\n"));
}

#[test]
fn a_wrong_aggregate_is_found() {
    for (sql, found) in [
        (
            "UPDATE sender SET messages = messages + 1 WHERE number = (SELECT max(number) FROM sender)",
            &["index: senders with another number of messages than they have: expected 0, found 1"][..],
        ),
        (
            "DELETE FROM sender WHERE number = (SELECT max(number) FROM sender)",
            &["index: senders: expected 17, found 16"],
        ),
        ("INSERT INTO sender VALUES (99, 0)", &["index: senders: expected 17, found 18"]),
        (
            "DELETE FROM entry WHERE key = (SELECT key FROM entry LIMIT 1 OFFSET 700)",
            &["index: entries: expected 12000, found 11999", "index: the counts of entries are not"],
        ),
        (
            "UPDATE span SET entries = entries + 5 WHERE first = (SELECT max(first) FROM span)",
            &["index: cannot be read any further: the database is damaged"],
        ),
        (
            "DELETE FROM text_list WHERE id = (SELECT max(id) FROM text_list)",
            &["index: the search index is damaged"],
        ),
        ("UPDATE text_segment SET messages = messages - 1", &["index: the search index is damaged"]),
    ] {
        let (_folder, path) = filled();
        let changed = Connection::open(path.with_extension("db-index")).unwrap().execute(sql, ()).unwrap();
        assert_eq!(changed, 1, "{sql}");
        assert_found(&sqlite_url(&path), found);
    }
}

#[test]
fn a_schema_that_was_changed_is_found() {
    let (_folder, path) = filled();
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "DROP TRIGGER event_was_deleted; DROP INDEX event_by_instant; CREATE INDEX mine ON event (text);
         DROP TRIGGER event_was_changed; CREATE TRIGGER event_was_changed AFTER UPDATE ON event BEGIN SELECT 1; END",
    )
    .unwrap();
    let done = check(&sqlite_url(&path));
    assert_eq!(done.code(), Some(1));
    for line in [
        "database: the index event_by_instant is missing",
        "database: the trigger event_was_deleted is missing",
        "database: the trigger event_was_changed differs from Lyftr's schema",
        "database: the index mine is not part of Lyftr's schema",
        "3 problems",
    ] {
        assert!(done.stdout.lines().any(|found| found == line), "{line}:\n{}", done.stdout);
    }
    conn.execute_batch("PRAGMA user_version = 99").unwrap();
    let newer = check(&sqlite_url(&path));
    assert_eq!((newer.code(), newer.stdout.as_str()), (Some(1), ""));
    assert!(newer.stderr.contains("schema version 99"), "{}", newer.stderr);
}

/// What somebody adds is left alone, and in nobody's way.
#[test]
fn columns_that_somebody_adds_are_mentioned_and_left_alone() {
    let (folder, path) = filled();
    let columns = |path: &Path, tables: &[&str]| {
        let conn = Connection::open(path).unwrap();
        for table in tables {
            conn.execute_batch(&format!(
                "ALTER TABLE {table} ADD COLUMN note TEXT; ALTER TABLE {table} ADD COLUMN seen INTEGER NOT NULL DEFAULT 7;
                 ALTER TABLE {table} ADD COLUMN twice INTEGER GENERATED ALWAYS AS (seen * 2) VIRTUAL"
            ))
            .unwrap();
        }
    };
    columns(&path, &["event", "edition"]);
    columns(&path.with_extension("db-index"), &["state", "sender", "name"]);
    let remark =
        |table| format!("database: the table {table} has columns that are not part of Lyftr's schema\n");
    let remarks = remark("edition") + &remark("event");
    assert_sound(&sqlite_url(&path), &format!("{remarks}sound: 3000 events\n"));
    let store = open_store(&sqlite_url(&path));
    for n in 0..600 {
        let more = message_with(&format!("more {n}"), "+1", "2025-01-15T10:00:00Z", Some("More"));
        store.insert_messages(&[parsed(&more)]).unwrap();
    }
    settle(store.as_ref());
    store.close();
    assert_sound(&sqlite_url(&path), &format!("{remarks}sound: 3600 events\n"));
    let (backup, copy) = (folder.path().join("backup.db"), folder.path().join("copy.db"));
    let run = |arguments: &[&str]| {
        let done = Process::builder().env("DATABASE_URL", &sqlite_url(&path)).args(arguments).run();
        assert_eq!(done.code(), Some(0), "{}", done.stderr);
    };
    run(&["backup", backup.to_str().unwrap()]);
    run(&["copy", "--from", &sqlite_url(&backup), "--to", &sqlite_url(&copy)]);
    assert_sound(&sqlite_url(&copy), "sound: 3600 events\n");
}

/// SQLite itself says so: all pages can be read, and each is right by itself.
#[test]
fn a_row_that_an_index_of_the_database_lacks_is_found() {
    let (_folder, path) = filled();
    let index_made_of = |sql: &str| {
        // The schema is read anew by each connection.
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA writable_schema = ON").unwrap();
        let changed = "UPDATE sqlite_schema SET sql = ?1 WHERE name = 'event_by_instant' RETURNING 1";
        conn.query_row(changed, [sql], |row| row.get::<_, i64>(0)).unwrap();
    };
    let conn = Connection::open(&path).unwrap();
    let of = "SELECT sql FROM sqlite_schema WHERE name = 'event_by_instant'";
    let sql: String = conn.query_row(of, (), |row| row.get(0)).unwrap();
    drop(conn);
    index_made_of(&format!("{sql} AND seq <> 1234"));
    Connection::open(&path).unwrap().execute_batch("REINDEX event_by_instant").unwrap();
    index_made_of(&sql);
    assert_found(&sqlite_url(&path), &["database: row 1234 missing from index event_by_instant"]);
}

#[test]
fn a_value_that_no_message_can_have_is_found() {
    let (_folder, path) = filled();
    behind_the_index(&path, "UPDATE event SET sender = '' WHERE seq IN (5, 6)");
    assert_found(
        &sqlite_url(&path),
        &["database: 2 events have an invalid source, key, kind, name or timestamp"],
    );
}

#[test]
fn a_log_without_a_name_and_cursors_that_stand_nowhere_are_found() {
    let (_folder, path) = filled();
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("INSERT INTO cursor VALUES ('a', 5, 6, 7), ('b', 5000, 6, 7)").unwrap();
    assert_sound(
        &sqlite_url(&path),
        "database: 2 cursors stand at events that are gone\nsound: 3000 events\n",
    );
    conn.execute_batch("INSERT INTO cursor VALUES ('not a name', 5, 6, 7)").unwrap();
    assert_found(&sqlite_url(&path), &["database: cannot be read any further"]);
    conn.execute_batch("DELETE FROM cursor; DELETE FROM log").unwrap();
    let done = check(&sqlite_url(&path));
    assert_eq!(done.code(), Some(1));
    assert!(done.stdout.contains("database: cannot be read any further"), "{}", done.stdout);
}

/// Of other sources than the built-in one, of every kind, and from anybody.
#[test]
fn events_of_every_kind_are_checked_and_none_but_messages_are_expected_in_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = filled_store(&sqlite_url(&path), &mixed(0..50));
    store.close();
    let conn = Connection::open(&path).unwrap();
    for (kind, _) in Kind::ALL.iter().enumerate() {
        let of = "INSERT INTO event (identity, kind, sender, ts_second, ts_nanosecond, ts_digits, text, received_ms, data)
            VALUES (char(31) || 'shop' || char(31) || ?1, ?1, 'Bot ' || ?1, 7, 0, 0, 'a text of this', 7, '{}')";
        conn.execute(of, [kind]).unwrap();
    }
    drop(conn);
    let store = open_store(&sqlite_url(&path));
    settle(store.as_ref());
    assert_eq!(store.stats().unwrap().total_messages, 51);
    store.close();
    assert_sound(&sqlite_url(&path), "sound: 61 events\n");
    for (broken, whole) in [
        ("kind = 11", "kind = 4"),
        ("identity = char(31) || 'shop'", "identity = char(31) || 'shop' || char(31) || '4'"),
        ("thread = ''", "thread = NULL"),
        ("received_ms = 9000000000000000", "received_ms = 7"),
    ] {
        behind_the_index(&path, &format!("UPDATE event SET {broken} WHERE seq = 55"));
        assert_found(
            &sqlite_url(&path),
            &["database: 1 events have an invalid source, key, kind, name or timestamp"],
        );
        behind_the_index(&path, &format!("UPDATE event SET {whole} WHERE seq = 55"));
        assert_sound(&sqlite_url(&path), "sound: 61 events\n");
    }
}

#[test]
fn a_damaged_page_is_found() {
    for (ending, place) in [("db", "database: "), ("db-index", "index: ")] {
        let (_folder, path) = filled();
        let file = path.with_extension(ending);
        let pages = std::fs::metadata(&file).unwrap().len() / 4096;
        assert!(pages > 30, "{pages}");
        // Each page in turn would take long; these are of all kinds.
        for page in [2, 3, pages / 3, pages / 2, pages - 2] {
            let open = std::fs::File::options().read(true).write(true).open(&file).unwrap();
            let mut was = vec![0; 4096];
            open.read_exact_at(&mut was, page * 4096).unwrap();
            open.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
            assert_found(&sqlite_url(&path), &[place]);
            open.write_all_at(&was, page * 4096).unwrap();
        }
        assert_sound(&sqlite_url(&path), "sound: 3000 events\n");
    }
}

#[test]
fn a_database_that_cannot_be_checked_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("text"), "only some text\n".repeat(999)).unwrap();
    std::fs::write(at("empty"), "").unwrap();
    for (name, why) in [
        ("missing", "there is no database"),
        ("text", "cannot read the database"),
        ("empty", "no schema of Lyftr's"),
    ] {
        let done = check(&sqlite_url(&at(name)));
        assert_eq!((done.code(), done.stdout.as_str()), (Some(1), ""), "{name}");
        assert!(done.stderr.contains(why), "{}", done.stderr);
    }
    assert!(!at("missing").exists(), "nothing is made");
    let done = check("postgres://me:s3cret@localhost:1/none");
    assert_eq!((done.code(), done.stdout.as_str()), (Some(1), ""));
    assert!(!done.stderr.contains("s3cret"), "{}", done.stderr);
    let bad = check("mysql://me:s3cret@localhost/none");
    assert_eq!((bad.code(), bad.stdout.as_str()), (Some(2), ""));
    assert!(
        bad.stderr.contains("DATABASE_URL should be") && !bad.stderr.contains("s3cret"),
        "{}",
        bad.stderr
    );
    assert_eq!(Process::builder().args(&["check", "backup.db"]).run().code(), Some(2));
}

#[test]
fn a_newer_schema_of_postgresql_is_not_checked() {
    let database = Database::new();
    fill(&database.url());
    database.query("UPDATE lyftr_schema SET version = 77", &[]);
    let done = check(&database.url());
    assert_eq!((done.code(), done.stdout.as_str()), (Some(1), ""));
    assert!(done.stderr.contains("start the newer Lyftr"), "{}", done.stderr);
}

#[test]
fn postgresql_is_sound_until_an_aggregate_is_wrong() {
    let database = Database::new();
    fill(&database.url());
    assert_sound(&database.url(), "sound: 3000 events\n");
    for (break_it, found, mend_it) in [
        (
            "UPDATE sender_total SET messages = messages + 1 WHERE number = '+49175'",
            &[
                "sender_total: messages in all: expected 3000, found 3001",
                "sender_total: rows with a wrong number of messages: expected 0, found 1",
            ][..],
            "UPDATE sender_total SET messages = messages - 1 WHERE number = '+49175'",
        ),
        (
            "UPDATE recipient_total SET number = '+7' WHERE number = '+2'",
            &["recipient_total: rows with a wrong number of messages: expected 0, found 2"],
            "UPDATE recipient_total SET number = '+2' WHERE number = '+7'",
        ),
        (
            "INSERT INTO day_total VALUES (1, 5)",
            &["day_total: messages in all: expected 3000, found 3005"],
            "DELETE FROM day_total WHERE day = 1",
        ),
        (
            "UPDATE minute_total SET minute = -minute WHERE minute = (SELECT max(minute) FROM minute_total)",
            &["minute_total: rows with a wrong number of messages: expected 0, found 2"],
            "UPDATE minute_total SET minute = -minute WHERE minute < 0",
        ),
        (
            "UPDATE derived SET messages = 7, senders = 8",
            &["derived: messages: expected 3000, found 7", "derived: senders: expected 17, found 8"],
            "UPDATE derived SET messages = 3000, senders = 17",
        ),
        (
            "UPDATE message_text SET folded = folded || '!' WHERE seq = (SELECT min(seq) FROM message_text)",
            &["message_text: texts that differ from their message: expected 0, found 1"],
            "UPDATE message_text SET folded = left(folded, -1) WHERE seq = (SELECT min(seq) FROM message_text)",
        ),
        (
            "UPDATE message_text SET seq = -seq WHERE seq = (SELECT max(seq) FROM message_text)",
            &[
                "message_text: missing texts: expected 0, found 1",
                "message_text: texts without a message: expected 0, found 1",
            ],
            "UPDATE message_text SET seq = -seq WHERE seq < 0",
        ),
    ] {
        database.query(break_it, &[]);
        assert_found(&database.url(), found);
        database.query(mend_it, &[]);
        assert_sound(&database.url(), "sound: 3000 events\n");
    }
}

/// Says that derived data is of the messages as they are.
const SOUND: &str = "UPDATE derived SET is_void = false, change = (SELECT last_value FROM event_change)";

#[test]
fn a_row_that_was_deleted_from_postgresql_behind_the_derived_data_is_found() {
    let database = Database::new();
    fill(&database.url());
    let taken = "DELETE FROM message WHERE message_id = (SELECT message_id FROM message WHERE text IS NOT NULL LIMIT 1)";
    // Openly: the aggregates are void, which is no damage.
    database.query(taken, &[]);
    let void = "derived: void after a manual change or a restore of messages, and not compared; the service rebuilds it\n";
    assert_sound(&database.url(), &format!("{void}sound: 2999 events\n"));
    database.query(SOUND, &[]);
    assert_found(
        &database.url(),
        &[
            "derived: messages: expected 2999, found 3000",
            "sender_total: messages in all: expected 2999, found 3000",
            "recipient_total: messages in all: expected 2999, found 3000",
            "day_total: messages in all: expected 2999, found 3000",
            "minute_total: messages in all: expected 2999, found 3000",
            "message_text: texts without a message: expected 0, found 1",
        ],
    );
    // One whose text is kept too.
    database.query(
        "UPDATE message SET sender = E'no\\nbody'
         WHERE message_id = (SELECT min(message_id) FROM message WHERE text IS NOT NULL)",
        &[],
    );
    database.query("DROP INDEX event_by_seq", &[]);
    database.query(
        "UPDATE message SET seq = (SELECT min(seq) FROM message) WHERE seq =
             (SELECT min(seq) FROM message WHERE text IS NULL AND seq > (SELECT min(seq) FROM message))",
        &[],
    );
    database.query(SOUND, &[]);
    assert_found(
        &database.url(),
        &[
            "event: rows with an invalid key, name or time: expected 0, found 1",
            "event: arrival numbers that occur twice: expected 0, found 1",
            "message_text: texts without a message: expected 0, found 1",
        ],
    );
    database.query("DELETE FROM derived", &[]);
    assert_found(&database.url(), &["derived: rows: expected 1, found 0"]);
}
