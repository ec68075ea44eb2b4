//! Cursors: compare-and-set, in the database.

use std::sync::Barrier;

use lyftr::cursor::{CURSORS_MAX, Cursor, CursorName, Move, Moved};
use lyftr::event::{Kind, Position};
use lyftr::store::Store;

use super::{Place, all, bare, engines, numbered, ts};

engines! { sqlite: (
    a_cursor_is_where_it_was_moved_also_after_a_restart
    a_cursor_moves_only_from_where_its_follower_believes_it
    one_of_several_moves_from_one_place_takes_place
    a_cursor_names_an_event_of_this_log
    there_are_a_hundred_cursors_at_most
    a_cursor_that_is_deleted_is_gone
    the_lag_is_the_number_of_events_after_the_cursor
) }

fn cursor_name(name: &str) -> CursorName {
    CursorName::new(name).unwrap()
}

fn to_move(name: &str, expected: Option<Position>, to: Position) -> Move {
    Move { name: cursor_name(name), expected, to, at: ts("2025-01-15T10:00:00.123Z") }
}

#[track_caller]
fn done(store: &dyn Store, to: &Move) -> Cursor {
    match store.move_cursor(to).unwrap() {
        Moved::Done(cursor) => cursor,
        other => panic!("{other:?}"),
    }
}

fn a_cursor_is_where_it_was_moved_also_after_a_restart(place: &Place) {
    let store = place.open();
    assert_eq!(store.cursors().unwrap(), []);
    assert_eq!(store.cursor(&cursor_name("a")).unwrap(), None);
    store.insert(&numbered("shop", 0..5)).unwrap();
    let log = all(store.as_ref());
    let b = done(store.as_ref(), &to_move("b", None, log[4].position));
    let expected = |name, at: usize, lag| Cursor {
        name: cursor_name(name),
        position: log[at].position,
        updated_at: ts("2025-01-15T10:00:00.123Z"),
        lag,
    };
    assert_eq!(b, expected("b", 4, 0));
    done(store.as_ref(), &to_move("A", None, log[0].position));
    assert_eq!(
        done(store.as_ref(), &to_move("A", Some(log[0].position), log[2].position)),
        expected("A", 2, 2)
    );
    // Backwards, too.
    assert_eq!(
        done(store.as_ref(), &to_move("b", Some(log[4].position), log[1].position)),
        expected("b", 1, 3)
    );
    store.close();
    drop(store);
    let store = place.open();
    assert_eq!(store.cursors().unwrap(), [expected("A", 2, 2), expected("b", 1, 3)]);
    assert_eq!(store.cursor(&cursor_name("b")).unwrap(), Some(expected("b", 1, 3)));
    assert_eq!(store.cursor(&cursor_name("B")).unwrap(), None);
}

fn a_cursor_moves_only_from_where_its_follower_believes_it(place: &Place) {
    let store = place.open();
    store.insert(&numbered("shop", 0..5)).unwrap();
    let log = all(store.as_ref());
    let moved = |expected: Option<Position>, to: usize| {
        store.move_cursor(&to_move("a", expected, log[to].position)).unwrap()
    };
    assert_eq!(moved(Some(log[0].position), 1), Moved::Elsewhere(None));
    assert_eq!(store.cursors().unwrap(), []);
    assert!(matches!(moved(None, 1), Moved::Done(_)));
    let Position { seq, tag } = log[1].position;
    for expected in [None, Some(log[0].position), Some(Position { seq, tag: tag ^ 1 })] {
        assert_eq!(moved(expected, 2), Moved::Elsewhere(Some(log[1].position)), "{expected:?}");
    }
    assert_eq!(store.cursor(&cursor_name("a")).unwrap().unwrap().position, log[1].position);
    // To where it is already.
    assert!(matches!(moved(Some(log[1].position), 1), Moved::Done(_)));
}

fn one_of_several_moves_from_one_place_takes_place(place: &Place) {
    const FOLLOWERS: usize = 8;
    let store = place.open();
    store.insert(&numbered("shop", 0..FOLLOWERS + 1)).unwrap();
    let log = all(store.as_ref());
    for first in [None, Some(log[FOLLOWERS].position)] {
        store.delete_cursor(&cursor_name("a")).unwrap();
        if let Some(first) = first {
            done(store.as_ref(), &to_move("a", None, first));
        }
        let barrier = Barrier::new(FOLLOWERS);
        let race = |to: Position| {
            barrier.wait();
            store.move_cursor(&to_move("a", first, to)).unwrap()
        };
        let race = &race;
        let moved: Vec<Moved> = std::thread::scope(|scope| {
            let begin = |to: Position| scope.spawn(move || race(to));
            let racers: Vec<_> = log[..FOLLOWERS].iter().map(|one| begin(one.position)).collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let there = store.cursor(&cursor_name("a")).unwrap().unwrap().position;
        let done: Vec<_> = moved
            .iter()
            .filter_map(|moved| match moved {
                Moved::Done(cursor) => Some(cursor.position),
                _ => None,
            })
            .collect();
        assert_eq!(done, [there]);
        assert_eq!(
            moved.iter().filter(|moved| **moved == Moved::Elsewhere(Some(there))).count(),
            FOLLOWERS - 1
        );
    }
}

fn a_cursor_names_an_event_of_this_log(place: &Place) {
    let store = place.open();
    store.insert(&numbered("shop", 0..2)).unwrap();
    let Position { seq, tag } = all(store.as_ref())[1].position;
    for nowhere in
        [Position { seq, tag: tag ^ 1 }, Position { seq: seq + 1, tag }, Position { seq: seq - 1, tag }]
    {
        assert_eq!(store.move_cursor(&to_move("a", None, nowhere)).unwrap(), Moved::NoSuchEvent);
    }
    assert_eq!(store.cursors().unwrap(), []);
    // Where it is not, comes first.
    let there = Position { seq, tag };
    done(store.as_ref(), &to_move("a", None, there));
    let nowhere = Position { seq, tag: tag ^ 1 };
    assert_eq!(store.move_cursor(&to_move("a", None, nowhere)).unwrap(), Moved::Elsewhere(Some(there)));
    assert_eq!(store.move_cursor(&to_move("a", Some(there), nowhere)).unwrap(), Moved::NoSuchEvent);
}

fn there_are_a_hundred_cursors_at_most(place: &Place) {
    let store = place.open();
    store.insert(&numbered("shop", 0..2)).unwrap();
    let [first, second] = [0, 1].map(|at: usize| all(store.as_ref())[at].position);
    for n in 0..CURSORS_MAX {
        done(store.as_ref(), &to_move(&format!("cursor-{n}"), None, first));
    }
    assert_eq!(store.move_cursor(&to_move("one-more", None, first)).unwrap(), Moved::TooMany);
    assert_eq!(store.cursors().unwrap().len(), CURSORS_MAX);
    done(store.as_ref(), &to_move("cursor-7", Some(first), second));
    assert!(store.delete_cursor(&cursor_name("cursor-8")).unwrap());
    done(store.as_ref(), &to_move("one-more", None, first));
}

fn a_cursor_that_is_deleted_is_gone(place: &Place) {
    let store = place.open();
    store.insert(&numbered("shop", 0..1)).unwrap();
    let position = all(store.as_ref())[0].position;
    assert!(!store.delete_cursor(&cursor_name("a")).unwrap());
    done(store.as_ref(), &to_move("a", None, position));
    done(store.as_ref(), &to_move("b", None, position));
    assert!(store.delete_cursor(&cursor_name("a")).unwrap());
    assert!(!store.delete_cursor(&cursor_name("a")).unwrap());
    assert_eq!(store.cursors().unwrap().len(), 1);
    assert_eq!(store.move_cursor(&to_move("a", Some(position), position)).unwrap(), Moved::Elsewhere(None));
}

fn the_lag_is_the_number_of_events_after_the_cursor(place: &Place) {
    let store = place.open();
    store.insert(&numbered("shop", 0..1)).unwrap();
    done(store.as_ref(), &to_move("a", None, all(store.as_ref())[0].position));
    let lag = || store.cursor(&cursor_name("a")).unwrap().unwrap().lag;
    assert_eq!(lag(), 0);
    let mut expected = 0;
    for batch in [1, 3, 900, 2_000] {
        let events: Vec<_> =
            (0..batch).map(|n| bare("shop", &format!("{batch} {n}"), Kind::Status)).collect();
        store.insert(&events).unwrap();
        expected += batch;
        assert_eq!(lag(), expected);
    }
}
