//! The horizon, deterministically. That whoever reads on misses nothing under load is in `store_contract/following.rs`.

use lyftr::store::Store;

use super::{message, open};
use crate::support::postgres::Database;
use crate::support::{Fate, Messages as _, fates};

#[test]
fn a_batch_that_waits_holds_the_horizon_back_until_it_is_done() {
    let database = Database::new();
    let (slow, quick) = (open(&database), open(&database));
    let seq = |id: &str| database.number(&format!("SELECT seq FROM message WHERE message_id = '{id}'"));
    slow.insert_messages(&[message("before")]).unwrap();
    assert!(slow.horizon().unwrap() >= seq("before"));
    let other = database.session_that_stores("both");
    std::thread::scope(|scope| {
        // It has its number, and waits to see what becomes of the other's message.
        let waiting = scope.spawn(|| slow.insert_messages(&[message("both"), message("slow")]).unwrap());
        database.until_a_batch_waits();
        quick.insert_messages(&[message("quick")]).unwrap();
        let horizon = quick.horizon().unwrap();
        assert!(seq("before") <= horizon && horizon < seq("quick"), "{horizon}");
        let arrived = quick.arrived(0, 10).unwrap();
        assert_eq!(arrived.len(), 1, "what is beyond the horizon is held back: {arrived:?}");
        other.run("ROLLBACK");
        assert_eq!(fates(&waiting.join().unwrap()), [Fate::Created; 2]);
    });
    assert!(horizon_is_past(&database, &["both", "slow", "quick"], quick.horizon().unwrap()));
    assert!(seq("slow") < seq("quick"), "which a follower without a horizon would have passed");
}

fn horizon_is_past(database: &Database, ids: &[&str], horizon: i64) -> bool {
    let listed = ids.iter().map(|id| format!("'{id}'")).collect::<Vec<_>>().join(", ");
    horizon >= database.number(&format!("SELECT max(seq) FROM message WHERE message_id IN ({listed})"))
}

/// A batch that begins between the two looks of the horizon has a lock whose key is beyond the latest number.
#[test]
fn a_batch_that_begins_while_the_horizon_is_looked_for_does_not_throw_it_back() {
    let database = Database::new();
    let store = open(&database);
    store.insert_messages(&[message("before")]).unwrap();
    let before = store.horizon().unwrap();
    let other = database.session();
    other.run(
        "SELECT pg_advisory_lock_shared(x'4c796674'::integer, (last_value + 5)::integer) FROM event_batch",
    );
    assert_eq!(store.horizon().unwrap(), before);
    assert_eq!(store.arrived(0, 10).unwrap().len(), 1);
    other.run(
        "SELECT pg_advisory_lock_shared(x'4c796674'::integer, (last_value - 1)::integer) FROM event_batch",
    );
    assert!(store.horizon().unwrap() < before, "while the lock of one that began earlier does");
}
