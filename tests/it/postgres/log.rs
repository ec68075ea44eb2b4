//! Reading the log on, in both directions, whatever is under way, lost or put back.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lyftr::cursor::{CursorName, Move, Moved};
use lyftr::event::{Event, Kind, LogFilter, LogRead, Position, Reached, Recorded, Start};
use lyftr::store::postgres::{Postgres, Tuning};
use lyftr::store::{Settings, Store};

use super::events::{at, full, plain};
use super::{address, open};
use crate::support::eventually;
use crate::support::postgres::{Cluster, Database};

/// A page of the log.
#[track_caller]
pub(super) fn page(
    store: &dyn Store,
    start: Start,
    limit: u32,
    filter: &LogFilter,
) -> Option<(Vec<Recorded>, Reached)> {
    let read = LogRead { start, filter: filter.clone(), limit };
    let mut found = Vec::new();
    let reached = store.read_log(&read, &mut |recorded| {
        found.push(recorded);
        true
    });
    Some((found, reached.unwrap()?))
}

/// Reads on until there is nothing more.
#[track_caller]
pub(super) fn all(store: &dyn Store, mut start: Start, limit: u32, filter: &LogFilter) -> Vec<Recorded> {
    let mut found = Vec::new();
    loop {
        let (events, reached) = page(store, start, limit, filter).unwrap();
        found.extend(events);
        let Some(next) = reached.next else { break };
        start = if start.is_backwards() { Start::Before(next) } else { Start::After(next) };
        if reached.end {
            break;
        }
    }
    found
}

pub(super) fn everything() -> LogFilter {
    LogFilter::default()
}

pub(super) fn keys(events: &[Recorded]) -> Vec<&str> {
    events.iter().map(|recorded| recorded.arrived.event.key.as_str()).collect()
}

/// Some of every kind and source; built-in ones among them.
pub(super) fn assorted(n: usize) -> Event {
    match n % 4 {
        0 => plain(&format!("{n}")),
        1 => full("shop", &format!("{n}"), Kind::Message),
        2 => full("shop", &format!("{n}"), Kind::Status),
        _ => full("x-2", &format!("{n}"), Kind::Event),
    }
}

/// Everything that a filter may ask for, alone and together.
fn filters() -> Vec<LogFilter> {
    let text = |text: &str| Some(text.to_owned());
    vec![
        everything(),
        LogFilter { source: text("shop"), ..everything() },
        LogFilter { source: text("webhook"), ..everything() },
        LogFilter { source: text("none"), ..everything() },
        LogFilter { source: text("No source"), ..everything() },
        LogFilter { source: text("shop"), key: text("41"), ..everything() },
        LogFilter { source: text("webhook"), key: text("41"), ..everything() },
        LogFilter { source: text("No source"), key: text("41"), ..everything() },
        LogFilter { source: text("x-2"), key: text("\0"), ..everything() },
        LogFilter { key: text("41"), ..everything() },
        LogFilter { kind: Some(Kind::Status), ..everything() },
        LogFilter { from: text("+919876543210"), ..everything() },
        LogFilter { to: text("C02;7'\"\\"), kind: Some(Kind::Event), ..everything() },
        LogFilter { thread: text("+919876543210"), ..everything() },
        LogFilter { thread: text("a thread"), ..everything() },
        LogFilter { r#ref: text("wamid.😀"), source: text("x-2"), ..everything() },
        LogFilter { r#ref: text("\0"), ..everything() },
    ]
}

#[test]
fn pages_of_the_log_are_those_of_a_plain_list() {
    const EVENTS: usize = 60;
    let database = Database::new();
    let store = open(&database);
    let empty = Reached { next: None, end: true, erasures: 0 };
    for start in [Start::Beginning, Start::Now, Start::Latest] {
        assert_eq!(page(&store, start, 10, &everything()), Some((vec![], empty)));
    }
    let events: Vec<Event> = (0..EVENTS).map(assorted).collect();
    events.chunks(7).for_each(|batch| drop(store.insert(batch).unwrap()));
    let recorded = all(&store, Start::Beginning, 1_000, &everything());
    assert_eq!(recorded.iter().map(|one| one.arrived.event.clone()).collect::<Vec<_>>(), events);
    for one in &recorded {
        assert_eq!(store.event_at(one.position).unwrap().as_ref(), Some(one));
    }
    let now = page(&store, Start::Now, 10, &everything()).unwrap();
    assert_eq!(now, (vec![], Reached { next: Some(recorded[EVENTS - 1].position), end: true, erasures: 0 }));
    for filter in filters() {
        let matching: Vec<_> =
            recorded.iter().filter(|one| filter.lets_through(&one.arrived.event)).cloned().collect();
        let mut backwards = matching.clone();
        backwards.reverse();
        for limit in [1, 2, 7, 1_000] {
            assert_eq!(all(&store, Start::Beginning, limit, &filter), matching, "{filter:?} {limit}");
            assert_eq!(all(&store, Start::Latest, limit, &filter), backwards, "{filter:?} {limit}");
        }
        for place in [0, 1, 30, EVENTS - 1] {
            let from = recorded[place].position;
            let after: Vec<_> = matching.iter().filter(|one| one.position.seq > from.seq).cloned().collect();
            let before: Vec<_> =
                backwards.iter().filter(|one| one.position.seq < from.seq).cloned().collect();
            assert_eq!(all(&store, Start::After(from), 5, &filter), after, "{filter:?} {place}");
            assert_eq!(all(&store, Start::Before(from), 5, &filter), before, "{filter:?} {place}");
        }
        // However few it lets through, a read that has come to the end has come to the last event.
        let (_, reached) = page(&store, Start::Beginning, 1_000, &filter).unwrap();
        assert_eq!(
            reached,
            Reached { next: Some(recorded[EVENTS - 1].position), end: true, erasures: 0 },
            "{filter:?}"
        );
        let (_, reached) = page(&store, Start::Latest, 1_000, &filter).unwrap();
        assert_eq!(
            reached,
            Reached { next: Some(recorded[0].position), end: true, erasures: 0 },
            "{filter:?}"
        );
    }
    let last = recorded[EVENTS - 1].position;
    let nothing = page(&store, Start::After(last), 10, &everything()).unwrap();
    assert_eq!(nothing, (vec![], Reached { next: Some(last), end: true, erasures: 0 }));
    // Whoever wants no more of them goes on after the last one that was passed on.
    for filter in [everything(), LogFilter { source: Some("shop".to_owned()), ..everything() }] {
        let matching: Vec<_> =
            recorded.iter().filter(|one| filter.lets_through(&one.arrived.event)).cloned().collect();
        let mut passed = 0;
        let read = LogRead { start: Start::Beginning, filter, limit: 100 };
        let reached = store
            .read_log(&read, &mut |_| {
                passed += 1;
                passed < 3
            })
            .unwrap()
            .unwrap();
        assert_eq!(
            (passed, reached),
            (3, Reached { next: Some(matching[2].position), end: false, erasures: 0 })
        );
    }
}

#[test]
fn a_filter_that_lets_nothing_through_moves_on_and_looks_at_no_more_than_it_may() {
    const EVENTS: usize = 45_000;
    let database = Database::new();
    let store = open(&database);
    database.query(
        "INSERT INTO event (source, key, kind) SELECT 'shop', n::text, 9 FROM generate_series(1, 44999) AS n",
        &[],
    );
    store.insert(&[plain("the last")]).unwrap();
    let filter = LogFilter { source: Some("webhook".to_owned()), ..everything() };
    for start in [Start::Beginning, Start::Latest] {
        let (mut pages, mut found, mut from) = (0, Vec::new(), start);
        loop {
            let (events, reached) = page(&store, from, 100, &filter).unwrap();
            pages += 1;
            found.extend(events);
            let next = reached.next.unwrap();
            from = if start.is_backwards() { Start::Before(next) } else { Start::After(next) };
            if reached.end {
                break;
            }
        }
        assert_eq!(keys(&found), ["the last"]);
        assert_eq!(pages, EVENTS.div_ceil(20_000), "{start:?}");
    }
}

/// What a follower has seen, in its order.
struct Follower<'a> {
    store: &'a Postgres,
    start: Start,
    seen: Vec<Position>,
}

impl Follower<'_> {
    fn follow(&mut self) -> usize {
        let limit = fastrand::u32(1..20);
        let (events, reached) = page(self.store, self.start, limit, &everything()).unwrap();
        if let Some(next) = reached.next {
            self.start = Start::After(next);
        }
        self.seen.extend(events.iter().map(|recorded| recorded.position));
        events.len()
    }
}

#[test]
fn followers_see_every_event_once_and_in_one_order_however_late_it_is_committed() {
    let database = Database::new();
    let stores = [open(&database), open(&database)];
    let done = AtomicBool::new(false);
    let pause = || std::thread::sleep(Duration::from_micros(fastrand::u64(0..3_000)));
    let mut followers: Vec<_> =
        stores.iter().map(|store| Follower { store, start: Start::Beginning, seen: Vec::new() }).collect();
    std::thread::scope(|scope| {
        let lyftr = (0..4_usize).map(|writer| {
            let store = &stores[writer % 2];
            scope.spawn(move || {
                for n in 0..40_usize {
                    let first = writer * 10_000 + n * 10;
                    let batch: Vec<Event> = (first..=first + n % 6).map(assorted).collect();
                    store.insert(&batch).unwrap();
                }
            })
        });
        // Transactions that take numbers at once, and commit late or never.
        let manual = (0..3).map(|writer| {
            let session = database.session();
            scope.spawn(move || {
                for n in 0..40 {
                    session.run("BEGIN");
                    for part in 0..=fastrand::u32(0..3) {
                        session.run(&format!(
                            "INSERT INTO event (source, key, kind) VALUES ('hand-{writer}', '{n} {part}', 9)"
                        ));
                        pause();
                    }
                    session.run(if fastrand::u32(0..4) == 0 { "ROLLBACK" } else { "COMMIT" });
                }
            })
        });
        let writers: Vec<_> = lyftr.chain(manual).collect();
        let done = &done;
        let following: Vec<_> = followers
            .iter_mut()
            .map(|follower| {
                scope.spawn(move || {
                    while !done.load(Relaxed) {
                        follower.follow();
                    }
                    while follower.follow() > 0 {}
                })
            })
            .collect();
        let written: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Relaxed);
        for written in written {
            written.unwrap();
        }
        for follower in following {
            follower.join().unwrap();
        }
    });
    let expected: Vec<i64> =
        database.query("SELECT seq FROM event ORDER BY seq", &[]).iter().map(|row| row.get(0)).collect();
    assert!(expected.len() > 500, "{}", expected.len());
    for follower in &followers {
        let seen: Vec<i64> = follower.seen.iter().map(|position| position.seq).collect();
        assert_eq!(seen, expected);
    }
    let backwards = all(&stores[0], Start::Latest, 17, &everything());
    assert!(backwards.iter().map(|one| one.position).eq(followers[0].seen.iter().rev().copied()));
}

#[test]
fn a_commit_that_is_held_back_for_longer_than_any_timeout_delays_and_skips_nothing() {
    let database = Database::new();
    let settings = Settings { timeout: Duration::from_millis(200), ..Settings::default() };
    let store = Postgres::open(&address(&database.url()), Tuning { settings, ..Tuning::default() }).unwrap();
    store.insert(&[plain("before")]).unwrap();
    let late = database.session_that_stores("late");
    let begin = Instant::now();
    let mut n = 0;
    while begin.elapsed() < 4 * settings.timeout {
        store.insert(&[plain(&format!("{n}"))]).unwrap();
        n += 1;
        assert_eq!(keys(&all(&store, Start::Beginning, 10, &everything())), ["before"]);
        let (_, now) = page(&store, Start::Now, 1, &everything()).unwrap();
        assert_eq!(store.event_at(now.next.unwrap()).unwrap().unwrap().arrived.event.key.as_str(), "before");
        assert_eq!(keys(&all(&store, Start::Latest, 10, &everything())), ["before"]);
    }
    late.run("COMMIT");
    let found = all(&store, Start::Beginning, 10, &everything());
    assert_eq!(keys(&found)[..3], ["before", "late", "0"]);
    assert_eq!(found.len(), n + 2);
}

#[test]
fn a_number_that_a_follower_has_seen_does_not_come_back_after_a_crash() {
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    let store = open(&database);
    let mut seen: Vec<Recorded> = Vec::new();
    let mut start = Start::Beginning;
    for round in 0..4 {
        for n in 0..5 {
            eventually("it is stored", || store.insert(&[plain(&format!("{round} {n}"))]).ok());
        }
        let more = all(&store, start, 3, &everything());
        assert_eq!(keys(&more), (0..5).map(|n| format!("{round} {n}")).collect::<Vec<_>>());
        seen.extend(more);
        start = Start::After(seen[seen.len() - 1].position);
        // More numbers than the server logs ahead, none of them committed; and one event beyond them, which is.
        let under_way = database.session();
        under_way.run(&format!(
            "BEGIN; INSERT INTO event (source, key, kind) SELECT 'lost', '{round} ' || n, 9 FROM generate_series(1, {}) AS n",
            [0, 1, 31, 70][round]
        ));
        let beyond = plain(&format!("{round} beyond"));
        store.insert(std::slice::from_ref(&beyond)).unwrap();
        cluster.kill9();
        cluster.run();
        // It was acknowledged, and no number of those that were lost holds it back any more.
        let more = eventually("it answers", || {
            let found = store.insert(&[plain(&format!("{round} after"))]).ok();
            found.map(|_| all(&store, start, 3, &everything()))
        });
        let expected = [format!("{round} beyond"), format!("{round} after")];
        assert_eq!(keys(&more), expected);
        seen.extend(more);
        start = Start::After(seen[seen.len() - 1].position);
    }
    assert!(seen.is_sorted_by(|one, other| one.position.seq < other.position.seq));
    let different: HashSet<i64> = seen.iter().map(|one| one.position.seq).collect();
    assert_eq!(different.len(), seen.len());
    assert_eq!(all(&store, Start::Beginning, 1_000, &everything()), seen);
    store.close();
}

/// Whether a position names an event, by each way to ask.
#[track_caller]
fn is_known(store: &Postgres, position: Position) -> bool {
    let known = store.event_at(position).unwrap().is_some();
    for start in [Start::After(position), Start::Before(position)] {
        assert_eq!(page(store, start, 1, &everything()).is_some(), known, "{start:?}");
    }
    let to = Move {
        name: CursorName::new("probe").unwrap(),
        expected: None,
        to: position,
        at: at("2026-01-01T00:00:00.000Z"),
    };
    assert_eq!(store.move_cursor(&to).unwrap() != Moved::NoSuchEvent, known);
    store.delete_cursor(&to.name).unwrap();
    known
}

#[test]
fn a_position_of_another_database_or_of_no_event_is_not_taken() {
    let (one, other) = (Database::new(), Database::new());
    let (one, other) = (open(&one), open(&other));
    // The same events under the same numbers, received at the same time.
    for store in [&one, &other] {
        store.insert(&[plain("a"), plain("b")]).unwrap();
    }
    let of_one = all(&one, Start::Beginning, 10, &everything());
    let of_other = all(&other, Start::Beginning, 10, &everything());
    assert_eq!(
        of_one.iter().map(|one| &one.arrived).collect::<Vec<_>>(),
        of_other.iter().map(|one| &one.arrived).collect::<Vec<_>>()
    );
    for (mine, theirs) in of_one.iter().zip(&of_other) {
        assert!(is_known(&one, mine.position) && !is_known(&one, theirs.position));
    }
    let Position { seq, tag } = of_one[1].position;
    for position in [
        Position { seq: seq + 1, tag },
        Position { seq, tag: tag ^ 1 },
        Position { seq: i64::MAX, tag },
        Position { seq: 1, tag: 0 },
    ] {
        assert!(!is_known(&one, position), "{position:?}");
    }
}

#[test]
fn positions_that_a_restored_dump_has_lost_are_not_taken_also_when_the_events_come_again() {
    let cluster = Cluster::shared();
    let database = Database::new();
    let store = open(&database);
    store.insert(&[plain("kept")]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dump = folder.path().join("dump");
    let dump = dump.to_str().unwrap();
    cluster.tool("pg_dump", &database, &["--format=custom"], Some(dump));
    let at_dump = all(&store, Start::Beginning, 10, &everything());
    store.insert(&[plain("lost 1")]).unwrap();
    store.insert(&[plain("lost 2")]).unwrap();
    let before = all(&store, Start::Beginning, 10, &everything());
    store.close();
    drop(store);
    let restored = Database::new();
    cluster.tool("pg_restore", &restored, &[dump], None);
    let store = open(&restored);
    assert!(is_known(&store, at_dump[0].position), "it is the same log");
    assert!(!is_known(&store, before[1].position) && !is_known(&store, before[2].position));
    // Sent again, in another order and received later: the numbers are the same.
    for key in ["lost 2", "lost 1"] {
        let mut again = plain(key);
        again.received_at = Some(at("2026-01-02T03:05:00.000Z"));
        store.insert(&[again]).unwrap();
    }
    let after = all(&store, Start::Beginning, 10, &everything());
    assert_eq!(keys(&after), ["kept", "lost 2", "lost 1"]);
    assert_eq!(after[1].position.seq >> 22, before[1].position.seq >> 22, "else this proves little");
    assert!(!is_known(&store, before[1].position) && !is_known(&store, before[2].position));
    assert!(after.iter().all(|one| is_known(&store, one.position)));
}
