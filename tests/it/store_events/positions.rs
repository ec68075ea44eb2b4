//! Positions that name no event of the log are told from those that do.

use lyftr::event::{LogFilter, Position, Start};
use lyftr::store::Store;

use super::{Place, all, bare, engines, event, keys, numbered, read_log, ts};

engines! { sqlite: (
    a_read_goes_on_from_a_position_in_both_directions
    a_position_that_names_no_event_is_refused
    an_empty_log_has_no_position
    a_filter_that_lets_nothing_through_moves_on
    a_read_ends_where_its_caller_says
) }

/// In every way to read from it, the position is refused.
#[track_caller]
fn assert_refused(store: &dyn Store, position: Position) {
    assert_eq!(store.event_at(position).unwrap(), None);
    for start in [Start::After(position), Start::Before(position)] {
        assert_eq!(read_log(store, start, &LogFilter::default(), 10), None, "{start:?}");
    }
}

fn a_read_goes_on_from_a_position_in_both_directions(place: &Place) {
    let store = place.open();
    store.insert(&numbered("shop", 0..10)).unwrap();
    let log = all(store.as_ref());
    let read = |start, limit| read_log(store.as_ref(), start, &LogFilter::default(), limit).unwrap();
    for at in 0..10 {
        let (after, reached) = read(Start::After(log[at].position), 3);
        let last = (at + 3).min(9);
        assert_eq!(after, log[at + 1..=last]);
        assert_eq!((reached.next, reached.end), (Some(log[last].position), last == 9));
        let (before, reached) = read(Start::Before(log[at].position), 3);
        let first = at.saturating_sub(3);
        assert!(before.iter().eq(log[first..at].iter().rev()));
        assert_eq!((reached.next, reached.end), (Some(log[first].position), first == 0));
    }
    let (latest, reached) = read(Start::Latest, 4);
    assert!(latest.iter().eq(log[6..].iter().rev()));
    assert_eq!((reached.next, reached.end), (Some(log[6].position), false));
    let (none, reached) = read(Start::Now, 4);
    assert_eq!((none, reached.next, reached.end), (Vec::new(), Some(log[9].position), true));
}

fn a_position_that_names_no_event_is_refused(place: &Place) {
    let store = place.open();
    store.insert(&numbered("shop", 0..3)).unwrap();
    let log = all(store.as_ref());
    let Position { seq, tag } = log[1].position;
    assert_refused(store.as_ref(), Position { seq, tag: tag ^ 1 });
    assert_refused(store.as_ref(), Position { seq: seq + 1, tag });
    assert_refused(store.as_ref(), Position { seq: log[2].position.seq + 1, tag });
    assert_refused(store.as_ref(), Position { seq: i64::MAX, tag });
    // The same events in another database.
    let elsewhere = Place::sqlite();
    let other = elsewhere.open();
    other.insert(&numbered("shop", 0..3)).unwrap();
    for recorded in &log {
        assert_refused(other.as_ref(), recorded.position);
    }
}

fn an_empty_log_has_no_position(place: &Place) {
    let store = place.open();
    for start in [Start::Beginning, Start::Now, Start::Latest] {
        let (none, reached) = read_log(store.as_ref(), start, &LogFilter::default(), 10).unwrap();
        assert_eq!((none, reached.next, reached.end), (Vec::new(), None, true), "{start:?}");
    }
}

fn a_filter_that_lets_nothing_through_moves_on(place: &Place) {
    let store = place.open();
    store.insert(&numbered("shop", 0..10)).unwrap();
    let log = all(store.as_ref());
    let filter = LogFilter { source: Some("none of them".into()), ..LogFilter::default() };
    for (start, last) in [
        (Start::Beginning, 9),
        (Start::After(log[3].position), 9),
        (Start::Latest, 0),
        (Start::Before(log[7].position), 0),
    ] {
        let (none, reached) = read_log(store.as_ref(), start, &filter, 10).unwrap();
        assert_eq!(
            (none, reached.next, reached.end),
            (Vec::new(), Some(log[last].position), true),
            "{start:?}"
        );
    }
    // The same behind one that it lets through.
    let mut one = bare("shop", "status", lyftr::event::Kind::Status);
    one.from = Some(super::name("Bot 7"));
    store.insert(&[one]).unwrap();
    store.insert(&numbered("shop", 10..20)).unwrap();
    let log = all(store.as_ref());
    let one = LogFilter { from: Some("Bot 7".into()), ..LogFilter::default() };
    for (start, last) in [(Start::Beginning, 20), (Start::Latest, 0)] {
        let (found, reached) = read_log(store.as_ref(), start, &one, 10).unwrap();
        assert_eq!(
            (found.as_slice(), reached.next, reached.end),
            (&log[10..11], Some(log[last].position), true)
        );
    }
    // At the end there is nothing to look at, and the place stays.
    let last = Start::After(log[20].position);
    let (_, reached) = read_log(store.as_ref(), last, &filter, 10).unwrap();
    assert_eq!((reached.next, reached.end), (Some(log[20].position), true));
    store.insert(&[event("shop", "one more")]).unwrap();
    let (_, reached) = read_log(store.as_ref(), last, &filter, 10).unwrap();
    assert_eq!((reached.next.map(|next| next.seq > log[20].position.seq), reached.end), (Some(true), true));
}

fn a_read_ends_where_its_caller_says(place: &Place) {
    let store = place.open();
    store.insert(&numbered("shop", 0..10)).unwrap();
    let log = all(store.as_ref());
    for (start, expected) in [(Start::Beginning, [0, 1, 2]), (Start::Latest, [9, 8, 7])] {
        let mut found = Vec::new();
        let read = lyftr::event::LogRead { start, filter: LogFilter::default(), limit: 10 };
        let reached = store.read_log(&read, &mut |recorded| {
            found.push(recorded);
            found.len() < 3
        });
        let reached = reached.unwrap().unwrap();
        assert_eq!(found, expected.map(|at: usize| log[at].clone()));
        assert_eq!((reached.next, reached.end), (Some(log[expected[2]].position), false));
    }
}

/// After the restore of a backup numbers are given once more. Positions from the time between must not be taken for those of
/// the events that have the numbers now.
#[test]
fn a_position_from_before_a_restore_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, backup) = (folder.path().join("app.db"), folder.path().join("backup.db"));
    let url = crate::support::sqlite_url(&path);
    let store = crate::support::open_store(&url);
    store.insert(&numbered("shop", 0..3)).unwrap();
    store.close();
    std::fs::copy(&path, &backup).unwrap();
    let store = crate::support::open_store(&url);
    let lost = numbered("shop", 3..6);
    store.insert(&lost).unwrap();
    let before = all(store.as_ref());
    store.close();
    drop(store);
    std::fs::copy(&backup, &path).unwrap();
    let store = crate::support::open_store(&url);
    for recorded in &before[..3] {
        assert_eq!(store.event_at(recorded.position).unwrap().as_ref(), Some(recorded), "it was not lost");
    }
    for recorded in &before[3..] {
        assert_refused(store.as_ref(), recorded.position);
    }
    // The same are sent again, in another order, and at another time.
    let mut again = lost;
    again.swap(0, 1);
    again[2].received_at = Some(ts("2025-01-15T11:00:00.000Z"));
    store.insert(&again).unwrap();
    let after = all(store.as_ref());
    let seqs = |log: &[lyftr::event::Recorded]| log.iter().map(|one| one.position.seq).collect::<Vec<_>>();
    assert_eq!(seqs(&after), seqs(&before));
    assert_eq!(keys(&after)[3..], ["shop 4", "shop 3", "shop 5"]);
    for recorded in &before[3..] {
        assert_refused(store.as_ref(), recorded.position);
    }
}

#[test]
fn a_position_of_an_event_that_was_removed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let store = crate::support::open_store(&crate::support::sqlite_url(&path));
    store.insert(&numbered("shop", 0..3)).unwrap();
    store.insert(&[bare("shop", "status", lyftr::event::Kind::Status)]).unwrap();
    let log = all(store.as_ref());
    let past_lyftr = rusqlite::Connection::open(&path).unwrap();
    past_lyftr
        .execute("DELETE FROM event WHERE seq IN (?1, ?2)", [log[1].position.seq, log[3].position.seq])
        .unwrap();
    for at in [1, 3] {
        assert_refused(store.as_ref(), log[at].position);
    }
    let (rest, reached) =
        read_log(store.as_ref(), Start::After(log[0].position), &LogFilter::default(), 10).unwrap();
    assert_eq!((rest.as_slice(), reached.next, reached.end), (&log[2..3], Some(log[2].position), true));
}
