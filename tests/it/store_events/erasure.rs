//! Erased is erased, does not come back, and leaves everything else as it was.

use lyftr::cursor::{CursorName, Move, Moved};
use lyftr::erasure::{Erasure, Wiped};
use lyftr::event::{Event, Kind, LogFilter, Position, Recorded, Start};
use lyftr::query::{Filter, Page};
use lyftr::store::{Outcome, Store};

use crate::support::eventually;

use super::{Place, all, bare, engines, event, name, numbered, read_log, ts};

engines! { sqlite postgres: (
    what_is_counted_is_erased_and_nothing_else
    what_was_erased_does_not_come_back
    tombstones_go_along_with_a_copy_to_a_store_that_has_none
    a_place_at_an_erased_event_is_gone_on_from
    a_cursor_at_an_erased_event_stays_and_moves_on
    an_erasure_says_so_to_those_who_keep_parts_of_the_log
) }

/// Erases step by step; returns the number of events.
pub(crate) fn erase(store: &dyn Store, erasure: &Erasure) -> u64 {
    steps(|after| store.erase(erasure, after).unwrap())
}

fn steps(mut step: impl FnMut(i64) -> lyftr::erasure::Step) -> u64 {
    let (mut after, mut events) = (Some(0), 0);
    while let Some(seq) = after {
        let step = step(seq);
        assert!(step.next.is_none_or(|next| next > seq), "a step goes on");
        events += step.events;
        after = step.next;
    }
    events
}

/// Wipes until nothing is left, unless that is the server's affair.
pub(crate) fn wipe(store: &dyn Store) {
    eventually("nothing is left", || {
        matches!(store.wipe().unwrap(), Wiped::Done | Wiped::ByServer).then_some(())
    });
}

fn of(filter: LogFilter) -> Erasure {
    Erasure::new(filter, None, None).unwrap()
}

pub(crate) fn of_person(person: &str) -> Erasure {
    Erasure::new(LogFilter::default(), Some(person.to_owned()), None).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "a condition is an option")]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Events of several sources, kinds and persons, some of which were received at no known time.
fn various() -> Vec<Event> {
    let nth = |n: usize| {
        let mut event = match n % 3 {
            0 => event("webhook", &format!("m {n}")),
            1 => event("shop", &format!("m {n}")),
            _ => bare("shop", &format!("m {n}"), Kind::ALL[1 + n % 10].0),
        };
        if n.is_multiple_of(2) && event.kind == Kind::Message {
            event.from = Some(name(&format!("+{}", n % 7)));
        }
        if n.is_multiple_of(5) {
            event.thread = Some(name("+3"));
        }
        event.received_at =
            (!n.is_multiple_of(4)).then(|| ts(&format!("2025-01-{:02}T10:00:00.500Z", n % 28 + 1)));
        event.with_implied()
    };
    (0..1_300).map(nth).collect()
}

fn what_is_counted_is_erased_and_nothing_else(place: &Place) {
    let store = place.open();
    let mut left = various();
    store.insert(&left).unwrap();
    let until = |at: &str| Erasure::new(LogFilter::default(), None, Some(ts(at))).unwrap();
    for erasure in [
        of_person("nobody"),
        of_person("+3"),
        of_person("user 7"),
        of(LogFilter { kind: Some(Kind::Status), ..LogFilter::default() }),
        of(LogFilter { from: some("+1"), to: some("+14155550100"), ..LogFilter::default() }),
        of(LogFilter {
            r#ref: some("about 7"),
            source: some("shop"),
            thread: some("no"),
            ..LogFilter::default()
        }),
        until("2025-01-05T10:00:00.5Z"),
        until("2025-01-05T10:00:00.500000001Z"),
        of(LogFilter { source: some("shop"), ..LogFilter::default() }),
        of(LogFilter { source: some("webhook"), ..LogFilter::default() }),
    ] {
        let before = left.len();
        left.retain(|event| !erasure.selects(event));
        let expected = u64::try_from(before - left.len()).unwrap();
        let counted = steps(|after| store.count_selected(&erasure, after).unwrap());
        assert_eq!(counted, expected, "{erasure:?}");
        assert_eq!(erase(store.as_ref(), &erasure), expected, "{erasure:?}");
        let found = store.arrived(0, 10_000).unwrap();
        assert!(found.iter().map(|arrived| &arrived.event).eq(&left), "{erasure:?}");
        let messages = left.iter().filter(|event| event.kind == Kind::Message).count();
        let total = store.list(&Filter::default(), &Page::default()).unwrap().total;
        assert_eq!(total, u64::try_from(messages).unwrap(), "{erasure:?}");
        assert_eq!(store.stats().unwrap().total_messages, total);
    }
    assert_eq!(left.len(), 0, "the last two left nothing");
    wipe(store.as_ref());
}

fn what_was_erased_does_not_come_back(place: &Place) {
    let mut store = place.open();
    let (gone, stays) = (event("shop", "gone"), event("shop", "stays"));
    let same_key = event("webhook", "gone");
    store.insert(&[gone.clone(), stays.clone()]).unwrap();
    let erasure = of(LogFilter { source: some("shop"), ..LogFilter::default() });
    assert_eq!(store.tombstones(None, 10).unwrap(), None);
    assert_eq!(erase(store.as_ref(), &erasure), 2);
    store.insert(&[event("shop", "later")]).unwrap();
    let keys = |events: &[&Event]| {
        events.iter().map(|event| (event.source.clone(), event.key.clone())).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        let other = Event { text: Some("other".into()), ..stays.clone() };
        assert_eq!(store.insert(&[gone.clone(), other]).unwrap(), [Outcome::Erased, Outcome::Erased]);
        assert_eq!(store.erased(&keys(&[&gone, &same_key, &stays])).unwrap(), [true, false, true]);
        store.close();
        store = place.open();
    }
    let outcomes = store.insert(&[gone.clone(), same_key.clone(), gone, same_key]).unwrap();
    assert!(
        matches!(
            outcomes[..],
            [Outcome::Erased, Outcome::Created { .. }, Outcome::Erased, Outcome::Duplicate]
        ),
        "{outcomes:?}"
    );
    assert_eq!(super::keys(&all(store.as_ref())), ["later", "gone"]);
}

fn tombstones_go_along_with_a_copy_to_a_store_that_has_none(place: &Place) {
    let store = place.open();
    store.insert(&numbered("shop", 0..20)).unwrap();
    erase(store.as_ref(), &of_person("+491701"));
    let mut hashes = Vec::new();
    while let Some(some) = store.tombstones(hashes.last(), 7).unwrap().filter(|some| !some.hashes.is_empty())
    {
        hashes.extend(some.hashes);
    }
    assert!(hashes.len() == 20 && hashes.is_sorted());
    let all = store.tombstones(None, 100).unwrap().unwrap();
    assert_eq!(all.hashes, hashes);

    let elsewhere = Place::sqlite();
    let target = elsewhere.open();
    for _ in 0..2 {
        assert!(target.adopt_tombstones(&all).unwrap());
        assert_eq!(target.tombstones(None, 100).unwrap().as_ref(), Some(&all));
    }
    assert_eq!(target.insert(&numbered("shop", 0..20)).unwrap(), [Outcome::Erased; 20]);
    assert!(target.insert(&numbered("shop", 20..21)).unwrap() != [Outcome::Erased]);
    // With tombstones of its own it keeps its key.
    let another = Place::sqlite();
    let other = another.open();
    other.insert(&numbered("shop", 0..1)).unwrap();
    erase(other.as_ref(), &of_person("+491701"));
    assert!(!other.adopt_tombstones(&all).unwrap());
    assert_eq!(other.tombstones(None, 100).unwrap().unwrap().hashes.len(), 1);
}

/// A log of ten events, the third to the seventh of which were erased, and what it was before.
fn with_a_hole(store: &dyn Store) -> Vec<Recorded> {
    let mut events = numbered("shop", 0..10);
    for event in &mut events[2..7] {
        event.user_id = Some(name("gone"));
    }
    store.insert(&events).unwrap();
    let log = all(store);
    assert_eq!(erase(store, &of_person("gone")), 5);
    log
}

fn a_place_at_an_erased_event_is_gone_on_from(place: &Place) {
    let mut store = place.open();
    let log = with_a_hole(store.as_ref());
    let filter = LogFilter::default();
    for _ in 0..2 {
        for (nth, recorded) in log.iter().enumerate() {
            let position = recorded.position;
            let is_gone = (2..7).contains(&nth);
            assert_eq!(store.event_at(position).unwrap().is_none(), is_gone, "{nth}");
            let (after, reached) = read_log(store.as_ref(), Start::After(position), &filter, 100).unwrap();
            let expected = log.iter().enumerate().filter(|(at, _)| *at > nth && !(2..7).contains(at));
            assert!(after.iter().eq(expected.map(|(_, recorded)| recorded)), "{nth}");
            assert!(reached.end);
            let (before, _) = read_log(store.as_ref(), Start::Before(position), &filter, 100).unwrap();
            let expected = log[..nth].iter().enumerate().filter(|(at, _)| !(2..7).contains(at));
            assert!(before.iter().rev().eq(expected.map(|(_, recorded)| recorded)), "{nth}");
            let Position { seq, tag } = position;
            let wrong = Position { seq, tag: tag ^ 1 };
            assert_eq!(read_log(store.as_ref(), Start::After(wrong), &filter, 100), None, "{nth}");
        }
        store.close();
        store = place.open();
    }
    // Also where nothing is left behind it, and where nothing is left at all.
    let (last, reached) = (log[9].position, |store: &dyn Store| {
        read_log(store, Start::After(log[9].position), &LogFilter::default(), 100).unwrap()
    });
    erase(store.as_ref(), &of(LogFilter { source: some("shop"), ..LogFilter::default() }));
    let (none, reached_now) = reached(store.as_ref());
    assert_eq!((none.len(), reached_now.next, reached_now.end), (0, Some(last), true));
    store.insert(&numbered("shop", 10..11)).unwrap();
    assert_eq!(super::keys(&reached(store.as_ref()).0), ["shop 10"]);
}

fn a_cursor_at_an_erased_event_stays_and_moves_on(place: &Place) {
    let store = place.open();
    let mut events = numbered("shop", 0..4);
    events[1].user_id = Some(name("gone"));
    store.insert(&events).unwrap();
    let log = all(store.as_ref());
    let to = |nth: usize| log[nth].position;
    let named = CursorName::new("c").unwrap();
    let go = |expected: Option<Position>, to| {
        let go = Move { name: named.clone(), expected, to, at: ts("2025-01-15T10:00:00.000Z") };
        store.move_cursor(&go).unwrap()
    };
    assert!(matches!(go(None, to(1)), Moved::Done(_)));
    erase(store.as_ref(), &of_person("gone"));
    let cursor = store.cursor(&named).unwrap().unwrap();
    assert_eq!((cursor.position, cursor.lag), (to(1), 2));
    assert!(matches!(go(Some(to(1)), to(2)), Moved::Done(_)));
    assert!(matches!(go(Some(to(2)), to(1)), Moved::Done(_)), "a follower may have read it before");
}

fn an_erasure_says_so_to_those_who_keep_parts_of_the_log(place: &Place) {
    let store = place.open();
    let erasures =
        |store: &dyn Store| read_log(store, Start::Beginning, &LogFilter::default(), 1).unwrap().1.erasures;
    store.insert(&numbered("shop", 0..4)).unwrap();
    let before = erasures(store.as_ref());
    store.insert(&numbered("shop", 4..6)).unwrap();
    assert_eq!(erasures(store.as_ref()), before);
    erase(store.as_ref(), &of_person("user 7"));
    assert_ne!(erasures(store.as_ref()), before);
}
