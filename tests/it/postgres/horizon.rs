//! A follower that reads on from arrival number to arrival number, up to the horizon, misses nothing.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use lyftr::store::{Outcome, Store};

use super::{message, open};
use crate::support::eventually;
use crate::support::postgres::Database;

#[test]
fn a_batch_that_waits_holds_the_horizon_back_until_it_is_done() {
    let database = Database::new();
    let (slow, quick) = (open(&database), open(&database));
    let seq = |id: &str| database.number(&format!("SELECT seq FROM message WHERE message_id = '{id}'"));
    slow.insert(&[message("before")]).unwrap();
    assert!(slow.horizon().unwrap() >= seq("before"));
    let other = database.session();
    other.run("BEGIN");
    other.run(
        "INSERT INTO message (message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits)
         VALUES ('both', 0, '+1', '+2', 0, 0, 0)",
    );
    std::thread::scope(|scope| {
        // It has its number, and waits to see what becomes of the other's message.
        let waiting = scope.spawn(|| slow.insert(&[message("both"), message("slow")]).unwrap());
        eventually("the batch waits", || {
            (database.number("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0).then_some(())
        });
        quick.insert(&[message("quick")]).unwrap();
        let horizon = quick.horizon().unwrap();
        assert!(seq("before") <= horizon && horizon < seq("quick"), "{horizon}");
        other.run("ROLLBACK");
        assert_eq!(waiting.join().unwrap(), [Outcome::Created; 2]);
    });
    assert!(horizon_is_past(&database, &["both", "slow", "quick"], quick.horizon().unwrap()));
    assert!(seq("slow") < seq("quick"), "which a follower without a horizon would have passed");
}

fn horizon_is_past(database: &Database, ids: &[&str], horizon: i64) -> bool {
    let listed = ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
    horizon >= database.number(&format!("SELECT max(seq) FROM message WHERE message_id IN ({listed})"))
}

#[test]
fn a_follower_misses_nothing_while_many_write() {
    const WRITERS: usize = 6;
    const BATCHES: usize = 60;
    let database = Database::new();
    let stores: Vec<_> = (0..3).map(|_| open(&database)).collect();
    let done = AtomicBool::new(false);
    let (mut seen, mut upto) = (BTreeSet::new(), 0);
    let mut follow = |horizon: i64| {
        let rows = database.query(
            "SELECT message_id, seq FROM message WHERE seq > $1 AND seq <= $2 ORDER BY seq",
            &[&upto, &horizon],
        );
        for row in rows {
            assert!(seen.insert(row.get::<_, String>(0)), "seen twice");
        }
        upto = upto.max(horizon);
        seen.len()
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = &stores[writer % 3];
                scope.spawn(move || {
                    for batch in 0..BATCHES {
                        let ids = (0..=batch % 7).map(|n| message(&format!("{writer} {batch} {n}")));
                        store.insert(&ids.collect::<Vec<_>>()).unwrap();
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            follow(stores[0].horizon().unwrap());
        }
    });
    let all = database.number("SELECT count(*) FROM message");
    let horizon = stores[0].horizon().unwrap();
    assert_eq!(i64::try_from(follow(horizon)).unwrap(), all);
}
