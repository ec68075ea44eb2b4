//! `KEEP_DAYS`: what is older is erased, whatever stands before it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lyftr::erasure::{Keep, Keeper, KeptFor, Rules};
use lyftr::event::{Event, Source};
use lyftr::message::Timestamp;
use lyftr::store::Store;
use lyftr::store::sqlite::{Sqlite, Tuning};

use crate::support::service::{Faulty, Service};
use crate::support::{eventually, message, open_store, parsed, sqlite_url};

fn received(key: &str, at: Option<&str>) -> Event {
    let at = at.map(|at| Timestamp::parse(at).unwrap());
    Event::of_message(parsed(&message(key)), at, None)
}

fn keys(store: &dyn Store) -> Vec<String> {
    let all = store.arrived(0, 10_000).unwrap();
    all.iter().map(|arrived| arrived.event.key.as_str().to_owned()).collect()
}

/// A keeper that passes again at once, and what it works with.
pub(crate) struct Keeping {
    /// The time by its clock, in seconds since the epoch.
    now: Arc<AtomicI64>,
    rules: Arc<Mutex<Rules>>,
    /// The number of passes that it has begun.
    passes: Arc<AtomicU64>,
    /// The number of events that it says it has erased.
    erased: Arc<AtomicU64>,
    _keeper: Keeper,
}

impl Keeping {
    fn start(store: &Arc<dyn Store>, now: &str, rules: Rules) -> Self {
        let now = Arc::new(AtomicI64::new(Timestamp::parse(now).unwrap().second()));
        let rules = Arc::new(Mutex::new(rules));
        let given = Arc::clone(&rules);
        let (passes, erased) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (clock, begun, count) = (Arc::clone(&now), Arc::clone(&passes), Arc::clone(&erased));
        let keep = Keep {
            rules: Arc::new(move || {
                begun.fetch_add(1, Relaxed);
                given.lock().unwrap().clone()
            }),
            clock: Arc::new(move || Timestamp::from_parts(clock.load(Relaxed), 0, 9).unwrap()),
            is_busy: Arc::new(|| false),
            told: Arc::new(move |_, events| {
                count.fetch_add(events, Relaxed);
            }),
            pause: Duration::from_millis(1),
        };
        Self { now, rules, passes, erased, _keeper: Keeper::start(store, keep).unwrap() }
    }

    fn set_clock(&self, now: &str) {
        self.now.store(Timestamp::parse(now).unwrap().second(), Relaxed);
    }

    /// Waits until it has erased so many events since its start, and no more.
    #[track_caller]
    fn expect(&self, events: u64) {
        eventually("what is due is erased", || (self.erased.load(Relaxed) >= events).then_some(()));
        assert_eq!(self.erased.load(Relaxed), events);
    }
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
    let keeping = Keeping::start(&store, "2025-01-31T12:00:00Z", rules);
    keeping.expect(4);
    drop(keeping);
    let keys = keys(store.as_ref());
    assert_eq!(keys[..2], ["not yet", "new 0"]);
    assert_eq!(store.arrived(25_000, 10_000).unwrap().last().unwrap().event.key.as_str(), "new 24999");
    store.close();
}

#[test]
fn what_becomes_too_old_is_erased_by_the_next_pass_which_does_not_read_everything_again() {
    let folder = tempfile::tempdir().unwrap();
    // The log is looked through in 42 parts.
    let tuning = Tuning { log_window: 10, ..Tuning::default() };
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(&folder.path().join("app.db"), tuning).unwrap());
    let counting = Arc::new(Faulty::new(Arc::clone(&store)));
    let counted: Arc<dyn Store> = Arc::<Faulty>::clone(&counting);
    later_passes_erase_what_has_become_due(&counted, |keeping| {
        let (passes, steps) = (keeping.passes.load(Relaxed), counting.inserts.count());
        eventually("many passes", || (keeping.passes.load(Relaxed) >= passes + 20).then_some(()));
        let steps = counting.inserts.count() - steps;
        let passes = keeping.passes.load(Relaxed) - passes;
        assert!(steps <= 4 * (passes + 1), "{steps} steps of {passes} passes");
    });
    store.close();
}

/// An event an hour, each of which is kept for a day, behind many that are kept for ever, on a new store of any engine.
pub(crate) fn later_passes_erase_what_has_become_due(store: &Arc<dyn Store>, then: impl FnOnce(&Keeping)) {
    let kept = Source::new("kept").unwrap();
    let of_hour = |n: u32| {
        let at = format!("2025-01-{:02}T{:02}:00:00.000Z", n / 24 + 1, n % 24);
        received(&n.to_string(), Some(&at))
    };
    let of_kept = |n| Event { source: kept.clone(), ..received(&format!("kept {n}"), None) };
    store.insert(&(0..300).map(of_kept).collect::<Vec<_>>()).unwrap();
    store.insert(&(0..120).map(of_hour).collect::<Vec<_>>()).unwrap();
    let rules = Rules { of_others: KeptFor::Days(1), of_sources: vec![(kept.clone(), KeptFor::Ever)] };
    let keeping = Keeping::start(store, "2025-01-02T12:30:00Z", rules);
    for (now, erased) in [
        ("2025-01-02T12:30:00Z", 13),
        ("2025-01-02T13:30:00Z", 14),
        ("2025-01-02T21:00:00Z", 21),
        ("2025-01-03T22:30:00Z", 47),
        ("2025-01-03T23:00:00Z", 47),
        ("2025-01-04T00:00:00Z", 48),
    ] {
        keeping.set_clock(now);
        keeping.expect(erased);
        assert_eq!(keys(store.as_ref())[300], erased.to_string());
    }
    then(&keeping);
    // The source has no time of its own any more, and its events stand far before the place of the last pass.
    keeping.rules.lock().unwrap().of_sources.clear();
    keeping.expect(48 + 300);
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
    let keeping = Keeping::start(store, "2025-01-31T00:00:00Z", rules);
    // Those of the days before 21, 29, 11 and 21.
    keeping.expect(20 + 28 + 10 + 20);
    drop(keeping);
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
