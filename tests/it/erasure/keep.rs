//! `KEEP_DAYS`: what is older is erased, whatever stands before it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use lyftr::erasure::{Keep, Keeper, KeptFor, Rules};
use lyftr::event::{Event, Source};
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

/// A keeper, at a time that can be set, and the number of events that it says it has erased.
fn keeper(store: &Arc<dyn Store>, now: &str, rules: Rules) -> (Keeper, Arc<AtomicU64>) {
    let (erased, now) = (Arc::new(AtomicU64::new(0)), Mutex::new(Timestamp::parse(now).unwrap()));
    let count = Arc::clone(&erased);
    let keep = Keep {
        rules: Arc::new(move || rules.clone()),
        clock: Arc::new(move || *now.lock().unwrap()),
        is_busy: Arc::new(|| false),
        told: Arc::new(move |_, events| {
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
    let rules = Rules { of_others: KeptFor::Days(30), of_sources: Vec::new() };
    let (keeper, erased) = keeper(&store, "2025-01-31T12:00:00Z", rules);
    eventually("what is due is erased", || (erased.load(Relaxed) == 4).then_some(()));
    drop(keeper);
    let keys = keys(store.as_ref());
    assert_eq!(keys[..2], ["not yet", "new 0"]);
    assert_eq!(store.arrived(25_000, 10_000).unwrap().last().unwrap().event.key.as_str(), "new 24999");
    store.close();
}

#[test]
fn a_source_may_have_a_time_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    each_source_is_kept_for_its_time(&open_store(&sqlite_url(&folder.path().join("app.db"))));
}

/// Sources with times of their own, on a new store of any engine.
pub(crate) fn each_source_is_kept_for_its_time(store: &Arc<dyn Store>) {
    let source = |name: &str| Source::new(name).unwrap();
    let names = ["webhook", "short", "long", "kept", "gone"];
    let of = |name: &str, day: u32| {
        let at = format!("2025-01-{day:02}T00:00:00.000Z");
        Event { source: source(name), ..received(&format!("{name} {day}"), Some(&at)) }
    };
    let events: Vec<Event> = (1..31).flat_map(|day| names.map(|name| of(name, day))).collect();
    for batch in events.chunks(50) {
        store.insert(batch).unwrap();
    }
    let of_sources = [("short", KeptFor::Days(2)), ("long", KeptFor::Days(20)), ("kept", KeptFor::Ever)];
    let of_sources = of_sources.into_iter().map(|(name, kept)| (source(name), kept)).collect();
    let rules = Rules { of_others: KeptFor::Days(10), of_sources };
    let (keeper, erased) = keeper(store, "2025-01-31T00:00:00Z", rules);
    // Those of the days before 21, 29, 11 and 21.
    let due = 20 + 28 + 10 + 20;
    eventually("what is due is erased", || (erased.load(Relaxed) == due).then_some(()));
    drop(keeper);
    let left = keys(store.as_ref());
    for (name, first) in [("webhook", 21), ("short", 29), ("long", 11), ("kept", 1), ("gone", 21)] {
        let of_source: Vec<_> = left.iter().filter(|key| key.starts_with(name)).collect();
        assert_eq!(of_source.len(), 31 - first, "{left:?}");
        assert_eq!(*of_source[0], format!("{name} {first}"));
    }
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
