//! Events that are looked up, and not looked for: a read finds them wherever they are, and comes to the end of the log.

use lyftr::erasure::Erasure;
use lyftr::event::{Kind, LogFilter, Recorded, Start};
use lyftr::store::sqlite::{Sqlite, Tuning};
use lyftr::store::{Outcome, Store};

use super::erasure::erase;
use super::{Place, all, bare, engines, event, keys, numbered, read_log};

engines! { sqlite postgres: (
    the_event_of_a_source_and_a_key_is_found_from_everywhere
    a_key_that_the_source_gave_no_event_finds_none
    an_event_is_erased_by_its_key_and_then_not_found
) }

fn of(source: &str, key: &str) -> LogFilter {
    LogFilter { source: Some(source.into()), key: Some(key.into()), ..LogFilter::default() }
}

/// Two sources that give the same keys, in turns.
fn filled(store: &dyn Store, events: usize) -> Vec<Recorded> {
    for (shop, built_in) in numbered("shop", 0..events).into_iter().zip(0..) {
        store.insert(&[shop, event("webhook", &format!("shop {built_in}"))]).unwrap();
    }
    all(store)
}

/// One read, wherever it begins, lets through the event at `nth` if that lies ahead, and comes to the end.
#[track_caller]
fn assert_found(store: &dyn Store, log: &[Recorded], filter: &LogFilter, nth: Option<usize>) {
    let mut starts = vec![(Start::Beginning, 0..log.len()), (Start::Latest, 0..log.len())];
    for (at, recorded) in log.iter().enumerate() {
        starts.push((Start::After(recorded.position), at + 1..log.len()));
        starts.push((Start::Before(recorded.position), 0..at));
    }
    for (start, ahead) in starts {
        for limit in [1, 10] {
            let (found, reached) = read_log(store, start, filter, limit).unwrap();
            let expected = nth.filter(|nth| ahead.contains(nth)).map(|nth| &log[nth]);
            assert!(found.iter().eq(expected), "{start:?} {filter:?}: {found:?}");
            let last = if start.is_backwards() { ahead.start } else { log.len() - 1 };
            let began = match start {
                Start::After(position) | Start::Before(position) if ahead.is_empty() => Some(position),
                _ => Some(log[last].position),
            };
            assert_eq!((reached.next, reached.end), (began, true), "{start:?} {filter:?}");
        }
    }
}

fn the_event_of_a_source_and_a_key_is_found_from_everywhere(place: &Place) {
    let store = place.open();
    let log = filled(store.as_ref(), 6);
    for n in 0..6 {
        let key = format!("shop {n}");
        assert_found(store.as_ref(), &log, &of("shop", &key), Some(2 * n));
        assert_found(store.as_ref(), &log, &of("webhook", &key), Some(2 * n + 1));
    }
    // What comes after that is read on from there.
    let (_, reached) = read_log(store.as_ref(), Start::Beginning, &of("shop", "later"), 10).unwrap();
    store.insert(&[event("shop", "between"), event("shop", "later")]).unwrap();
    let on = Start::After(reached.next.unwrap());
    let (found, _) = read_log(store.as_ref(), on, &of("shop", "later"), 10).unwrap();
    assert_eq!(keys(&found), ["later"]);
    let (found, _) = read_log(store.as_ref(), on, &LogFilter::default(), 10).unwrap();
    assert_eq!(keys(&found), ["between", "later"]);
}

fn a_key_that_the_source_gave_no_event_finds_none(place: &Place) {
    let store = place.open();
    store.insert(&[bare("shop", "k", Kind::Status), event("webhook", "only here")]).unwrap();
    let log = all(store.as_ref());
    for (source, key) in [
        ("shop", "only here"),
        ("webhook", "k"),
        ("other", "k"),
        ("No source", "k"),
        ("", "k"),
        ("shop", ""),
        ("shop", "K"),
        ("shop", "k "),
        ("shop", "\0"),
        ("sh\0op", "k"),
        ("shop", "k\u{1f}"),
        // As one engine tells sources apart.
        ("webhook", "\u{1f}shop\u{1f}k"),
        ("shop", &"k".repeat(10_000)),
    ] {
        assert_found(store.as_ref(), &log, &of(source, key), None);
    }
    // It has to match the other filters, too.
    assert_found(store.as_ref(), &log, &of("shop", "k"), Some(0));
    for (kind, nth) in [(Kind::Status, Some(0)), (Kind::Message, None)] {
        assert_found(store.as_ref(), &log, &LogFilter { kind: Some(kind), ..of("shop", "k") }, nth);
    }
    let filter = LogFilter { thread: Some("thread 7".into()), ..of("shop", "k") };
    assert_found(store.as_ref(), &log, &filter, None);
    let filter = LogFilter { r#ref: Some("about 7".into()), ..of("shop", "k") };
    assert_found(store.as_ref(), &log, &filter, None);
}

fn an_event_is_erased_by_its_key_and_then_not_found(place: &Place) {
    let store = place.open();
    let log = filled(store.as_ref(), 3);
    let erasure = Erasure::new(of("shop", "shop 1"), None, None).unwrap();
    let counted = store.count_selected(&erasure, 0).unwrap();
    assert_eq!((counted.events, counted.next), (1, None));
    assert_eq!(erase(store.as_ref(), &erasure), 1);
    assert_eq!(erase(store.as_ref(), &erasure), 0);
    let (found, reached) = read_log(store.as_ref(), Start::Beginning, &of("shop", "shop 1"), 10).unwrap();
    assert_eq!((found, reached.next, reached.end), (Vec::new(), Some(log[5].position), true));
    assert_eq!(store.insert(&numbered("shop", 1..2)).unwrap(), [Outcome::Erased]);
    assert_eq!(keys(&all(store.as_ref())), ["shop 0", "shop 0", "shop 1", "shop 2", "shop 2"]);
}

/// However few events a read may look at, whether there are any or not.
#[test]
fn sqlite_looks_an_event_up_over_any_number_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = Sqlite::open(&path, Tuning { log_window: 3, ..Tuning::default() }).unwrap();
    for events in numbered("shop", 0..30).chunks(10) {
        store.insert(events).unwrap();
    }
    let (log, _) = read_log(&store, Start::Beginning, &LogFilter::default(), 3).unwrap();
    assert_eq!(log.len(), 3, "a window has no more");
    let log: Vec<_> = store.arrived(0, 100).unwrap().iter().map(|one| one.seq).collect();
    for start in [Start::Beginning, Start::Latest] {
        let end = if start.is_backwards() { log[0] } else { log[29] };
        for (key, count) in [("shop 0", 1), ("shop 15", 1), ("shop 29", 1), ("shop 30", 0)] {
            let (found, reached) = read_log(&store, start, &of("shop", key), 10).unwrap();
            assert_eq!((found.len(), reached.next.unwrap().seq, reached.end), (count, end, true), "{key}");
        }
    }
}
