//! No arrival number is given twice. SQLite alone: on a server nobody removes the newest row past Lyftr.

use std::collections::BTreeSet;

use lyftr::event::Kind;
use lyftr::store::Outcome;
use rusqlite::Connection;

use super::{bare, event};
use crate::support::{open_store, sqlite_url};

fn created(outcomes: &[Outcome]) -> Vec<i64> {
    let seq = |outcome: &Outcome| match outcome {
        Outcome::Created { seq } => *seq,
        Outcome::Duplicate | Outcome::Conflict | Outcome::Erased => panic!("{outcome:?}"),
    };
    outcomes.iter().map(seq).collect()
}

#[test]
fn the_number_of_an_event_that_is_gone_is_not_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let url = sqlite_url(&path);
    let mut store = open_store(&url);
    let (mut given, mut last) = (BTreeSet::new(), 0);
    for (round, change) in [
        "DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)",
        "DELETE FROM event WHERE seq > (SELECT max(seq) FROM event) - 3",
        "DELETE FROM event",
        "DELETE FROM event WHERE kind = 1",
        "UPDATE event SET seq = -seq WHERE seq = (SELECT max(seq) FROM event)",
        "BEGIN; DELETE FROM event; INSERT INTO event (seq, identity, kind) VALUES (1, 'by hand', 5); DELETE FROM event; COMMIT",
    ]
    .into_iter()
    .enumerate()
    {
        for restarts in [false, true] {
            let key = |what: &str| format!("{round} {restarts} {what}");
            let batch =
                [event("webhook", &key("a")), event("shop", &key("b")), bare("shop", &key("c"), Kind::Status)];
            for seq in created(&store.insert(&batch).unwrap()) {
                assert!(seq > last, "{change}: {seq} is not greater than {last}");
                assert!(given.insert(seq));
                last = seq;
            }
            if restarts {
                store.close();
            }
            Connection::open(&path).unwrap().execute_batch(change).unwrap();
            if restarts {
                store = open_store(&url);
            }
        }
    }
}

/// What stands behind the messages has no number of its own to wait for.
#[test]
fn an_index_is_up_to_date_though_the_newest_events_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let url = sqlite_url(&path);
    let store = open_store(&url);
    store.insert(&[event("webhook", "a"), event("webhook", "b"), bare("shop", "c", Kind::Status)]).unwrap();
    crate::support::settle(store.as_ref());
    for restarts in [false, true] {
        Connection::open(&path)
            .unwrap()
            .execute("DELETE FROM event WHERE seq = (SELECT max(seq) FROM event)", ())
            .unwrap();
        let store = if restarts {
            store.close();
            open_store(&url)
        } else {
            std::sync::Arc::clone(&store)
        };
        crate::support::settle(store.as_ref());
    }
}

#[test]
fn a_batch_that_failed_costs_no_number_and_repeats_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = open_store(&sqlite_url(&path));
    assert_eq!(created(&store.insert(&[event("shop", "a"), event("shop", "b")]).unwrap()), [1, 2]);
    let past_lyftr = Connection::open(&path).unwrap();
    past_lyftr
        .execute_batch("CREATE TRIGGER poison BEFORE INSERT ON event WHEN new.kind = 5 BEGIN SELECT raise(ABORT, 'poison'); END")
        .unwrap();
    store.insert(&[event("shop", "c"), bare("shop", "d", Kind::System)]).unwrap_err();
    past_lyftr.execute_batch("DROP TRIGGER poison").unwrap();
    let batch = [event("shop", "d"), event("shop", "a"), event("shop", "d"), event("shop", "c")];
    let outcomes = store.insert(&batch).unwrap();
    assert_eq!(
        outcomes,
        [Outcome::Created { seq: 3 }, Outcome::Duplicate, Outcome::Duplicate, Outcome::Created { seq: 4 }]
    );
}
