//! `lyftr copy`: everything from one store into another, whichever they are.

use lyftr::message::Message;

use crate::support::postgres::Database;
use crate::support::process::{Finished, Process};
use crate::support::{Messages as _, eventually, filled_store, mixed, open_store, sqlite_url};

/// What a store has, in the order of arrival.
fn content(url: &str) -> Vec<Message> {
    let store = open_store(url);
    let (mut after, mut all) = (0, Vec::new());
    loop {
        let arrived = store.arrived_messages(after, 1000).unwrap();
        let Some((last, _)) = arrived.last() else { break };
        after = *last;
        all.extend(arrived.into_iter().map(|(_, message)| message));
    }
    store.close();
    all
}

fn copy(from: &str, to: &str, more: &[&str]) -> Finished {
    let arguments = [&["copy", "--from", from, "--to", to], more].concat();
    Process::builder().args(&arguments).run()
}

/// The counts and checksums of both sides.
#[track_caller]
fn checksums(finished: &Finished) -> [String; 2] {
    let mut lines = finished.stdout.lines().skip(1).map(|line| line.rsplit_once(": ").unwrap().1.to_owned());
    [lines.next().unwrap(), lines.next().unwrap()]
}

#[test]
fn a_copy_takes_every_message_to_postgresql_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let (first, back) =
        (sqlite_url(&folder.path().join("first.db")), sqlite_url(&folder.path().join("back.db")));
    let database = Database::new();
    let sent = mixed(0..5_000);
    filled_store(&first, &sent).close();
    for (from, to) in [(&first, &database.url()), (&database.url(), &back)] {
        let done = copy(from, to, &[]);
        assert_eq!(done.code(), Some(0), "{}", done.stderr);
        assert!(done.stdout.starts_with("copied 5000 events; 0 were there already\n"), "{}", done.stdout);
        let [source, target] = checksums(&done);
        assert_eq!(source, target);
        assert!(source.starts_with("5000 events, checksum "), "{source}");
    }
    assert_eq!(content(&first), sent, "in the order of arrival");
    let mut sorted = (content(&back), sent);
    sorted.0.sort_by(|one, other| one.message_id.cmp(&other.message_id));
    sorted.1.sort_by(|one, other| one.message_id.cmp(&other.message_id));
    assert_eq!(sorted.0, sorted.1);
}

#[test]
fn a_copy_that_was_broken_off_is_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let from = sqlite_url(&folder.path().join("from.db"));
    let database = Database::new();
    filled_store(&from, &mixed(0..20_000)).close();
    let arguments = ["copy", "--from", &from, "--to", &database.url()];
    let mut process = Process::builder().args(&arguments).spawn();
    let copied = eventually("some of it is copied", || {
        let is_there = database.number("SELECT count(*) FROM pg_class WHERE relname = 'message'") > 0;
        is_there.then(|| database.number("SELECT count(*) FROM message")).filter(|copied| *copied > 0)
    });
    process.kill9();
    assert!(copied < 20_000, "it was not broken off in time");
    let done = copy(&from, &database.url(), &[]);
    assert_eq!(done.code(), Some(0), "{}", done.stderr);
    assert!(!done.stdout.contains("; 0 were there already"), "{}", done.stdout);
    let [source, target] = checksums(&done);
    assert_eq!(source, target);
    assert_eq!(database.number("SELECT count(*) FROM message"), 20_000);
    // And once more, when there is nothing left to do.
    let again = copy(&from, &database.url(), &[]);
    assert!(again.stdout.starts_with("copied 0 events; 20000 were there already\n"), "{}", again.stdout);
}

#[test]
fn a_target_with_other_messages_is_left_alone_unless_told() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["from.db", "to.db"].map(|name| sqlite_url(&folder.path().join(name)));
    let all = mixed(0..30);
    filled_store(&from, &all[..20]).close();
    filled_store(&to, &all[10..]).close();
    let refused = copy(&from, &to, &[]);
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("--merge"), "{}", refused.stderr);
    assert_eq!(content(&to).len(), 20);
    let merged = copy(&from, &to, &["--merge"]);
    assert_eq!(merged.code(), Some(0), "{}", merged.stderr);
    assert!(merged.stdout.starts_with("copied 10 events; 10 were there already\n"), "{}", merged.stdout);
    assert_eq!(content(&to).len(), 30);
}

#[test]
fn a_conflict_is_told_and_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["from.db", "to.db"].map(|name| sqlite_url(&folder.path().join(name)));
    let all = mixed(0..10);
    let mut other = all[3].clone();
    other.text = Some("another text".into());
    filled_store(&from, &all).close();
    filled_store(&to, std::slice::from_ref(&other)).close();
    assert_eq!(copy(&from, &to, &[]).code(), Some(1), "it is another message");
    let merged = copy(&from, &to, &["--merge"]);
    assert_eq!(merged.code(), Some(1), "{}", merged.stdout);
    assert!(merged.stderr.contains("1 events were not copied"), "{}", merged.stderr);
    let [source, target] = checksums(&merged);
    assert_ne!(source, target);
    assert!(content(&to).contains(&other), "what was there stays");
}

#[test]
fn a_copy_that_cannot_be_meant_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [from, to] = ["from.db", "to.db"].map(|name| sqlite_url(&folder.path().join(name)));
    let missing = copy(&from, &to, &[]);
    assert_eq!(missing.code(), Some(1));
    assert!(missing.stderr.contains("there is no database"), "{}", missing.stderr);
    assert!(!folder.path().join("from.db").exists() && !folder.path().join("to.db").exists());
    filled_store(&from, &mixed(0..1)).close();
    assert!(copy(&from, &from, &[]).stderr.contains("the same"));
    let bad = copy("postgres://me:s3cret@:x/", &to, &[]);
    assert_eq!(bad.code(), Some(2));
    assert!(!bad.stderr.contains("s3cret"), "{}", bad.stderr);
}
