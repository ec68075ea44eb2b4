//! `kill -9` in the middle of an erasure: the same request goes on, and nothing of what was erased is left.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::{TOKEN, authorized};
use crate::store_sqlite::erasure::found;
use crate::support::client::Connection as Link;
use crate::support::process::Process;
use crate::support::{eventually, message_with};

/// A connection that leaves everything as it is, also when it is closed.
fn reader(path: &Path) -> Connection {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap()
}

#[test]
fn an_erasure_that_is_killed_goes_on_where_it_was() {
    const EACH: u64 = 700;
    let folder = tempfile::tempdir().unwrap();
    let start = || Process::builder().folder(folder.path()).env("ADMIN_TOKEN", TOKEN).start();
    let mut marks = Vec::new();
    let (mut process, mut in_the_middle) = (start(), 0);
    for round in 0..6 {
        let person = format!("+9990001112{round:02}");
        let mut client = process.client();
        for n in 0..EACH {
            let (key, text) = (format!("key-{round:02}-{n:06}"), format!("text-{round:02}-{n:06}"));
            client.store(&message_with(&key, &person, "2025-01-15T10:00:00Z", Some(&text)));
            client.store(&message_with(
                &format!("other {round} {n}"),
                "+1",
                "2025-01-15T10:00:00Z",
                Some("x"),
            ));
            marks.extend([key, text]);
        }
        marks.push(person.clone());
        let target = format!("/events?person=%2B{}", &person[1..]);
        let request =
            format!("DELETE {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\r\n", authorized());
        let mut link = Link::open(process.address());
        link.write(request);
        std::thread::sleep(Duration::from_millis(7 * round));
        process.kill9();
        let left: i64 = reader(&folder.path().join("app.db"))
            .query_row("SELECT count(*) FROM event WHERE sender = ?1", [&person], |row| row.get(0))
            .unwrap();
        in_the_middle += u32::from(left > 0 && left < EACH.cast_signed());
        process = start();
        let mut client = process.client();
        let again = client.request("DELETE", &target, &[("Authorization", &authorized())], b"");
        assert_eq!(again.json()["erased"], left, "round {round}");
        assert_eq!(client.json("/messages")["total"], (round + 1) * EACH);
    }
    println!("{in_the_middle} of 6 were killed in the middle");
    eventually("nothing is left", || found(&folder.path().join("app.db"), &marks).is_empty().then_some(()));
    process.terminate();
    assert_eq!(found(&folder.path().join("app.db"), &marks), [""; 0]);
    let sound: String = Connection::open(folder.path().join("app.db"))
        .unwrap()
        .query_row("PRAGMA integrity_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
}

/// Everything was erased, and what is left in the files was not wiped yet.
#[test]
fn what_a_killed_process_has_not_wiped_the_next_one_wipes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let start = || Process::builder().folder(folder.path()).env("ADMIN_TOKEN", TOKEN).start();
    let mut process = start();
    let mut client = process.client();
    let mut marks = Vec::new();
    for n in 0..300_u64 {
        let key = format!("{:016x}-key", (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        client.store(&message_with(&key, "+999000111222", "2025-01-15T10:00:00Z", Some("Confidential")));
        marks.push(key);
    }
    marks.extend(["+999000111222".to_owned(), "Confidential".to_owned()]);
    // A reader keeps the log from being emptied, and the request waits for it.
    let reader = reader(&path);
    reader.execute_batch("BEGIN; SELECT count(*) FROM event").unwrap();
    let mut link = Link::open(process.address());
    link.write(format!(
        "DELETE /events?source=webhook HTTP/1.1\r\nHost: a\r\nAuthorization: {}\r\n\r\n",
        authorized()
    ));
    eventually("everything is erased", || (client.json("/messages")["total"] == 0).then_some(()));
    process.kill9();
    drop(reader);
    assert_ne!(found(&path, &marks), [""; 0], "otherwise this shows nothing");
    let mut process = start();
    eventually("nothing is left", || found(&path, &marks).is_empty().then_some(()));
    process.terminate();
    assert_eq!(found(&path, &marks), [""; 0]);
}
