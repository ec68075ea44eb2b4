//! A database that was written out as SQL and read in again has lost what marks it as Lyftr's.

use std::path::Path;
use std::process::Command;

use rusqlite::Connection as Database;

use crate::support::process::Process;
use crate::support::{message, message_with, skip};

const ITERDUMP: &str = "import sqlite3, sys; print('\\n'.join(sqlite3.connect(sys.argv[1]).iterdump()))";

/// The database as SQL, by SQLite's shell, or by Python, which does the same.
fn dump(path: &Path) -> Option<String> {
    let mut shell = Command::new("sqlite3");
    let mut python = Command::new("python3");
    let ways = [shell.arg(path).arg(".dump"), python.args(["-c", ITERDUMP]).arg(path)];
    let dumped = ways.into_iter().find_map(|way| way.output().ok().filter(|output| output.status.success()));
    if dumped.is_none() {
        skip("there is neither the shell of SQLite (Debian: sqlite3) nor python3");
    }
    dumped.map(|dumped| String::from_utf8(dumped.stdout).unwrap())
}

#[test]
fn a_dump_that_was_read_in_is_refused_with_the_words_that_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::builder().folder(folder.path()).start();
    let mut client = process.client();
    for n in 0..30 {
        let text = format!("line {n}\nanother 'quoted' ПРИВЕТ 😀");
        client.store(&message_with(&format!("m{n}"), "+1", "2025-01-15T10:00:00.50Z", Some(&text)));
    }
    let expected = client.json("/messages?limit=100");
    process.terminate();
    let Some(sql) = dump(&process.database()) else { return };

    let restored = tempfile::tempdir().unwrap();
    let path = restored.path().join("app.db");
    Database::open(&path).unwrap().execute_batch(&sql).unwrap();
    let before = std::fs::read(&path).unwrap();
    let mend_by = |given: &str| given.rsplit_once("start again: ").unwrap().1.trim_end().to_owned();
    let refusal = |arguments: &[&str]| {
        let finished = Process::builder().folder(restored.path()).args(arguments).run();
        assert_eq!(finished.code(), Some(1), "{finished:?}");
        assert!(std::fs::read(&path).unwrap() == before, "{arguments:?} wrote to it");
        finished
    };
    let mut words: Vec<String> = [&["check"][..], &["backup", "backup.db"], &["migrate"]]
        .map(|arguments| mend_by(&refusal(arguments).stderr))
        .into();
    let served = refusal(&["serve"]);
    let line: serde_json::Value = serde_json::from_str(served.stdout.lines().last().unwrap()).unwrap();
    words.push(mend_by(line["error"].as_str().unwrap()));
    words.dedup();
    assert_eq!(words, ["PRAGMA application_id = 1283024500; PRAGMA user_version = 5;"]);

    Database::open(&path).unwrap().execute_batch(&words[0]).unwrap();
    let checked = Process::builder().folder(restored.path()).args(&["check"]).run();
    assert!(checked.stdout.ends_with("sound: 30 events\n"), "{}{}", checked.stdout, checked.stderr);
    let process = Process::builder().folder(restored.path()).start();
    let mut client = process.client();
    assert_eq!(client.json("/messages?limit=100"), expected);
    client.store(&message("new"));
    assert_eq!(client.json("/messages?limit=1")["total"], 31);
}
