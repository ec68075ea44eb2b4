//! Events that are looked up, and not looked for: a read finds them wherever they are, and comes to the end of the log.

use lyftr::erasure::Erasure;
use lyftr::event::{Event, Kind, LogFilter, Recorded, Start};
use lyftr::store::sqlite::{Sqlite, Tuning};
use lyftr::store::{Outcome, Store};

use super::erasure::erase;
use super::{Place, all, bare, engines, event, keys, name, numbered, read_log};

engines! { sqlite postgres: (
    the_event_of_a_source_and_a_key_is_found_from_everywhere
    a_key_that_the_source_gave_no_event_finds_none
    an_event_is_erased_by_its_key_and_then_not_found
    events_about_an_object_are_found_from_everywhere
    what_arrives_about_an_object_later_is_read_on_to
    events_about_an_object_are_erased_and_then_not_found
) }

fn of(source: &str, key: &str) -> LogFilter {
    LogFilter { source: Some(source.into()), key: Some(key.into()), ..LogFilter::default() }
}

fn about(object: &str) -> LogFilter {
    LogFilter { r#ref: Some(object.into()), ..LogFilter::default() }
}

/// The nth event of a log in which some are about objects, with many others in between.
fn referring(n: usize) -> Event {
    let kind = if n.is_multiple_of(2) { Kind::Status } else { Kind::Reaction };
    let mut event = bare(if n.is_multiple_of(14) { "desk" } else { "shop" }, &format!("{n}"), kind);
    event.r#ref = match n {
        _ if n.is_multiple_of(7) => Some(name("m")),
        _ if n.is_multiple_of(11) => Some(name("m2")),
        _ => None,
    };
    event
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

fn events_about_an_object_are_found_from_everywhere(place: &Place) {
    let store = place.open();
    let events: Vec<_> = (0..45).map(referring).collect();
    events.chunks(10).for_each(|batch| drop(store.insert(batch).unwrap()));
    let log = all(store.as_ref());
    let source = |source: &str| Some(source.to_owned());
    for filter in [
        about("m"),
        about("m2"),
        about("M"),
        about("m1"),
        about(""),
        about("\0"),
        LogFilter { kind: Some(Kind::Status), ..about("m") },
        LogFilter { source: source("desk"), ..about("m") },
        LogFilter { source: source("desk"), from: Some("nobody".into()), ..about("m") },
        LogFilter { source: source("shop"), key: Some("7".into()), ..about("m") },
        LogFilter { source: source("shop"), key: Some("7".into()), ..about("m2") },
    ] {
        for from in 0..log.len() {
            for backwards in [false, true] {
                let mut ahead: Vec<_> =
                    if backwards { &log[..from] } else { &log[from + 1..] }.iter().collect();
                if backwards {
                    ahead.reverse();
                }
                let matching: Vec<_> =
                    ahead.iter().copied().filter(|one| filter.lets_through(&one.arrived.event)).collect();
                for limit in [1, 2, 50] {
                    let position = log[from].position;
                    let start = if backwards { Start::Before(position) } else { Start::After(position) };
                    let (found, reached) =
                        read_log(store.as_ref(), start, &filter, u32::try_from(limit).unwrap()).unwrap();
                    let is_full = matching.len() >= limit && filter.key.is_none();
                    let expected = &matching[..limit.min(matching.len())];
                    assert!(found.iter().eq(expected.iter().copied()), "{start:?} {filter:?}: {found:?}");
                    let last = if is_full { expected.last() } else { ahead.last() };
                    let last = last.map_or(position, |last| last.position);
                    let is_end = ahead.last().is_none_or(|end| end.position == last);
                    assert_eq!((reached.next, reached.end), (Some(last), is_end), "{start:?} {filter:?}");
                }
            }
        }
        let matching = log.iter().filter(|one| filter.lets_through(&one.arrived.event));
        let (found, _) = read_log(store.as_ref(), Start::Beginning, &filter, 50).unwrap();
        assert!(found.iter().eq(matching.clone()));
        let (found, _) = read_log(store.as_ref(), Start::Latest, &filter, 50).unwrap();
        assert!(found.iter().eq(matching.rev()));
    }
}

fn what_arrives_about_an_object_later_is_read_on_to(place: &Place) {
    let store = place.open();
    store.insert(&numbered("webhook", 0..3)).unwrap();
    let mut after = None;
    for n in 0..4 {
        store.insert(&[referring(7 * n), event("webhook", &format!("between {n}"))]).unwrap();
        let start = after.map_or(Start::Beginning, Start::After);
        let (found, reached) = read_log(store.as_ref(), start, &about("m"), 10).unwrap();
        assert_eq!((keys(&found), reached.end), (vec![&*format!("{}", 7 * n)], true));
        let latest = read_log(store.as_ref(), Start::Now, &LogFilter::default(), 1).unwrap().1.next;
        assert_eq!(reached.next, latest);
        after = latest;
    }
}

fn events_about_an_object_are_erased_and_then_not_found(place: &Place) {
    let store = place.open();
    store.insert(&(0..45).map(referring).collect::<Vec<_>>()).unwrap();
    assert_eq!(erase(store.as_ref(), &Erasure::new(about("m"), None, None).unwrap()), 7);
    let (found, reached) = read_log(store.as_ref(), Start::Beginning, &about("m"), 10).unwrap();
    assert_eq!((found, reached.end), (Vec::new(), true));
    let (found, _) = read_log(store.as_ref(), Start::Beginning, &about("m2"), 10).unwrap();
    assert_eq!(keys(&found), ["11", "22", "33", "44"]);
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

/// What lies between them counts for nothing, but what another filter leaves out does.
#[test]
fn sqlite_looks_at_as_many_events_about_an_object_as_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = Sqlite::open(&path, Tuning { log_window: 3, ..Tuning::default() }).unwrap();
    store.insert(&(0..60).map(referring).collect::<Vec<_>>()).unwrap();
    let none = LogFilter { from: Some("nobody".into()), ..about("m") };
    for (filter, count) in [(about("m"), 9), (none, 0)] {
        for (start, expected) in [(Start::Beginning, [14, 35, 56, 59]), (Start::Latest, [42, 21, 0, 0])] {
            let (mut from, mut reached_at, mut found) = (start, Vec::new(), 0);
            loop {
                let (more, reached) = read_log(&store, from, &filter, 10).unwrap();
                found += more.len();
                let next = reached.next.unwrap();
                reached_at
                    .push(store.event_at(next).unwrap().unwrap().arrived.event.key.as_str().parse().unwrap());
                if reached.end {
                    break;
                }
                from = if start.is_backwards() { Start::Before(next) } else { Start::After(next) };
            }
            reached_at.resize(4, expected[3]);
            assert_eq!((found, &reached_at[..]), (count, &expected[..]), "{start:?} {filter:?}");
        }
    }
}
