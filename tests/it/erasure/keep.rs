//! `KEEP_DAYS`: what is older is erased, whatever stands before it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use lyftr::erasure::{Keep, Keeper};
use lyftr::event::Event;
use lyftr::message::Timestamp;
use lyftr::store::Store;

use crate::support::service::Service;
use crate::support::{eventually, message, open_store, parsed, sqlite_url};

fn received(key: &str, at: Option<&str>) -> Event {
    let at = at.map(|at| Timestamp::parse(at).unwrap());
    Event::of_message(parsed(&message(key)), at, None)
}

fn keys(store: &dyn Store) -> Vec<String> {
    let all = store.arrived(0, 10_000).unwrap();
    all.iter().map(|arrived| arrived.event.key.as_str().to_owned()).collect()
}

/// A keeper of thirty days, at a time that can be set, and the number of events that it says it has erased.
fn keeper(store: &Arc<dyn Store>, now: &str) -> (Keeper, Arc<AtomicU64>) {
    let (erased, now) = (Arc::new(AtomicU64::new(0)), Mutex::new(Timestamp::parse(now).unwrap()));
    let count = Arc::clone(&erased);
    let keep = Keep {
        days: 30,
        clock: Arc::new(move || *now.lock().unwrap()),
        is_busy: Arc::new(|| false),
        told: Arc::new(move |events| {
            count.fetch_add(events, Relaxed);
        }),
    };
    (Keeper::start(store, keep).unwrap(), erased)
}

#[test]
fn what_is_older_is_erased_to_the_millisecond_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&sqlite_url(&folder.path().join("app.db")));
    let mut events = vec![received("unknown", None), received("old", Some("2024-12-31T00:00:00.000Z"))];
    events.push(received("due", Some("2025-01-01T11:59:59.999Z")));
    events.push(received("not yet", Some("2025-01-01T12:00:00.000Z")));
    // More than one look at the log takes, and behind them one that a copy has brought.
    events.extend((0..25_000).map(|n| received(&format!("new {n}"), Some("2025-01-20T00:00:00.000Z"))));
    events.push(received("copied", Some("2024-06-01T00:00:00.000Z")));
    for batch in events.chunks(500) {
        store.insert(batch).unwrap();
    }
    let (keeper, erased) = keeper(&store, "2025-01-31T12:00:00Z");
    eventually("what is due is erased", || (erased.load(Relaxed) == 4).then_some(()));
    drop(keeper);
    let keys = keys(store.as_ref());
    assert_eq!(keys[..2], ["not yet", "new 0"]);
    assert_eq!(store.arrived(25_000, 10_000).unwrap().last().unwrap().event.key.as_str(), "new 24999");
    store.close();
}

#[test]
fn a_service_keeps_what_it_has_just_received() {
    let folder = tempfile::tempdir().unwrap();
    let store = open_store(&sqlite_url(&folder.path().join("app.db")));
    store.insert(&[received("unknown", None), received("old", Some("2020-01-01T00:00:00.000Z"))]).unwrap();
    let service = Service::builder().store(store).keep_days(1).start();
    let mut client = service.client();
    client.store(&message("new"));
    eventually("what is old is erased", || {
        (client.metric("events_erased_total{rule=\"keep\"}") > 1.9).then_some(())
    });
    assert_eq!(client.json("/messages")["data"][0]["message_id"], "new");
    assert_eq!(client.json("/messages")["total"], 1);
}
