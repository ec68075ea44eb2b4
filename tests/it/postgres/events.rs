//! Events of every source and kind: what comes back of them, where they lie, and which reads they are in.

use std::collections::BTreeSet;

use lyftr::event::{Data, Event, Kind, LogFilter, LogRead, Source, Start};
use lyftr::message::{Message, Name, Timestamp};
use lyftr::query::{Filter, Page, Search};
use lyftr::store::check::{self, Report as Told};
use lyftr::store::postgres::{Postgres, Tuning};
use lyftr::store::{Outcome, Settings, Store};

use super::{address, message, open};
use crate::support::postgres::Database;
use crate::support::{Fate, Messages as _, eventually, fates, settle};

pub(super) fn name(name: &str) -> Name {
    Name::new(name).unwrap()
}

pub(super) fn source(name: &str) -> Source {
    Source::new(name).unwrap()
}

pub(super) fn at(ts: &str) -> Timestamp {
    Timestamp::parse(ts).unwrap()
}

/// A message of the built-in source as an event, received at some time.
pub(super) fn plain(id: &str) -> Event {
    Event::of_message(message(id), Some(at("2026-01-02T03:04:05.678Z")), None)
}

/// An event of another source, with something in every column.
pub(super) fn full(of: &str, key: &str, kind: Kind) -> Event {
    Event {
        source: source(of),
        key: name(key),
        kind,
        r#type: Some(name("imäge")),
        from: Some(name("Émile, the sender")),
        to: Some(name("C02;7'\"\\")),
        user_id: Some(name("US.1234")),
        thread: Some(name("a thread")),
        r#ref: Some(name("wamid.😀")),
        account: Some(name("106540352242922")),
        ts: Some(at("1969-12-31T23:59:59.50Z")),
        received_at: Some(at("1969-12-31T23:59:59.001Z")),
        text: Some("Grüße, 100 %".into()),
        data: Some(Data::from_json("{\"n\": 1e400,\n\"x\":\"\\u0000\"}")),
    }
}

pub(super) fn check_of(database: &Database) -> Vec<Told> {
    let mut told = Vec::new();
    check::check(&database.url().parse().unwrap(), Settings::default(), &mut |event| told.push(event))
        .unwrap();
    told.retain(|event| !matches!(event, Told::Part(_)));
    told
}

/// All events in the order of arrival.
pub(super) fn logged(store: &Postgres) -> Vec<Event> {
    store.arrived(0, 10_000).unwrap().into_iter().map(|arrived| arrived.event).collect()
}

#[test]
fn every_column_of_an_event_comes_back() {
    let database = Database::new();
    let store = open(&database);
    let mut bare = full("shop", "bare", Kind::Malformed);
    (bare.r#type, bare.from, bare.to, bare.user_id, bare.thread) = (None, None, None, None, None);
    (bare.r#ref, bare.account, bare.ts, bare.text, bare.data) = (None, None, None, None, None);
    let mut other_members = plain("other members");
    other_members.data = Some(Data::from_json("{\"message_id\":\"other members\",\"x\":1}"));
    let mut events: Vec<Event> = Kind::ALL.iter().map(|&(kind, word)| full("shop", word, kind)).collect();
    events.extend([bare, other_members, plain("plain")]);
    let mut of_before = plain("received at no known time");
    of_before.received_at = None;
    events.push(of_before);
    let outcomes = store.insert(&events).unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Created { .. })), "{outcomes:?}");
    assert_eq!(logged(&store), events);
    let keys: Vec<_> = events.iter().map(|event| (event.source.clone(), event.key.clone())).collect();
    let mut found = store.find(&keys).unwrap();
    found.sort_by_key(|event| keys.iter().position(|(_, key)| *key == event.key));
    assert_eq!(found, events);
    // What is implied is not stored.
    let stored = "SELECT count(*) FROM event WHERE source = '' AND (type IS NOT NULL OR thread IS NOT NULL)";
    assert_eq!(database.number(stored), 0);
    settle(&store);
    assert_eq!(check_of(&database), []);
}

#[test]
fn the_same_key_in_two_sources_is_two_events_and_the_first_of_each_stays() {
    let database = Database::new();
    let store = open(&database);
    let (one, other) = (full("shop", "k", Kind::Message), full("shop-2", "k", Kind::Message));
    let built_in = plain("k");
    let mut conflict = one.clone();
    conflict.text = Some("another text".into());
    let mut again = other.clone();
    (again.received_at, again.data, again.account) = (Some(at("2027-01-01T00:00:00.000Z")), None, None);
    let batch = [one.clone(), built_in.clone(), other.clone(), conflict.clone(), again.clone()];
    let expected = [Fate::Created, Fate::Created, Fate::Created, Fate::Conflict, Fate::Duplicate];
    assert_eq!(fates(&store.insert(&batch).unwrap()), expected);
    let retried = store.insert(&[conflict, again, built_in.clone()]).unwrap();
    assert_eq!(fates(&retried), [Fate::Conflict, Fate::Duplicate, Fate::Duplicate]);
    assert_eq!(logged(&store), [one, built_in, other]);
}

#[test]
fn the_events_of_a_batch_keep_their_order_in_arrival_numbers_that_hold_their_buckets() {
    let database = Database::new();
    let store = open(&database);
    let events: Vec<Event> = (0..300)
        .map(|n| {
            let key = format!("{}", n * 7919 % 300);
            if n % 3 == 0 { full("shop", &key, Kind::Status) } else { plain(&key) }
        })
        .collect();
    for batch in [&events[..1], &events[1..200], &events[200..]] {
        let outcomes = store.insert(batch).unwrap();
        let seqs: Vec<i64> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Created { seq } => *seq,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(seqs.is_sorted_by(|one, other| one < other), "{seqs:?}");
    }
    assert_eq!(logged(&store), events);
    assert_eq!(database.number("SELECT count(*) FROM event WHERE seq & 63 <> bucket"), 0);
    assert_eq!(database.number("SELECT count(DISTINCT bucket) FROM event"), 64);
    let hashed = "SELECT count(*) FROM event WHERE bucket <>
        get_byte(sha256(convert_to(source || E'\\x1f' || key, 'UTF8')), 0) & 63";
    assert_eq!(database.number(hashed), 0);
}

/// A message of another source, by its text's place in the alphabet.
pub(super) fn spoken(of: &str, key: &str, from: Option<&str>, to: Option<&str>, text: &str) -> Event {
    let mut event = full(of, key, Kind::Message);
    (event.from, event.to, event.text) = (from.map(name), to.map(name), Some(text.into()));
    event
}

#[test]
fn senders_and_recipients_may_be_any_names_or_none() {
    let database = Database::new();
    let index_pause = std::time::Duration::from_millis(20);
    let tuning = Tuning { index_pause, few: 0, ..Tuning::default() };
    let store = Postgres::open(&address(&database.url()), tuning).unwrap();
    let events = [
        spoken("shop", "1", Some("Émile"), Some("#general"), "one text"),
        spoken("shop", "2", Some("Émile"), None, "another text"),
        spoken("shop", "3", None, Some("#general"), "a third text"),
        spoken("shop", "4", None, None, "nobody's text"),
        spoken("shop", "5", Some("+1"), Some("+2"), "of a number"),
        spoken("shop", "6", Some("U0'%_\\"), Some("U1"), "of a user"),
    ];
    store.insert(&events).unwrap();
    let assert_right = || {
        let total = |filter: Filter| {
            let listing = store.list(&filter, &Page::default()).unwrap();
            assert_eq!(listing.data.len() as u64, listing.total);
            listing.total
        };
        let stats = store.stats().unwrap();
        assert_eq!((stats.total_messages, stats.senders_count), (6, 3));
        let top: Vec<_> =
            stats.messages_per_sender.iter().map(|one| (one.from.as_str(), one.count)).collect();
        assert_eq!(top, [("Émile", 2), ("+1", 1), ("U0'%_\\", 1)]);
        let from = |from: &str| Filter { from: Some(from.to_owned()), ..Filter::default() };
        assert_eq!([total(from("Émile")), total(from("U0'%_\\")), total(from("nobody"))], [2, 1, 0]);
        assert_eq!(total(Filter { to: Some("#general".to_owned()), ..Filter::default() }), 2);
        assert_eq!(total(Filter { search: Some(Search::new("TEXT")), ..Filter::default() }), 4);
        let both = Filter { search: Some(Search::new("text")), ..from("Émile") };
        assert_eq!(total(both), 2);
        assert_eq!(total(Filter::default()), 6);
    };
    assert_right();
    settle(&store);
    eventually("the texts are derived", || {
        (database.number("SELECT count(*) FROM message_text") == 6).then_some(())
    });
    assert_right();
    assert_eq!(check_of(&database), []);
}

#[test]
fn events_that_are_no_messages_are_neither_counted_nor_listed_nor_searched() {
    let database = Database::new();
    let index_pause = std::time::Duration::from_millis(20);
    let tuning = Tuning { index_pause, few: 0, aggregates_batch: 16, texts_batch: 8, ..Tuning::default() };
    let store = Postgres::open(&address(&database.url()), tuning).unwrap();
    let messages: Vec<Message> = (0..5).map(|n| message(&format!("m{n}"))).collect();
    let others: Vec<Event> = (0..90)
        .map(|n| {
            let (kind, _) = Kind::ALL[1 + n % (Kind::ALL.len() - 1)];
            let mut event = full("shop", &format!("{n}"), kind);
            if n % 2 == 0 {
                event.ts = None;
            }
            event
        })
        .collect();
    let assert_right = || {
        let all = store.list(&Filter::default(), &Page::default()).unwrap();
        assert_eq!((all.data.as_slice(), all.total), (messages.as_slice(), 5));
        let stats = store.stats().unwrap();
        assert_eq!((stats.total_messages, stats.senders_count), (5, 1));
        assert_eq!(stats.first_message_ts, Some(messages[0].ts));
        for filter in [
            Filter { search: Some(Search::new("100 %")), ..Filter::default() },
            Filter { from: Some("Émile, the sender".to_owned()), ..Filter::default() },
            Filter { source: Some("shop".to_owned()), ..Filter::default() },
            Filter { id: Some("7".to_owned()), ..Filter::default() },
            Filter { until: Some(at("2000-01-01T00:00:00Z")), ..Filter::default() },
        ] {
            assert_eq!(store.list(&filter, &Page::default()).unwrap().total, 0, "{filter:?}");
        }
        let volume = store.volume(&Filter::default(), 60).unwrap().unwrap();
        assert_eq!(volume.steps, [(1_736_935_200, 5)]);
    };
    store.insert(&others[..40]).unwrap();
    store.insert_messages(&messages).unwrap();
    store.insert(&others[40..]).unwrap();
    assert_right();
    settle(&store);
    // The watermarks pass them: else each read would look at all of them again and again.
    eventually("all is derived", || {
        let passed = "SELECT count(*) FROM derived WHERE least(figures_upto, texts_upto) = (SELECT max(seq) FROM event)";
        (database.number(passed) == 1).then_some(())
    });
    assert_right();
    assert_eq!(check_of(&database), []);
    assert_eq!(logged(&store).len(), 95);
}

#[test]
fn events_that_are_added_or_renamed_manually_lie_in_their_buckets() {
    let database = Database::new();
    let store = open(&database);
    store.insert(&[plain("first")]).unwrap();
    let session = database.session();
    session.run(
        "INSERT INTO event (source, key, kind, ts_second, ts_nanosecond, ts_digits) VALUES
             ('', 'a', 0, 0, 0, 0), ('webhook', 'b', 0, 0, 0, 0), ('shop', 'a', 9, NULL, NULL, NULL);
         INSERT INTO event (bucket, seq, source, key, kind) VALUES (7, 5, 'shop', 'b', 1);
         INSERT INTO message (message_id, sender, ts_second, ts_nanosecond, ts_digits, text) VALUES ('c', '+1', 0, 0, 0, 'x')",
    );
    // A message without a time would be in no listing.
    assert!(session.try_run("INSERT INTO event (source, key) VALUES ('', 'd')").is_err());
    let keys: Vec<String> = logged(&store)
        .iter()
        .map(|event| format!("{} {} {}", event.source.as_str(), event.key.as_str(), event.kind))
        .collect();
    assert_eq!(
        keys,
        [
            "webhook first message",
            "webhook a message",
            "webhook b message",
            "shop a event",
            "shop b status",
            "webhook c message"
        ]
    );
    // Each is there once, also for who sends it.
    let outcomes = store.insert(&[full("shop", "b", Kind::Status), plain("b"), plain("a")]).unwrap();
    assert_eq!(fates(&outcomes), [Fate::Conflict; 3]);
    session.run(
        "UPDATE event SET key = 'renamed' WHERE source = 'shop' AND key = 'a';
         UPDATE event SET bucket = 1 - bucket % 2 WHERE source = '';
         UPDATE message SET message_id = 'C' WHERE message_id = 'c'",
    );
    let found = store.find(&[(source("shop"), name("renamed")), (Source::WEBHOOK, name("C"))]).unwrap();
    assert_eq!(found.len(), 2);
    settle(&store);
    eventually("what the change has voided is made anew", || check_of(&database).is_empty().then_some(()));
}

#[test]
fn an_event_in_another_bucket_or_of_an_unknown_kind_is_found_by_the_check() {
    let database = Database::new();
    let store = open(&database);
    store.insert(&[plain("a"), plain("b"), full("shop", "c", Kind::Call)]).unwrap();
    settle(&store);
    store.close();
    let session = database.session();
    session.run(
        "ALTER TABLE event DISABLE TRIGGER USER;
         UPDATE event SET bucket = 63 - bucket WHERE key = 'a';
         UPDATE event SET kind = 77 WHERE key = 'c';
         ALTER TABLE event ENABLE TRIGGER USER;
         ALTER TABLE event ENABLE ALWAYS TRIGGER event_was_added, ENABLE ALWAYS TRIGGER event_was_renamed,
             ENABLE ALWAYS TRIGGER event_was_touched, ENABLE REPLICA TRIGGER event_was_changed,
             ENABLE REPLICA TRIGGER event_was_replicated",
    );
    let told: BTreeSet<String> = check_of(&database)
        .into_iter()
        .map(|told| match told {
            Told::Problem(problem) => problem,
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        "event: rows in another bucket than that of their source and key: expected 0, found 1",
        "event: rows with an invalid key, name or time: expected 0, found 1",
        "message_text: missing texts: expected 0, found 1",
        "message_text: texts without a message: expected 0, found 1",
    ];
    assert_eq!(told.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// A page of the log is bounded by the size of its events too, so that the largest ones are not all in memory at once.
#[test]
fn large_events_are_read_in_portions() {
    let database = Database::new();
    let store = open(&database);
    let events: Vec<Event> = (0..12)
        .map(|n| {
            let mut event = full("shop", &format!("{n}"), Kind::Event);
            event.data = Some(Data::from_json(format!("\"{}\"", "x".repeat(1_500_000 * (n % 3)))));
            event
        })
        .collect();
    for batch in events.chunks(3) {
        store.insert(batch).unwrap();
    }
    let mut after = 0;
    let mut found = Vec::new();
    loop {
        let portion = store.arrived(after, 2_000).unwrap();
        let Some(last) = portion.last() else { break };
        after = last.seq;
        let bytes: usize = portion.iter().map(|arrived| arrived.event.bytes()).sum();
        assert!(bytes < 8 << 20, "{bytes}");
        found.extend(portion.into_iter().map(|arrived| arrived.event));
    }
    assert_eq!(found, events);
    let mut seen = Vec::new();
    let read = LogRead { start: Start::Beginning, filter: LogFilter::default(), limit: 1_000 };
    let reached = store
        .read_log(&read, &mut |recorded| {
            seen.push(recorded.arrived.event);
            seen.len() < 9
        })
        .unwrap()
        .unwrap();
    assert_eq!((seen.as_slice(), reached.end), (&events[..9], false));
}
