//! Erasure: derived data follows each step, and is not made anew; what was erased does not come back; whatever else goes on.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use lyftr::cursor::{CursorName, Move, Moved};
use lyftr::erasure::{Erasure, Wiped};
use lyftr::event::{Event, Kind, LogFilter, LogRead, Start};
use lyftr::message::Message;
use lyftr::query::{Filter, Page};
use lyftr::store::postgres::{Postgres, Tuning};
use lyftr::store::{Outcome, Settings, Store, backup};

use super::events::{at, full, name, plain, source};
use super::log::{all, everything};
use super::state::{Numbers, assert_answers, assert_right, made, number, numbers, store};
use super::{address, state};
use crate::support::postgres::{Cluster, Database};
use crate::support::{Messages as _, eventually, open_store, settle, sqlite_url};

/// Derived data was made anew, or is about to be, after a manual change.
const MADE_ANEW: &str = "SELECT count(*) FROM derived, event_change WHERE is_void OR last_value <> 1";

fn from(sender: &str) -> Erasure {
    Erasure::new(LogFilter { from: Some(sender.to_owned()), ..everything() }, None, None).unwrap()
}

/// Erases everything that is selected; returns the number of events.
#[track_caller]
fn erase(store: &dyn Store, erasure: &Erasure) -> u64 {
    let (mut events, mut after) = (0, 0);
    loop {
        let step = store.erase(erasure, after).unwrap();
        events += step.events;
        let Some(next) = step.next else { return events };
        assert!(next > after, "each step goes on");
        after = next;
    }
}

/// Counts what is selected.
#[track_caller]
fn count(store: &dyn Store, erasure: &Erasure) -> u64 {
    let (mut events, mut after) = (0, 0);
    loop {
        let step = store.count_selected(erasure, after).unwrap();
        events += step.events;
        let Some(next) = step.next else { return events };
        after = next;
    }
}

/// So many rows as SQL counts them.
fn rows(numbers: &Numbers) -> i64 {
    i64::try_from(numbers.len()).unwrap()
}

/// Those of [`made`] that are from `+1`, `+2` or `+3`.
fn of_sender(all: &Numbers, sender: u32) -> Numbers {
    all.iter().copied().filter(|n| n % 3 + 1 == sender).collect()
}

#[test]
fn derived_data_follows_an_erasure_and_is_not_made_anew() {
    let database = Database::new();
    let service = state::open(&database);
    store(&service, 0..120);
    settle(&service);
    let mut left = numbers(0..120);
    for sender in 1..=3 {
        let erasure = from(&format!("+{sender}"));
        let of_sender = of_sender(&left, sender);
        assert_eq!(count(&service, &erasure), of_sender.len() as u64);
        assert_eq!(erase(&service, &erasure), of_sender.len() as u64);
        left.retain(|n| !of_sender.contains(n));
        assert_answers(&service, &left);
        let texts = "SELECT count(*) FROM message_text";
        assert_eq!(database.number(texts), rows(&left), "no text stays behind");
        assert_eq!(database.number("SELECT count(*) FROM derived WHERE figures_upto = 0"), 0);
        assert_eq!(database.number("SELECT messages FROM derived"), rows(&left));
    }
    assert_eq!(database.number("SELECT count(*) FROM sender_total"), 0);
    assert_eq!(database.number(MADE_ANEW), 0);
    store(&service, 200..220);
    assert_right(&service, &database, &numbers(200..220));
    assert_eq!(database.number(MADE_ANEW), 0);
    assert_eq!(service.wipe().unwrap(), Wiped::ByServer);
}

#[test]
fn a_source_may_have_a_time_of_its_own() {
    let database = Database::new();
    crate::erasure::keep::each_source_is_kept_for_its_time(&open_store(&database.url()));
    assert_eq!(database.number(MADE_ANEW), 0);
}

#[test]
fn what_becomes_too_old_is_erased_by_the_next_pass() {
    let database = Database::new();
    let store = open_store(&database.url());
    crate::erasure::keep::later_passes_erase_what_has_become_due(&store, |_| ());
    store.close();
}

/// What is above the watermarks is not in derived data, and is not taken out of it.
#[test]
fn what_is_not_derived_yet_is_erased_without_a_trace_in_derived_data() {
    let database = Database::new();
    let service = state::open(&database);
    store(&service, 0..30);
    settle(&service);
    // As a batch does that is under way: nothing that comes after it is derived.
    let under_way = database.session();
    under_way.run(
        "BEGIN; SELECT pg_advisory_xact_lock_shared(1283024500, (last_value & 2147483647)::integer) FROM event_batch",
    );
    store(&service, 30..60);
    assert_eq!(database.number("SELECT messages FROM derived"), 30);
    assert_eq!(erase(&service, &from("+2")), 20);
    assert_eq!(database.number("SELECT messages FROM derived"), 20);
    let left: Numbers = (0..60).filter(|n| n % 3 != 1).collect();
    assert_answers(&service, &left);
    // The latest event in derived data among them.
    assert_eq!(erase(&service, &from("+3")), 20);
    let left: Numbers = (0..60).filter(|n| n % 3 == 0).collect();
    assert_answers(&service, &left);
    under_way.run("COMMIT");
    assert_right(&service, &database, &left);
    assert_eq!(database.number(MADE_ANEW), 0);
}

/// The watermark of the texts stays below the newest message that this process has stored, since that is gone.
#[test]
fn nothing_is_behind_when_the_newest_message_was_erased_before_its_text_was_derived() {
    let database = Database::new();
    let tuning =
        Tuning { index_pause: Duration::from_millis(20), few: 0, texts_batch: 1, ..Tuning::default() };
    let service = Postgres::open(&address(&database.url()), tuning).unwrap();
    store(&service, 0..300);
    eventually("the newest message is in the aggregates", || {
        (database.number("SELECT count(*) FROM derived WHERE messages = 300") == 1).then_some(())
    });
    assert_eq!(erase(&service, &from("+3")), 100);
    assert_eq!(
        database.number("SELECT count(*) FROM derived WHERE texts_upto < figures_upto"),
        1,
        "otherwise this shows nothing"
    );
    assert_right(&service, &database, &(0..300).filter(|n| n % 3 != 2).collect());
}

#[test]
fn texts_of_a_release_before_are_erased_too() {
    let database = Database::new();
    let service = state::open(&database);
    store(&service, 0..30);
    settle(&service);
    database.query("UPDATE message_text SET bucket = -1 WHERE seq % 2 = 0", &[]);
    assert_eq!(erase(&service, &from("+1")), 10);
    assert_right(&service, &database, &(0..30).filter(|n| n % 3 != 0).collect());
    assert_eq!(database.number("SELECT count(*) FROM message_text"), 20);
}

#[test]
fn every_condition_selects_what_it_says_among_events_of_every_kind() {
    let filter = |set: fn(&mut LogFilter)| {
        let mut filter = everything();
        set(&mut filter);
        filter
    };
    let person = |person: &str| Erasure::new(everything(), Some(person.to_owned()), None).unwrap();
    let by = |filter: LogFilter| Erasure::new(filter, None, None).unwrap();
    let until = |until: &str| Erasure::received_before(at(until));
    let erasures = [
        by(filter(|filter| filter.source = Some("shop".into()))),
        by(filter(|filter| filter.source = Some("No source".into()))),
        by(filter(|filter| filter.kind = Some(Kind::Status))),
        by(filter(|filter| filter.r#ref = Some("wamid.😀".into()))),
        by(filter(|filter| filter.thread = Some("+919876543210".into()))),
        by(filter(|filter| filter.to = Some("\0".into()))),
        person("+919876543210"),
        person("US.1234"),
        person("a thread"),
        person("C02;7'\"\\"),
        person("nobody"),
        person("\0"),
        until("1969-12-31T23:59:59.001Z"),
        until("1969-12-31T23:59:59.001000001Z"),
        until("2026-01-02T03:04:05.678Z"),
        until("2026-01-02T03:04:05.679Z"),
        Erasure::new(
            filter(|filter| filter.source = Some("x".into())),
            Some("US.1234".into()),
            Some(at("2030-01-01T00:00:00Z")),
        )
        .unwrap(),
    ];
    let mut events: Vec<Event> = Kind::ALL.iter().map(|&(kind, word)| full("shop", word, kind)).collect();
    events.extend(Kind::ALL.iter().map(|&(kind, word)| full("x", word, kind)));
    events.extend(["a", "b"].map(plain));
    let mut of_before = plain("received at no known time");
    of_before.received_at = None;
    events.push(of_before);
    for erasure in erasures {
        let database = Database::new();
        let service = state::open(&database);
        service.insert(&events).unwrap();
        settle(&service);
        let selected = events.iter().filter(|event| erasure.selects(event)).count() as u64;
        assert_eq!(count(&service, &erasure), selected, "{erasure:?}");
        assert_eq!(erase(&service, &erasure), selected, "{erasure:?}");
        let left: Vec<_> = events.iter().filter(|event| !erasure.selects(event)).cloned().collect();
        assert_eq!(super::events::logged(&service), left, "{erasure:?}");
        assert_eq!(super::events::check_of(&database), [], "{erasure:?}");
        let again = service.insert(&events).unwrap();
        for (event, outcome) in events.iter().zip(again) {
            let expected = if erasure.selects(event) { Outcome::Erased } else { Outcome::Duplicate };
            assert_eq!(outcome, expected, "{erasure:?} {:?} {:?}", event.source, event.key);
        }
        let keys: Vec<_> = events.iter().map(|event| (event.source.clone(), event.key.clone())).collect();
        let expected: Vec<_> = events.iter().map(|event| erasure.selects(event)).collect();
        assert_eq!(service.erased(&keys).unwrap(), expected);
    }
}

/// Once in a batch of plain messages and once in a batch of others, which two functions store.
#[test]
fn what_was_erased_is_acknowledged_and_not_stored_by_any_process() {
    let database = Database::new();
    let (service, other) = (state::open(&database), state::open(&database));
    store(&service, 0..30);
    let shop = full("shop", "é", Kind::Message);
    assert!(matches!(other.insert(std::slice::from_ref(&shop)).unwrap()[..], [Outcome::Created { .. }]));
    assert_eq!(erase(&other, &from("+1")), 10);
    assert_eq!(erase(&service, &from("Émile, the sender")), 1);
    let again: Vec<Message> = [3, 4, 3, 0, 40].map(made).to_vec();
    for (service, is_new) in [(&service, true), (&other, false)] {
        let outcomes = service.insert_messages(&again).unwrap();
        assert_eq!([outcomes[0], outcomes[2], outcomes[3]], [Outcome::Erased; 3]);
        assert_eq!(outcomes[1], Outcome::Duplicate);
        assert_eq!(matches!(outcomes[4], Outcome::Created { .. }), is_new);
        let mixed = [shop.clone(), Event::of_message(made(6), None, None), full("x", "é", Kind::Message)];
        let outcomes = service.insert(&mixed).unwrap();
        assert_eq!(outcomes[..2], [Outcome::Erased; 2]);
        assert_eq!(matches!(outcomes[2], Outcome::Created { .. }), is_new);
    }
    assert_eq!(database.number("SELECT count(*) FROM message WHERE source = 'shop'"), 0);
}

/// The batch finds the event under way to be deleted, waits for what becomes of it, and sees the tombstone only then.
#[test]
fn a_retry_that_waits_for_an_erasure_is_not_stored_after_it() {
    for (ends_well, expected) in [(true, Outcome::Erased), (false, Outcome::Duplicate)] {
        let database = Database::new();
        let service = state::open(&database);
        store(&service, 0..10);
        // So that there is a row in `erasure` to hold a step up by, after it has deleted its events.
        assert_eq!(erase(&service, &from("+2")), 3);
        let holder = database.session();
        holder.run("BEGIN; SELECT * FROM erasure FOR UPDATE");
        std::thread::scope(|scope| {
            let step = scope.spawn(|| service.erase(&from("+1"), 0));
            eventually("the step has deleted its events", || {
                let held_up = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                               AND query LIKE 'UPDATE erasure%' AND wait_event_type = 'Lock'";
                (database.number(held_up) == 1).then_some(())
            });
            let retry = scope.spawn(|| service.insert_messages(&[made(0), made(5)]));
            eventually("the retry waits for it", || {
                let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                             AND query LIKE 'SELECT event_add_messages%' AND wait_event_type = 'Lock'";
                (database.number(waits) == 1).then_some(())
            });
            if !ends_well {
                let end = "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                           WHERE datname = current_database() AND query LIKE 'UPDATE erasure%') AS ended";
                assert_eq!(database.number(end), 1);
            }
            holder.run("COMMIT");
            assert_eq!(step.join().unwrap().is_ok(), ends_well);
            assert_eq!(retry.join().unwrap().unwrap(), [expected, Outcome::Duplicate]);
        });
        let left: Numbers = (0..10).filter(|n| n % 3 == 2 || !ends_well && n % 3 == 0).collect();
        assert_right(&service, &database, &left);
    }
}

/// The setting by which Lyftr tells the trigger of its erasure means nothing in another transaction.
#[test]
fn a_manual_change_is_noticed_whatever_setting_was_left_behind() {
    let database = Database::new();
    let service = state::open(&database);
    store(&service, 0..30);
    settle(&service);
    assert_eq!(erase(&service, &from("+1")), 10);
    let session = database.session();
    session.run("SELECT set_config('lyftr.erasing', pg_current_xact_id()::text, false)");
    session.run("DELETE FROM message WHERE message_id = 'm1'");
    assert_eq!(database.number("SELECT last_value FROM event_change"), 2);
    assert_right(&service, &database, &(2..30).filter(|n| n % 3 != 0).collect());
    // Others than deletions are none of an erasure's.
    session.run(
        "BEGIN; SELECT set_config('lyftr.erasing', pg_current_xact_id()::text, true);
                 UPDATE event SET sender = '+1' WHERE key = 'm4'; COMMIT",
    );
    assert_eq!(database.number("SELECT last_value FROM event_change"), 3);
}

/// A step that meets void derived data, or derived data that is being made anew, leaves it to whoever makes it.
#[test]
fn an_erasure_while_derived_data_is_made_anew_is_in_what_is_made() {
    let database = Database::new();
    let service = state::open(&database);
    store(&service, 0..90);
    settle(&service);
    for (sender, gone) in [("+1", 1), ("+2", 4)] {
        let session = database.session();
        session.run(&format!("BEGIN; DELETE FROM message WHERE message_id = 'm{}'", gone + 1));
        erase(&service, &from(sender));
        session.run("COMMIT");
        erase(&service, &from(sender));
    }
    let left: Numbers = (0..90).filter(|n| n % 3 == 2 && ![2, 5].contains(n)).collect();
    assert_answers(&service, &left);
    assert_right(&service, &database, &left);
}

/// Writers, erasers, readers, and the thread that derives in two processes, all at once.
#[test]
fn totals_are_exact_after_erasures_by_several_processes_under_load() {
    const WRITERS: u32 = 2;
    const ERASERS: u32 = 2;
    const EACH: u32 = 400;
    let database = Database::new();
    let services = [state::open(&database), state::open(&database)];
    let done = AtomicU32::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (services, done) = (&services, &done);
            scope.spawn(move || {
                for n in (0..EACH).step_by(8) {
                    let batch: Vec<Message> = (n..n + 8).map(|n| made(writer * EACH + n)).collect();
                    services[writer as usize % 2].insert_messages(&batch).unwrap();
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        for eraser in 0..ERASERS {
            let (services, done) = (&services, &done);
            scope.spawn(move || {
                let service = &services[eraser as usize % 2];
                while done.load(Ordering::SeqCst) < WRITERS {
                    erase(service, &from("+1"));
                }
                erase(service, &from("+1"));
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        let (services, is_over) = (&services, &is_over);
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                let page = Page { limit: 1_000, ..Page::default() };
                let listing = services[0].list(&Filter::default(), &page).unwrap();
                assert_eq!(listing.data.len() as u64, listing.total);
                let stats = services[1].stats().unwrap();
                let counted: u64 = stats.messages_per_sender.iter().map(|sender| sender.count).sum();
                assert_eq!(counted, stats.total_messages);
            }
        });
        eventually("writers and erasers are done", || {
            (done.load(Ordering::SeqCst) == WRITERS + ERASERS).then_some(())
        });
        is_over.store(true, Ordering::SeqCst);
    });
    let left: Numbers = (0..WRITERS * EACH).filter(|n| n % 3 != 0).collect();
    for service in &services {
        assert_right(service, &database, &left);
    }
    assert_eq!(database.number(MADE_ANEW), 0);
    assert_eq!(database.number("SELECT count(*) FROM erased"), i64::from(WRITERS * EACH) - rows(&left));
}

#[test]
fn the_position_of_an_erased_event_stays_a_place_in_the_log() {
    let database = Database::new();
    let service = state::open(&database);
    store(&service, 0..12);
    let recorded = all(&service, Start::Beginning, 100, &everything());
    let (first, second) = (recorded[0].position, recorded[1].position);
    let name = CursorName::new("follower").unwrap();
    let mut to = Move { name: name.clone(), to: first, expected: None, at: at("2026-01-01T00:00:00Z") };
    assert!(matches!(service.move_cursor(&to).unwrap(), Moved::Done(_)));
    let read = |start| {
        let read = LogRead { start, filter: everything(), limit: 100 };
        service.read_log(&read, &mut |_| true).unwrap()
    };
    let before = read(Start::Beginning).unwrap().erasures;
    assert_eq!(erase(&service, &from("+1")), 4);
    assert_ne!(read(Start::Beginning).unwrap().erasures, before);
    assert_eq!(service.event_at(first).unwrap(), None);
    let left: Vec<_> = recorded.iter().filter(|one| !number_of(one).is_multiple_of(3)).cloned().collect();
    assert_eq!(all(&service, Start::After(first), 3, &everything()), left);
    assert_eq!(all(&service, Start::Before(first), 3, &everything()), []);
    // It is one position, not any of this number.
    let forged = lyftr::event::Position { tag: first.tag ^ 1, ..first };
    assert_eq!(read(Start::After(forged)), None);
    (to.expected, to.to) = (Some(first), first);
    assert!(matches!(service.move_cursor(&to).unwrap(), Moved::Done(_)));
    to.to = second;
    assert!(matches!(service.move_cursor(&to).unwrap(), Moved::Done(_)));
    // Everything is gone, and a follower still has its place.
    assert_eq!(erase(&service, &Erasure::received_before(at("2999-01-01T00:00:00Z"))), 8);
    assert_eq!(read(Start::After(second)).unwrap().next, Some(second));
    store(&service, 20..21);
    assert_eq!(all(&service, Start::After(second), 3, &everything()).len(), 1);
}

fn number_of(recorded: &lyftr::event::Recorded) -> u32 {
    number(&recorded.arrived.event.message().unwrap())
}

#[test]
fn tombstones_go_into_another_store_unless_it_has_others_under_another_key() {
    let (one, two) = (Database::new(), Database::new());
    let (from_store, to_store) = (state::open(&one), state::open(&two));
    assert_eq!(from_store.tombstones(None, 10).unwrap(), None);
    store(&from_store, 0..30);
    erase(&from_store, &from("+1"));
    let (mut after, mut seen) = (None, BTreeSet::new());
    loop {
        let some = from_store.tombstones(after.as_ref(), 3).unwrap().unwrap();
        assert!(some.hashes.is_sorted() && some.hashes.len() <= 3);
        let Some(last) = some.hashes.last() else { break };
        after = Some(*last);
        seen.extend(some.hashes.iter().copied());
        for _ in 0..2 {
            assert!(to_store.adopt_tombstones(&some).unwrap());
        }
    }
    assert_eq!(seen.len(), 10);
    let outcomes = to_store.insert_messages(&[made(0), made(1)]).unwrap();
    assert!(matches!(outcomes[..], [Outcome::Erased, Outcome::Created { .. }]), "{outcomes:?}");
    // Once more, now erased in both.
    erase(&to_store, &from("+2"));
    assert_eq!(to_store.tombstones(None, 100).unwrap().unwrap().hashes.len(), 11);
    let three = Database::new();
    let other = state::open(&three);
    store(&other, 3..4);
    erase(&other, &from("+1"));
    let all = from_store.tombstones(None, 100).unwrap().unwrap();
    assert!(!other.adopt_tombstones(&all).unwrap());
    assert_eq!(other.erased(&[(source("webhook"), name("m0"))]).unwrap(), [false]);
}

#[test]
fn one_process_at_a_time_is_the_keeper() {
    let database = Database::new();
    let (service, other) = (state::open(&database), state::open(&database));
    let keepers = || [service.is_keeper().unwrap(), other.is_keeper().unwrap()];
    assert_eq!(keepers(), [true, false]);
    assert_eq!(keepers(), [true, false]);
    // As when it is gone.
    database.query("UPDATE keeper SET until = now() - interval '1 second'", &[]);
    assert!(other.is_keeper().unwrap());
    assert_eq!(keepers(), [false, true]);
}

/// Wherever the server is killed, each step was carried out or was not.
#[test]
fn an_erasure_goes_on_after_the_server_was_killed_in_the_middle() {
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    let tuning = Tuning { index_pause: Duration::from_millis(20), few: 0, ..Tuning::default() };
    let service = Postgres::open(&address(&database.url()), tuning).unwrap();
    let batch: Vec<Message> = (0..3_000).map(made).collect();
    service.insert_messages(&batch).unwrap();
    settle(&service);
    let mut stops = fastrand::Rng::with_seed(17);
    for round in 0..4 {
        let sender = format!("+{}", round % 3 + 1);
        std::thread::scope(|scope| {
            let eraser = scope.spawn(|| {
                let mut after = 0;
                while let Ok(step) = service.erase(&from(&sender), after) {
                    let Some(next) = step.next else { break };
                    after = next;
                }
            });
            std::thread::sleep(Duration::from_millis(stops.u64(0..30)));
            cluster.kill9();
            eraser.join().unwrap();
        });
        cluster.run();
        eventually("it is well again", || service.ready().ok());
        erase(&service, &from(&sender));
        if round == 1 {
            let left: Numbers = (0..3_000).filter(|n| n % 3 == 2).collect();
            let page = Page { limit: 1, ..Page::default() };
            assert_eq!(service.list(&Filter::default(), &page).unwrap().total, left.len() as u64);
            let refused = service.insert_messages(&batch).unwrap();
            assert_eq!(refused.iter().filter(|outcome| **outcome == Outcome::Erased).count(), 2_000);
        }
    }
    assert_right(&service, &database, &Numbers::new());
    assert_eq!(database.number(MADE_ANEW), 0);
}

/// What is erased while a backup is made is not in it, whether it was read before or not; and does not come back from it.
#[test]
fn a_backup_has_the_tombstones_and_nothing_that_was_erased_before_its_end() {
    let database = Database::new();
    let service = state::open(&database);
    let batch: Vec<Message> = (0..5_000).map(made).collect();
    service.insert_messages(&batch).unwrap();
    erase(&service, &from("+1"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    let url = database.url().parse().unwrap();
    let mut is_erased = false;
    let done = backup::backup(&url, Settings::default(), &file, |progress| {
        // The first 2,000 events are in it by then.
        if progress.done > 0 && !std::mem::replace(&mut is_erased, true) {
            assert_eq!(erase(&service, &from("+2")), 1_667);
        }
        true
    });
    assert_eq!(done.unwrap().events, 1_666);
    let restored = open_store(&sqlite_url(&file));
    let keys: Vec<_> = batch.iter().map(|one| (source("webhook"), one.message_id.clone())).collect();
    assert_eq!(restored.find(&keys).unwrap().len(), 1_666);
    let outcomes = restored.insert_messages(&batch[..6]).unwrap();
    assert_eq!(outcomes[..3], [Outcome::Erased, Outcome::Erased, Outcome::Duplicate]);
    let text = "The text 1 of 1";
    let bytes = std::fs::read(&file).unwrap();
    assert!(
        !bytes.windows(text.len()).any(|window| window == text.as_bytes()),
        "its text is left in the file"
    );
    restored.close();
}

#[test]
fn a_role_that_may_remove_nothing_erases_nothing_until_it_may() {
    let database = Database::new();
    let owner = state::open(&database);
    store(&owner, 0..9);
    settle(&owner);
    erase(&owner, &from("+1"));
    owner.close();
    let role = format!("{}_service", database.name());
    let session = database.session();
    session.run(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT ON event TO {role};
         GRANT SELECT ON message, log, event_change, lyftr_schema, erasure, erased TO {role};
         GRANT SELECT, USAGE, UPDATE ON SEQUENCE event_batch TO {role}; GRANT SELECT, UPDATE ON derived TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON
             cursor, sender_total, recipient_total, day_total, minute_total, message_text TO {role}"
    ));
    let url = database.url().replacen("postgres@", &format!("{role}@"), 1);
    let service = Postgres::open(&address(&url), Tuning { few: 0, ..Tuning::default() }).unwrap();
    assert_eq!(service.insert_messages(&[made(0), made(1)]).unwrap(), [Outcome::Erased, Outcome::Duplicate]);
    assert_eq!(count(&service, &from("+2")), 3);
    let refused = service.erase(&from("+2"), 0).unwrap_err();
    assert_eq!(refused.public(), "the database user lacks a privilege");
    session.run(&format!(
        "GRANT DELETE ON event TO {role}; GRANT INSERT, UPDATE ON erasure, erased TO {role};
         GRANT SELECT, INSERT, UPDATE ON keeper TO {role}"
    ));
    assert_eq!(erase(&service, &from("+2")), 3);
    assert!(service.is_keeper().unwrap());
    assert_right(&service, &database, &numbers([2, 5, 8]));
    service.close();
    drop(service);
    session.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
