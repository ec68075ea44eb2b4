//! What is stored of an event, and under which name.

use lyftr::event::{Data, Event, Kind, Source};
use lyftr::store::{Outcome, copy};

use super::{Place, all, bare, engines, event, name, ts};
use crate::support::{Fate, fates, message, parsed};

engines! { sqlite: (
    an_event_comes_back_as_it_was_stored
    the_built_in_source_has_the_fields_that_follow_from_others
    one_key_of_two_sources_is_two_events
    what_makes_a_conflict_is_what_was_said
    a_copy_takes_over_every_field
) }

/// Each field absent in one of them, and extreme in another.
fn varied() -> Vec<Event> {
    let mut events = vec![event("shop", "whole")];
    for (number, (kind, word)) in Kind::ALL.into_iter().enumerate() {
        let mut bare = bare("shop", &format!("{word} {number}"), kind);
        // Every message has a time.
        bare.ts = (kind == Kind::Message).then(|| ts("0000-01-01T00:00:00Z"));
        events.push(bare);
    }
    let absent: [fn(&mut Event); 9] = [
        |event| event.r#type = None,
        |event| event.from = None,
        |event| event.to = None,
        |event| event.user_id = None,
        |event| event.thread = None,
        |event| event.r#ref = None,
        |event| event.account = None,
        |event| event.text = None,
        |event| event.data = None,
    ];
    for (number, take_away) in absent.into_iter().enumerate() {
        let mut one = event("a-2", &format!("without {number}"));
        take_away(&mut one);
        events.push(one);
    }
    let longest = "😀".repeat(255);
    let mut long = event(&"z".repeat(40), &longest);
    for field in [&mut long.r#type, &mut long.from, &mut long.to, &mut long.user_id, &mut long.thread] {
        *field = Some(name(&longest));
    }
    long.received_at = Some(ts("9999-12-31T23:59:59.999Z"));
    long.text = Some("😀".repeat(4096).into());
    long.data = Some(Data::from_json(format!("[\"{}\"]", "x".repeat(4 << 20))));
    events.push(long);
    let mut early = event("shop", " ");
    early.received_at = Some(ts("1969-12-31T23:59:59.999Z"));
    early.text = Some("".into());
    early.data = Some(Data::from_json("null"));
    events.push(early);
    events
}

fn an_event_comes_back_as_it_was_stored(place: &Place) {
    let store = place.open();
    let sent = varied();
    assert_eq!(fates(&store.insert(&sent).unwrap()), vec![Fate::Created; sent.len()]);
    assert_eq!(fates(&store.insert(&sent).unwrap()), vec![Fate::Duplicate; sent.len()]);
    let log = all(store.as_ref());
    assert!(log.iter().map(|recorded| &recorded.arrived.event).eq(&sent));
    let arrived = store.arrived(0, 1_000).unwrap();
    assert!(arrived.iter().eq(log.iter().map(|recorded| &recorded.arrived)));
    for recorded in &log {
        assert_eq!(store.event_at(recorded.position).unwrap().as_ref(), Some(recorded));
    }
    let keys: Vec<_> = sent.iter().map(|event| (event.source.clone(), event.key.clone())).collect();
    let mut found = store.find(&keys).unwrap();
    let place =
        |event: &Event| keys.iter().position(|(source, key)| *source == event.source && *key == event.key);
    found.sort_by_key(place);
    assert!(found == sent);
}

fn the_built_in_source_has_the_fields_that_follow_from_others(place: &Place) {
    let store = place.open();
    let data = Data::from_json("{ \"message_id\" : \"m1\", \"more\": [1.0] }");
    let with_text =
        Event::of_message(parsed(&message("m1")), Some(ts("2025-01-15T10:00:01.234Z")), Some(data));
    let mut silent = parsed(&message("m2"));
    silent.text = None;
    let without_text = Event::of_message(silent, None, None);
    store.insert(&[with_text.clone(), without_text.clone()]).unwrap();
    let log = all(store.as_ref());
    assert_eq!([&log[0].arrived.event, &log[1].arrived.event], [&with_text, &without_text]);
    assert_eq!(with_text.r#type, Some(name("text")));
    assert_eq!(without_text.r#type, None);
    assert_eq!((&with_text.thread, &without_text.thread), (&with_text.from, &without_text.from));
}

fn one_key_of_two_sources_is_two_events(place: &Place) {
    let store = place.open();
    let sources = ["webhook", "shop", "shop-2", "sho", "a"];
    let same: Vec<_> = sources.map(|source| event(source, "m1")).into();
    assert_eq!(fates(&store.insert(&same).unwrap()), [Fate::Created; 5]);
    // What lies between two names of sources is no part of a key.
    let similar = [event("shop", "-2 m1"), event("webhook", "shop m1"), event("shop", "webhook")];
    assert_eq!(fates(&store.insert(&similar).unwrap()), [Fate::Created; 3]);
    let find = |source: &str| store.find(&[(Source::new(source).unwrap(), name("m1"))]).unwrap();
    for (source, sent) in sources.iter().zip(&same) {
        assert_eq!(find(source), std::slice::from_ref(sent));
    }
    assert_eq!(find("shop-3"), []);
}

type Change = fn(&mut Event);

fn what_makes_a_conflict_is_what_was_said(place: &Place) {
    let store = place.open();
    let first = event("shop", "m1");
    let mut empty = bare("shop", "m2", Kind::Status);
    store.insert(&[first.clone(), empty.clone()]).unwrap();
    let outcome = |changed: &Event| store.insert(std::slice::from_ref(changed)).unwrap()[0];
    let ways: [(Change, Outcome); 12] = [
        (|event| event.kind = Kind::Edit, Outcome::Conflict),
        (|event| event.from = Some(name("other")), Outcome::Conflict),
        (|event| event.from = None, Outcome::Conflict),
        (|event| event.to = None, Outcome::Conflict),
        // Of a configured source it may be that of the attempt.
        (|event| event.ts = Some(ts("2025-01-15T10:00:00.5Z")), Outcome::Duplicate),
        (|event| event.ts = Some(ts("2025-01-15T10:00:01Z")), Outcome::Duplicate),
        (|event| event.text = None, Outcome::Conflict),
        (|event| event.text = Some("hello".into()), Outcome::Conflict),
        (|event| event.received_at = None, Outcome::Duplicate),
        (|event| event.data = None, Outcome::Duplicate),
        (|event| event.thread = None, Outcome::Duplicate),
        (|event| event.account = Some(name("other")), Outcome::Duplicate),
    ];
    for (number, (change, expected)) in ways.into_iter().enumerate() {
        let mut changed = first.clone();
        change(&mut changed);
        assert_eq!(outcome(&changed), expected, "{number}");
    }
    assert_eq!(outcome(&empty), Outcome::Duplicate);
    empty.text = Some("".into());
    assert_eq!(outcome(&empty), Outcome::Conflict);
    let log = all(store.as_ref());
    assert_eq!((log.len(), &log[0].arrived.event), (2, &first));
}

fn a_copy_takes_over_every_field(place: &Place) {
    let target = Place::sqlite();
    let (from, to) = (place.open(), target.open());
    let sent = varied();
    from.insert(&sent).unwrap();
    let copied = copy::copy(from.as_ref(), to.as_ref(), |_| {}).unwrap();
    assert_eq!(usize::try_from(copied.created).unwrap(), sent.len());
    let (source, there) = copy::compare(from.as_ref(), to.as_ref(), copied.upto, |_| {}).unwrap();
    assert_eq!(source, there);
    assert_eq!(copy::foreign(from.as_ref(), to.as_ref()).unwrap(), None);
    let log = all(to.as_ref());
    assert!(log.iter().map(|recorded| &recorded.arrived.event).eq(&sent));
    // Another log: no position of the one leads anywhere in the other.
    for recorded in all(from.as_ref()) {
        assert_eq!(to.event_at(recorded.position).unwrap(), None);
    }
}
