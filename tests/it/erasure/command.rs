//! `lyftr erase`: counts first, asks before it erases, and works on a service and on a database.

use std::path::Path;

use super::TOKEN;
use crate::support::process::{Builder, Process};
use crate::support::{Messages as _, message_with, open_store, parsed, sqlite_url};

fn erase(arguments: &[&str]) -> Builder {
    Process::builder().args(&["erase"]).args(arguments).env("ADMIN_TOKEN", TOKEN)
}

fn fill(path: &Path) {
    let store = open_store(&sqlite_url(path));
    let nth =
        |n| parsed(&message_with(&format!("m{n}"), &format!("+{}", n % 2 + 1), "2025-01-15T10:00:00Z", None));
    store.insert_messages(&(0..10).map(nth).collect::<Vec<_>>()).unwrap();
    store.close();
}

fn total(path: &Path) -> u64 {
    let store = open_store(&sqlite_url(path));
    let total = store.stats().unwrap().total_messages;
    store.close();
    total
}

#[test]
fn a_database_is_counted_first_and_erased_only_with_yes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    fill(&path);
    let erase = |arguments: &[&str]| erase(arguments).env("DATABASE_URL", &sqlite_url(&path)).run();
    let counted = erase(&["--person", "+1", "--dry-run"]);
    assert_eq!((counted.code(), &*counted.stdout), (Some(0), "5 events selected\n"), "{}", counted.stderr);
    let asked = erase(&["--person", "+1"]);
    assert_eq!((asked.code(), &*asked.stdout), (Some(2), "5 events selected\n"));
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    assert_eq!(total(&path), 10);
    let none = erase(&["--person", "+7", "--yes"]);
    assert_eq!((none.code(), &*none.stdout), (Some(0), "0 events selected\n"));
    let done = erase(&["--sender", "+1", "--recipient", "+14155550100", "--yes"]);
    assert_eq!(
        (done.code(), &*done.stdout),
        (Some(0), "5 events selected\n5 events erased\n"),
        "{}",
        done.stderr
    );
    assert_eq!((total(&path), &*done.stderr), (5, ""));
    let one = erase(&["--source", "webhook", "--key", "m1", "--yes"]);
    assert_eq!((one.code(), &*one.stdout), (Some(0), "1 event selected\n1 event erased\n"), "{}", one.stderr);
    assert_eq!(total(&path), 4);
}

#[test]
fn a_service_erases_by_the_command() {
    let process = Process::builder().env("ADMIN_TOKEN", TOKEN).start();
    let mut client = process.client();
    for n in 0..3 {
        client.store(&message_with(&format!("m{n}"), "+1", "2025-01-15T10:00:00Z", None));
    }
    let url = format!("http://{}", process.address());
    let done = erase(&["--url", &url, "--until", "2999-01-01T00:00:00Z", "--yes"]).run();
    assert!(
        done.stdout.starts_with("3 events selected\n3 events erased\n"),
        "{} {}",
        done.stdout,
        done.stderr
    );
    assert_eq!(client.json("/messages")["total"], 0);
    let log = process.log_lines();
    let told = |line: &&String| line.contains(r#""message":"events were erased""#);
    let line = log.iter().find(told).unwrap_or_else(|| panic!("{log:#?}"));
    assert!(line.contains(r#""rule":"request","events":3"#), "{line}");
    let wrong = erase(&["--url", &url, "--person", "+1", "--yes"]).env("ADMIN_TOKEN", "another").run();
    assert_eq!(wrong.code(), Some(1));
    assert!(wrong.stderr.contains("ADMIN_TOKEN"), "{}", wrong.stderr);
    let none = erase(&["--url", &url, "--person", "+1"]).env_remove("ADMIN_TOKEN").run();
    assert_eq!(none.code(), Some(2), "{}", none.stderr);
    let without = Process::start();
    let url = format!("http://{}", without.address());
    let refused = erase(&["--url", &url, "--person", "+1", "--yes"]).run();
    assert_eq!(refused.code(), Some(1));
    assert!(refused.stderr.contains("it has no ADMIN_TOKEN"), "{}", refused.stderr);
}

#[test]
fn wrong_arguments_are_all_told_at_once_and_a_database_in_use_is_left_alone() {
    let wrong = erase(&["--until", "yesterday", "--url", "nowhere", "--yes"]).run();
    assert_eq!(wrong.code(), Some(2));
    assert!(wrong.stderr.contains("--until: ") && wrong.stderr.contains("--url should"), "{}", wrong.stderr);
    let nothing = erase(&["--yes"]).run();
    assert_eq!(nothing.code(), Some(2));
    assert!(nothing.stderr.contains("give at least one of --source"), "{}", nothing.stderr);
    let key = erase(&["--key", "m1", "--yes"]).run();
    assert_eq!(key.code(), Some(2));
    assert!(key.stderr.contains("--source <NAME>"), "{}", key.stderr);
    assert_eq!(erase(&["--person", "", "--yes"]).run().code(), Some(2), "an empty value is none");

    let process = Process::builder().env("ADMIN_TOKEN", TOKEN).start();
    if process.database_on_server().is_none() {
        let url = sqlite_url(&process.database());
        let in_use = erase(&["--person", "+1", "--yes"]).env("DATABASE_URL", &url).run();
        assert_eq!(in_use.code(), Some(1));
        assert!(in_use.stderr.contains("with --url"), "{}", in_use.stderr);
    }
}
