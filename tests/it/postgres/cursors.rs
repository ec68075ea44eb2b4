//! The cursors of followers, moved by several processes at once.

use std::sync::atomic::Ordering::Relaxed;

use lyftr::cursor::{CURSORS_MAX, Cursor, CursorName, Move, Moved};
use lyftr::event::{LogRead, Position, Start};
use lyftr::store::Store;
use lyftr::store::postgres::Postgres;

use super::events::{at, plain};
use super::log::{all, assorted, everything};
use super::open;
use crate::support::postgres::Database;

fn cursor(store: &Postgres, name: &str) -> Option<Cursor> {
    store.cursor(&CursorName::new(name).unwrap()).unwrap()
}

fn to(name: &str, expected: Option<Position>, to: Position) -> Move {
    Move { name: CursorName::new(name).unwrap(), expected, to, at: at("2026-02-03T04:05:06.789Z") }
}

#[test]
fn of_two_who_move_a_cursor_from_one_place_one_succeeds_on_any_replica() {
    let database = Database::new();
    let stores = [open(&database), open(&database)];
    stores[0].insert(&(0..50).map(assorted).collect::<Vec<_>>()).unwrap();
    let places: Vec<Position> =
        all(&stores[0], Start::Beginning, 100, &everything()).iter().map(|one| one.position).collect();
    assert_eq!(cursor(&stores[0], "bill"), None);
    assert_eq!(
        stores[0].move_cursor(&to("bill", Some(places[0]), places[1])).unwrap(),
        Moved::Elsewhere(None)
    );
    let Moved::Done(made) = stores[0].move_cursor(&to("bill", None, places[3])).unwrap() else {
        panic!("not made")
    };
    assert_eq!((made.position, made.updated_at, made.lag), (places[3], at("2026-02-03T04:05:06.789Z"), 46));
    assert_eq!(cursor(&stores[1], "bill"), Some(made.clone()));
    let other = stores[1].move_cursor(&to("bill", None, places[4])).unwrap();
    assert_eq!(other, Moved::Elsewhere(Some(places[3])));
    // Each tries to go on from where it is; each step is taken once.
    let taken = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for n in 0..6 {
            let (store, taken, places) = (&stores[n % 2], &taken, &places);
            scope.spawn(move || {
                let mut place = 3;
                while place + 1 < places.len() {
                    match store.move_cursor(&to("bill", Some(places[place]), places[place + 1])).unwrap() {
                        Moved::Done(_) => taken.lock().unwrap().push(place),
                        Moved::Elsewhere(Some(found)) => {
                            place = places.iter().position(|place| *place == found).unwrap();
                            continue;
                        }
                        other => panic!("{other:?}"),
                    }
                    place += 1;
                }
            });
        }
    });
    let mut taken = taken.into_inner().unwrap();
    taken.sort_unstable();
    assert_eq!(taken, (3..49).collect::<Vec<_>>());
    let end = cursor(&stores[0], "bill").unwrap();
    assert_eq!((end.position, end.lag), (places[49], 0));
    // It may go back too, which its follower asks for.
    assert!(matches!(
        stores[0].move_cursor(&to("bill", Some(places[49]), places[0])).unwrap(),
        Moved::Done(_)
    ));
    let name = CursorName::new("bill").unwrap();
    assert!(stores[1].delete_cursor(&name).unwrap() && !stores[0].delete_cursor(&name).unwrap());
    assert_eq!(stores[0].cursors().unwrap(), []);
}

#[test]
fn there_are_as_many_cursors_as_there_may_be_however_many_are_made_at_once() {
    let database = Database::new();
    let stores = [open(&database), open(&database)];
    stores[0].insert(&[plain("a")]).unwrap();
    let place = all(&stores[0], Start::Beginning, 1, &everything())[0].position;
    let made = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (store, made) = (&stores[n % 2], &made);
            scope.spawn(move || {
                for m in 0..CURSORS_MAX / 2 {
                    match store.move_cursor(&to(&format!("{n}-{m}"), None, place)).unwrap() {
                        Moved::Done(_) => drop(made.fetch_add(1, Relaxed)),
                        Moved::TooMany => {}
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    assert_eq!(made.into_inner(), CURSORS_MAX);
    let cursors = stores[0].cursors().unwrap();
    assert_eq!(cursors.len(), CURSORS_MAX);
    assert!(cursors.is_sorted_by_key(|cursor| cursor.name.clone()));
    // Those that are there still move.
    assert!(matches!(
        stores[1].move_cursor(&to(cursors[7].name.as_str(), Some(place), place)).unwrap(),
        Moved::Done(_)
    ));
    assert_eq!(stores[1].move_cursor(&to("one-more", None, place)).unwrap(), Moved::TooMany);
}

#[test]
fn where_the_cursor_is_counts_before_what_the_move_asks_for() {
    let database = Database::new();
    let store = open(&database);
    store.insert(&[plain("a"), plain("b")]).unwrap();
    let places: Vec<Position> =
        all(&store, Start::Beginning, 2, &everything()).iter().map(|one| one.position).collect();
    let (first, second) = (places[0], places[1]);
    let lost = Position { tag: second.tag ^ 1, ..second };
    assert!(matches!(store.move_cursor(&to("bill", None, first)).unwrap(), Moved::Done(_)));
    for expected in [None, Some(second), Some(Position { tag: first.tag ^ 1, ..first })] {
        let moved = store.move_cursor(&to("bill", expected, lost)).unwrap();
        assert_eq!(moved, Moved::Elsewhere(Some(first)), "{expected:?}");
    }
    assert_eq!(store.move_cursor(&to("bill", Some(first), lost)).unwrap(), Moved::NoSuchEvent);
    // An event that is lost counts before the number of cursors, and where the cursor is before both.
    for n in 1..CURSORS_MAX {
        assert!(matches!(store.move_cursor(&to(&format!("c{n}"), None, first)).unwrap(), Moved::Done(_)));
    }
    assert_eq!(store.move_cursor(&to("one-more", None, lost)).unwrap(), Moved::NoSuchEvent);
    assert_eq!(store.move_cursor(&to("one-more", None, first)).unwrap(), Moved::TooMany);
    assert_eq!(store.move_cursor(&to("bill", None, second)).unwrap(), Moved::Elsewhere(Some(first)));
    let elsewhere = store.move_cursor(&to("one-more", Some(first), lost)).unwrap();
    assert_eq!(elsewhere, Moved::Elsewhere(None));
}

#[test]
fn the_lag_is_exact_for_a_follower_who_is_near_and_about_right_for_one_who_is_far_behind() {
    const EVENTS: usize = 16_000;
    let database = Database::new();
    let store = open(&database);
    let events: Vec<_> = (0..EVENTS).map(|n| plain(&n.to_string())).collect();
    for batch in events.chunks(2_000) {
        store.insert(batch).unwrap();
    }
    let place = |start| {
        let read = LogRead { start, ..LogRead::on_from(None) };
        store.read_log(&read, &mut |_| false).unwrap().unwrap().next.unwrap()
    };
    let (first, last) = (place(Start::Beginning), place(Start::Now));
    assert!(matches!(store.move_cursor(&to("near", None, last)).unwrap(), Moved::Done(_)));
    // Without statistics it is at least what was counted.
    let Moved::Done(far) = store.move_cursor(&to("far", None, first)).unwrap() else { panic!("not made") };
    assert!(far.lag > 10_000, "the alert for a cursor that is behind fires: {}", far.lag);
    database.query("ANALYZE event", &[]);
    let lags: Vec<u64> = store.cursors().unwrap().iter().map(|cursor| cursor.lag).collect();
    assert!(lags[1] == 0 && lags[0].abs_diff(EVENTS as u64) < EVENTS as u64 / 10, "{lags:?}");
    assert_eq!(cursor(&store, "far").unwrap().lag, lags[0]);
    store.insert(&[plain("one more")]).unwrap();
    assert_eq!(cursor(&store, "near").unwrap().lag, 1);
}
