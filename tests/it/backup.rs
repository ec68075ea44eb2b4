//! `lyftr backup`: one file with every message that was acknowledged before it began, or none.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lyftr::message::Message;
use lyftr::store::backup::{self, Progress};
use lyftr::store::{self, Settings, Url};
use rusqlite::{Connection, OpenFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::damage::disk::Disk;
use crate::support::client::Client;
use crate::support::postgres::Database;
use crate::support::process::{Finished, Process};
use crate::support::sandbox::Sandbox;
use crate::support::{
    Fate, Messages as _, eventually, fates, filled_store, message_with, names, open_store, parsed, sqlite_url,
};

fn made(id: &str, text: &str) -> Message {
    parsed(&message_with(id, "+1", "2025-01-15T10:00:00.50Z", Some(text)))
}

fn fill(url: &str, range: std::ops::Range<usize>) {
    let nth = |n: usize| made(&format!("m{}", n * 7919 % 100_003), &"x".repeat(n % 2_000));
    filled_store(url, &range.map(nth).collect::<Vec<_>>()).close();
}

/// The ids in a backup, which is opened as it is, and must be sound.
#[track_caller]
fn ids(backup: &Path) -> BTreeSet<String> {
    let conn = Connection::open_with_flags(backup, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let told = |sql| conn.query_row(sql, (), |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(told("PRAGMA integrity_check"), "ok");
    assert_eq!(told("PRAGMA journal_mode"), "delete");
    let mut ids = conn.prepare("SELECT message_id FROM message").unwrap();
    ids.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn backup(url: &str, file: &Path) -> Finished {
    Process::builder().env("DATABASE_URL", url).args(&["backup", file.to_str().unwrap()]).run()
}

/// It says what it made, and nothing else.
#[track_caller]
fn assert_made(done: &Finished, file: &Path, messages: usize) {
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""), "{}", done.stdout);
    let bytes = std::fs::metadata(file).unwrap().len();
    assert_eq!(done.stdout, format!("{}: {messages} events, {bytes} bytes\n", file.display()));
}

#[track_caller]
fn assert_refused(done: &Finished, why: &str) {
    assert_eq!((done.code(), done.stdout.as_str()), (Some(1), ""), "{}", done.stderr);
    assert!(done.stderr.contains(why), "{}", done.stderr);
}

/// A database whose copy takes a while, and where its copy shall be.
fn large() -> (TempDir, String, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    fill(&sqlite_url(&path), 0..1);
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch(
        "WITH RECURSIVE n (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < 300)
         INSERT INTO event (seq, identity, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)
         SELECT n, 'large ' || n, '+1', '+2', n, 0, 0, hex(randomblob(200000)) FROM n",
    )
    .unwrap();
    let backup = folder.path().join("backup.db");
    (folder, sqlite_url(&path), backup)
}

#[test]
fn a_backup_under_load_holds_every_message_acknowledged_before_it_began() {
    let service = Process::start();
    let folder = tempfile::tempdir().unwrap();
    let url = service.database_on_server().map_or_else(|| sqlite_url(&service.database()), Database::url);
    let acknowledged = Mutex::new(BTreeSet::new());
    let total = || acknowledged.lock().unwrap().len();
    let send = |client: &mut Client, sender, n| {
        let (id, text) = (format!("{sender} {n}"), "long ".repeat(500));
        client.store(&message_with(&id, "+1", "2025-01-15T10:00:00Z", Some(&text)));
        acknowledged.lock().unwrap().insert(id);
    };
    service.while_sending(6, send, || {
        for round in 0..3 {
            let there = total();
            eventually("some more are stored", || (total() > there + 500).then_some(()));
            let before = acknowledged.lock().unwrap().clone();
            let file = folder.path().join(format!("backup {round}"));
            let done = backup(&url, &file);
            let ids = ids(&file);
            assert_made(&done, &file, ids.len());
            let missing: Vec<_> = before.difference(&ids).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
        let there = total();
        eventually("the senders go on", || (total() > there).then_some(()));
    });
    assert_eq!(names(folder.path(), ""), ["backup 0", "backup 1", "backup 2"]);
}

/// Pages are copied in steps. What is written between any two of them neither gets into the copy nor makes it begin
/// anew, however much that is.
#[test]
fn a_backup_does_not_begin_anew_when_messages_are_written_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (path, file) = (folder.path().join("app.db"), folder.path().join("backup.db"));
    fill(&sqlite_url(&path), 0..12_000);
    let url: Url = sqlite_url(&path).parse().unwrap();
    let store = store::open(&url, Settings::default()).unwrap();
    let mut steps = Vec::new();
    let done = backup::backup(&url, Settings::default(), &file, |progress| {
        let n = steps.len();
        assert!(n < 50, "it begins anew, time and again");
        steps.push(progress);
        let batch: Vec<Message> = (0..300)
            .map(|m| made(&format!("meanwhile {} {n}", m * 7919 % 10_007), &"y".repeat(3_000)))
            .collect();
        assert_eq!(fates(&store.insert_messages(&batch).unwrap()), vec![Fate::Created; 300]);
        true
    })
    .unwrap();
    assert!(steps.len() >= 3, "{steps:?}");
    let total = steps[0].total;
    let expected: Vec<Progress> =
        (1..=total.div_ceil(1024)).map(|n| Progress { done: (n * 1024).min(total), total }).collect();
    assert_eq!(steps, expected);
    assert_eq!(done.events, 12_000);
    let ids = ids(&file);
    assert_eq!(ids.len(), 12_000);
    assert!(ids.iter().all(|id| id.starts_with('m') && !id.starts_with("meanwhile")), "{}", ids.len());
    store.close();
}

#[test]
fn a_service_starts_from_a_backup_and_answers_the_same() {
    let mut service = Process::start();
    let mut client = service.client();
    for n in 0..150 {
        let id = format!("m{n}");
        let ts = format!("2025-01-{:02}T10:{:02}:00{}Z", n % 28 + 1, n / 28, ["", ".5", ".50"][n % 3]);
        let text = (n % 4 > 0).then(|| format!("text {n} ПРИВЕТ 😀"));
        client.store(&message_with(&id, &format!("+{}", n % 7 + 1), &ts, text.as_deref()));
    }
    let url = service.database_on_server().map_or_else(|| sqlite_url(&service.database()), Database::url);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.db");
    assert_made(&backup(&url, &file), &file, 150);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for nobody else to read");
    let restored = Process::builder().folder(folder.path()).start();
    let mut answers = restored.client();
    for question in
        ["/stats", "/messages?limit=100", "/messages?offset=100&limit=100", "/messages?q=ПРИВЕТ&from=%2B3"]
    {
        assert_eq!(answers.json(question)["data"], client.json(question)["data"], "{question}");
        assert_eq!(answers.json(question)["total"], client.json(question)["total"], "{question}");
    }
    assert_eq!(answers.json("/stats"), client.json("/stats"));
    assert_eq!(client.json("/stats")["total_messages"], 150);
    assert_eq!(service.terminate().code(), Some(0));
}

#[test]
fn a_backup_overwrites_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    fill(&sqlite_url(&path), 0..10);
    for existing in ["file", "folder", "link"] {
        let file = folder.path().join(existing);
        match existing {
            "file" => std::fs::write(&file, "mine").unwrap(),
            "folder" => std::fs::create_dir(&file).unwrap(),
            // One that leads nowhere is a name that is taken, too.
            _ => std::os::unix::fs::symlink("nowhere", &file).unwrap(),
        }
        assert_refused(&backup(&sqlite_url(&path), &file), "exists, and a backup overwrites nothing");
        assert_eq!(names(folder.path(), existing), [existing]);
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "mine");
    assert_refused(&backup(&sqlite_url(&path), &path), "exists");
}

/// The name may be taken while the backup is made.
#[test]
fn a_backup_does_not_overwrite_a_file_that_appears_meanwhile() {
    let (folder, url, file) = large();
    let mut calls = 0;
    let done = backup::backup(&url.parse().unwrap(), Settings::default(), &file, |_| {
        calls += 1;
        std::fs::write(&file, "mine").unwrap();
        true
    });
    assert!(matches!(done, Err(backup::Error::Exists(_))), "{done:?}");
    assert!(calls > 0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(names(folder.path(), "backup"), ["backup.db"]);
}

/// As on a mount of rclone's: the file is written whole, and then neither `renameat2` nor a hard link gives it its name.
#[test]
fn a_backup_gets_its_name_where_the_file_system_knows_no_way_in_one_step() {
    let (folder, url, file) = large();
    let sandbox = Sandbox::new();
    let backup = |file: &Path, without: &[(&str, Errno)]| {
        let builder = Process::builder().env("DATABASE_URL", &url).args(&["backup", file.to_str().unwrap()]);
        sandbox.around(builder, without).run()
    };
    for error in [Errno::INVAL, Errno::PERM] {
        // What rclone says to a link.
        assert_made(&backup(&file, &[("renameat2", error), ("linkat", Errno::IO)]), &file, 300);
        assert_eq!(ids(&file).len(), 300);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let again = backup(&file, &[("renameat2", error), ("linkat", Errno::PERM)]);
        assert_refused(&again, "exists, and a backup overwrites nothing");
        assert_eq!(names(folder.path(), "backup"), ["backup.db"]);
        std::fs::remove_file(&file).unwrap();
    }
    let no_way = [("renameat2", Errno::INVAL), ("linkat", Errno::PERM), ("rename", Errno::IO)];
    assert_refused(&backup(&file, &no_way), "cannot create the backup");
    assert_eq!(names(folder.path(), "backup"), [""; 0]);
}

#[test]
fn two_backups_to_one_file_do_not_mix() {
    let (folder, url, file) = large();
    let mut refused = 0;
    let done = backup::backup(&url.parse().unwrap(), Settings::default(), &file, |_| {
        if refused == 0 {
            assert_refused(&backup(&url, &file), "is under way");
            refused += 1;
        }
        true
    });
    assert_eq!(done.unwrap().events, 300);
    assert_eq!(refused, 1);
    assert_eq!(ids(&file).len(), 300);
    assert_eq!(names(folder.path(), "backup"), ["backup.db"]);
}

/// Breaks a backup off as soon as there is something of it.
#[track_caller]
fn break_off(url: &str, file: &Path, signal: Signal) -> Finished {
    let partial = format!("{}.partial", file.display());
    let process =
        Process::builder().env("DATABASE_URL", url).args(&["backup", file.to_str().unwrap()]).spawn();
    eventually("the backup has begun", || {
        std::fs::metadata(&partial).is_ok_and(|partial| partial.len() > 0).then_some(())
    });
    process.signal(signal);
    process.finish()
}

/// What a signal leaves of it.
#[track_caller]
fn assert_broken_off(url: &str, file: &Path) {
    for signal in [Signal::INT, Signal::TERM] {
        let done = break_off(url, file, signal);
        assert_refused(&done, "the backup was interrupted; no file was created");
        assert_eq!(names(file.parent().unwrap(), "backup"), [""; 0]);
    }
}

#[test]
fn a_backup_that_is_broken_off_leaves_nothing() {
    let (_folder, url, file) = large();
    assert_broken_off(&url, &file);
}

#[test]
fn a_backup_of_postgresql_that_is_broken_off_leaves_nothing() {
    let (folder, database) = (tempfile::tempdir().unwrap(), Database::new());
    fill(&database.url(), 0..20_000);
    assert_broken_off(&database.url(), &folder.path().join("backup.db"));
}

#[test]
fn a_backup_that_is_killed_leaves_none_and_hinders_no_other() {
    let (folder, url, file) = large();
    let killed = break_off(&url, &file, Signal::KILL);
    assert_eq!((killed.code(), killed.stdout.as_str()), (None, ""));
    assert!(!file.exists());
    // As if it had been killed at the worst moment, too.
    for ending in ["wal", "shm", "journal"] {
        std::fs::write(format!("{}.partial-{ending}", file.display()), "left over".repeat(9_999)).unwrap();
    }
    assert_made(&backup(&url, &file), &file, 300);
    assert_eq!(ids(&file).len(), 300);
    assert_eq!(names(folder.path(), "backup"), ["backup.db"]);
}

#[test]
fn a_backup_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    fill(&sqlite_url(&path), 0..3_000);
    let nowhere = folder.path().join("none/backup.db");
    assert_refused(&backup(&sqlite_url(&path), &nowhere), "cannot create the backup");
    let in_a_file = path.join("backup.db");
    assert_refused(&backup(&sqlite_url(&path), &in_a_file), "cannot create the backup");
    let Some(disk) = Disk::mount("size=1m") else { return };
    let file = disk.path().join("backup.db");
    assert_refused(&backup(&sqlite_url(&path), &file), "the disk is full");
    assert_eq!(names(disk.path(), ""), [""; 0]);
    disk.remount("ro");
    assert_refused(&backup(&sqlite_url(&path), &file), "cannot create the backup");
}

#[test]
fn a_backup_of_postgresql_to_a_full_disk_says_so() {
    let Some(disk) = Disk::mount("size=1m") else { return };
    let database = Database::new();
    fill(&database.url(), 0..3_000);
    assert_refused(&backup(&database.url(), &disk.path().join("backup.db")), "the disk is full");
    assert_eq!(names(disk.path(), ""), [""; 0]);
}

#[test]
fn a_backup_of_a_file_that_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("text"), "only some text\n".repeat(999)).unwrap();
    std::fs::write(at("empty"), "").unwrap();
    Connection::open(at("other")).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    fill(&sqlite_url(&at("newer")), 0..1);
    Connection::open(at("newer")).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    for (name, why) in [
        ("missing", "there is no database"),
        ("text", "cannot read the database"),
        ("empty", "no schema of Lyftr's"),
        ("other", "a database of another program"),
        ("newer", "schema version 99"),
    ] {
        assert_refused(&backup(&sqlite_url(&at(name)), &at("backup")), why);
        assert_eq!(names(folder.path(), "backup"), [""; 0], "{name}");
    }
    assert!(!at("missing").exists());
    assert_eq!(Process::builder().args(&["backup"]).run().code(), Some(2));
    let url = "postgres://me:s3cret@:x/";
    let bad = Process::builder().env("DATABASE_URL", url).args(&["backup", "backup.db"]).run();
    assert_eq!(bad.code(), Some(2));
    assert!(!bad.stderr.contains("s3cret"), "{}", bad.stderr);
}

#[test]
fn a_backup_of_an_empty_database_of_postgresql_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new();
    assert_refused(&backup(&database.url(), &folder.path().join("backup.db")), "no schema of Lyftr's");
    assert_eq!(names(folder.path(), ""), [""; 0]);
    assert_eq!(database.number("SELECT count(*) FROM pg_class WHERE relname = 'lyftr_schema'"), 0);
}

#[test]
fn a_backup_of_postgresql_goes_back_with_copy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    let (database, other) = (Database::new(), Database::new());
    fill(&database.url(), 0..5_000);
    assert_made(&backup(&database.url(), &file), &file, 5_000);
    assert_eq!(names(folder.path(), ""), ["backup.db"]);
    let copied = Process::builder().args(&["copy", "--from", &sqlite_url(&file), "--to", &other.url()]).run();
    assert_eq!(copied.code(), Some(0), "{}", copied.stderr);
    let sum = "SELECT sum(('x' || left(md5((message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)::text), 15))::bit(60)::bigint % 1000003)::bigint FROM message";
    assert_eq!(database.number(sum), other.number(sum));
    assert_eq!(other.number("SELECT count(*) FROM message"), 5_000);
}

#[test]
fn a_backup_of_postgresql_tells_how_far_it_is() {
    let (folder, database) = (tempfile::tempdir().unwrap(), Database::new());
    fill(&database.url(), 0..5_000);
    let mut steps = Vec::new();
    let file = folder.path().join("backup.db");
    backup::backup(&database.url().parse().unwrap(), Settings::default(), &file, |progress| {
        steps.push(progress);
        true
    })
    .unwrap();
    // Before that it waits for batches that are under way.
    let steps: Vec<_> = steps.into_iter().skip_while(|step| *step == Progress::default()).collect();
    assert!(steps.len() > 2 && steps.is_sorted_by_key(|step| step.done), "{steps:?}");
    assert!(steps.iter().all(|step| step.total == 5_000), "{steps:?}");
    assert_eq!((steps[0].done, steps[steps.len() - 1].done), (0, 5_000));
}

/// A message that was acknowledged is in it even if another batch, which began before it, is still under way.
#[test]
fn a_backup_of_postgresql_waits_for_batches_that_began_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    let database = Database::new();
    let (slow, quick) = (open_store(&database.url()), open_store(&database.url()));
    let other = database.session_that_stores("slow");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| slow.insert_messages(&[made("slow", "")]).unwrap());
        database.until_a_batch_waits();
        quick.insert_messages(&[made("acknowledged", "")]).unwrap();
        let url = database.url();
        let process =
            Process::builder().env("DATABASE_URL", &url).args(&["backup", file.to_str().unwrap()]).spawn();
        eventually("the backup has begun", || folder.path().join("backup.db.partial").exists().then_some(()));
        eventually("the backup asks for the horizon", || {
            let asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_locks%'
                AND application_name = 'lyftr' AND datname = current_database()";
            (database.number(asked) > 0).then_some(())
        });
        quick.insert_messages(&[made("later", "")]).unwrap();
        assert!(!file.exists());
        other.run("ROLLBACK");
        assert_eq!(fates(&waiting.join().unwrap()), [Fate::Created]);
        assert_eq!(process.finish().code(), Some(0));
    });
    let ids = ids(&file);
    assert!(ids.contains("acknowledged") && ids.contains("slow"), "{ids:?}");
    slow.close();
    quick.close();
}
