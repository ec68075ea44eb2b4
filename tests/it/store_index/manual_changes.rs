//! Manual changes of the messages, of their file and of the index, and messages that are not indexed yet.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use lyftr::query::Page;
use lyftr::store::Store;
use lyftr::store::sqlite::Sqlite;
use rusqlite::Connection;

use super::{MANY, Place, made, messages};
use crate::check::behind_the_index;
use crate::support::reference::Wanted;
use crate::support::{Messages as _, eventually, settle};

/// Changes the messages past Lyftr, once while the store is closed and once while it is open.
#[track_caller]
fn assert_agrees_after(change: &str) {
    for open in [false, true] {
        let place = Place::filled();
        let mut store = place.open();
        place.assert_agrees(&store);
        if !open {
            store.close();
        }
        assert!(place.past_lyftr().execute(change, ()).unwrap() > 0, "{change}");
        if !open {
            store = place.open();
        }
        place.assert_agrees(&store);
        place.assert_heals(&store);
    }
}

#[test]
fn a_message_that_is_deleted_manually_is_gone_from_every_read() {
    assert_agrees_after("DELETE FROM event WHERE seq = 1000");
}

#[test]
fn messages_that_are_deleted_manually_are_gone_from_every_read() {
    assert_agrees_after("DELETE FROM event WHERE seq % 2 = 1 AND seq < 1000");
}

#[test]
fn the_latest_message_may_be_deleted_manually() {
    assert_agrees_after("DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)");
}

#[test]
fn messages_in_the_index_and_in_memory_may_be_deleted_manually() {
    let place = Place::filled();
    let store = place.open();
    for round in 0..4 {
        // Fewer than are written into the index.
        store.insert_messages(&messages(MANY + 30 * round..MANY + 30 * (round + 1))).unwrap();
        place.assert_agrees(&store);
        let deleted =
            format!("DELETE FROM event WHERE seq % 7 = {round} OR seq > {MANY} AND seq % 5 = {round}");
        assert!(place.past_lyftr().execute(&deleted, ()).unwrap() > 0);
        place.assert_agrees(&store);
    }
    place.assert_heals(&store);
}

#[test]
fn a_name_that_is_no_phone_number_leaves_the_index_with_its_last_message() {
    let place = Place::filled();
    let store = place.open();
    let add = |id: &str| {
        let sql = "INSERT INTO event (identity, sender, recipient, ts_second, ts_nanosecond, ts_digits)
            VALUES (?1, 'Alice Example', 'Bob Example', 1736935800, 0, 0)";
        place.past_lyftr().execute(sql, [id]).unwrap();
    };
    let remove =
        |id: &str| place.past_lyftr().execute("DELETE FROM event WHERE identity = ?1", [id]).unwrap();
    let found = |store: &Sqlite| {
        let wanted =
            [Wanted::from("Alice Example"), Wanted { to: Some("Bob Example".into()), ..Wanted::default() }];
        wanted.map(|wanted| store.list(&wanted.filter(), &Page::default()).unwrap().total)
    };
    let names = || -> u64 {
        let index = Connection::open(place.index()).unwrap();
        index.query_row("SELECT count(*) FROM name", (), |row| row.get(0)).unwrap()
    };
    let mut stored = MANY;
    // So many that they are written into the index, and whatever else is in memory with them.
    let mut fill = |store: &Sqlite| {
        store.insert_messages(&messages(stored..stored + 60)).unwrap();
        stored += 60;
        settle(store);
    };
    // Only in memory.
    add("one");
    assert_eq!(found(&store), [1, 1]);
    remove("one");
    assert_eq!(found(&store), [0, 0]);
    fill(&store);
    assert_eq!(names(), 0, "nothing is left to be written");
    // In the index, in the index and in memory, in memory.
    add("two");
    fill(&store);
    assert_eq!((found(&store), names()), ([1, 1], 2));
    add("three");
    assert_eq!(found(&store), [2, 2]);
    remove("two");
    assert_eq!((found(&store), names()), ([1, 1], 2));
    fill(&store);
    remove("three");
    assert_eq!((found(&store), names()), ([0, 0], 0));
}

#[test]
fn all_messages_may_be_deleted_manually() {
    assert_agrees_after("DELETE FROM event");
}

#[test]
fn a_message_that_is_changed_manually_is_changed_in_every_read() {
    assert_agrees_after("UPDATE event SET sender = '+77', text = 'from nowhere' WHERE seq = 1000");
    assert_agrees_after(
        "UPDATE event SET ts_second = ts_second + 86400, recipient = '+101' WHERE seq % 7 = 0",
    );
}

#[test]
fn an_index_that_names_a_message_that_is_gone_gives_way() {
    let place = Place::filled();
    let held = File::open(place.index()).unwrap();
    let from = messages(999..1000)[0].from.as_ref().unwrap().as_str().to_owned();
    let wanted = Wanted::from(&from);
    let before = place.rows().matching(&wanted).count();
    behind_the_index(&place.database(), "DELETE FROM event WHERE seq = 1000");
    let rows = place.rows();
    assert_eq!(rows.matching(&wanted).count(), before - 1, "one of this sender's is gone");
    let store = place.open();
    rows.assert_page(&store, &wanted, &Page { limit: 1000, ..Page::default() });
    eventually("it is noticed", || (held.metadata().unwrap().nlink() == 0).then_some(()));
    settle(&store);
    place.assert_heals(&store);
}

#[test]
fn a_message_that_is_added_manually_is_in_every_read() {
    assert_agrees_after(
        "INSERT INTO event (identity, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)
         VALUES ('added', '+3', '+101', 1736935800, 0, 0, 'a red item')",
    );
}

#[test]
fn an_older_copy_of_the_messages_is_read_and_not_the_newer_index() {
    let place = Place::new();
    let copy = place.folder.path().join("copy.db");
    let store = place.open();
    store.insert_messages(&messages(0..700)).unwrap();
    settle(&store);
    store.close();
    std::fs::copy(place.database(), &copy).unwrap();
    let store = place.open();
    store.insert_messages(&messages(700..MANY)).unwrap();
    settle(&store);
    store.close();
    std::fs::copy(&copy, place.database()).unwrap();

    let store = place.open();
    assert_eq!(store.stats().unwrap().total_messages, 700);
    place.assert_heals(&store);
    // Others arrive under the numbers of those that are gone.
    store.insert_messages(&messages(1000..2000)).unwrap();
    place.assert_agrees(&store);
    settle(&store);
    place.assert_agrees(&store);
}

#[test]
fn an_older_copy_of_the_messages_has_those_that_were_removed_since() {
    let place = Place::filled();
    let copy = place.folder.path().join("copy.db");
    std::fs::copy(place.database(), &copy).unwrap();
    let store = place.open();
    place.past_lyftr().execute("DELETE FROM event WHERE seq % 3 = 1", ()).unwrap();
    place.assert_agrees(&store);
    settle(&store);
    store.close();
    std::fs::copy(&copy, place.database()).unwrap();
    place.assert_heals(&place.open());
}

#[test]
fn a_database_of_the_first_schema_is_brought_up_to_date() {
    let place = Place::new();
    let first = place.past_lyftr();
    first.execute_batch(include_str!("../../../migrations/sqlite/0001_message.sql")).unwrap();
    first.pragma_update(None, "application_id", 0x4c79_6674).unwrap();
    first.pragma_update(None, "user_version", 1).unwrap();
    for (n, message) in messages(0..500).iter().enumerate() {
        let instant = (message.ts.second(), message.ts.nanosecond(), message.ts.digits());
        let row = (
            n + 1,
            message.message_id.as_str(),
            message.from.as_ref().unwrap().as_str(),
            message.to.as_ref().unwrap().as_str(),
            instant.0,
            instant.1,
            instant.2,
            message.text.as_deref(),
        );
        first.execute("INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)", row).unwrap();
    }
    drop(first);
    let store = place.open();
    assert_eq!(store.stats().unwrap().total_messages, 500);
    place.assert_heals(&store);
    let version: i64 = place.past_lyftr().query_row("PRAGMA user_version", (), |row| row.get(0)).unwrap();
    assert_eq!(version, 5);
    // From now on it is noticed when somebody changes a message.
    place.past_lyftr().execute("DELETE FROM event WHERE seq = 7", ()).unwrap();
    place.assert_agrees(&store);
    store.close();
    place.assert_agrees(&place.open());
}

#[test]
fn messages_that_cannot_be_indexed_are_counted_and_found() {
    let place = Place::filled();
    let store = place.open();
    settle(&store);
    // While another connection holds the index, nothing can be written into it.
    let past_lyftr = Connection::open(place.index()).unwrap();
    past_lyftr.execute_batch("BEGIN IMMEDIATE").unwrap();
    for n in [1, 30, 400] {
        store
            .insert_messages(&[made(
                &format!("new {n}"),
                "+77",
                "+101",
                "2025-01-15T10:20:00Z",
                Some("nowhere"),
            )])
            .unwrap();
        store.insert_messages(&messages(MANY..MANY + n)).unwrap();
        place.assert_agrees(&store);
    }
    past_lyftr.execute_batch("ROLLBACK").unwrap();
    drop(past_lyftr);
    settle(&store);
    assert!(place.is_indexed(&store));
    place.assert_agrees(&store);
}
