//! WhatsApp: every delivery of the vectors, and deliveries that are made up, give the events that they should.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lyftr::event::{Event, Kind, Source};
use lyftr::message::{Name, Timestamp};
use lyftr::source::whatsapp;
use serde_json::{Value, json};

mod generated;
mod items;
mod large;

/// The number of cases in `bodies.json`.
const CASES: usize = 85;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors")
}

fn read_json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(vectors().join(name)).unwrap()).unwrap()
}

fn read_body(name: &str) -> Vec<u8> {
    std::fs::read(vectors().join(name)).unwrap()
}

/// The cases of `bodies.json` with their names.
fn cases() -> Vec<(String, Value)> {
    let Value::Object(cases) = read_json("bodies.json")["bodies"].take() else { panic!("no object") };
    cases.into_iter().collect()
}

fn source(name: &str) -> Source {
    Source::new(name).unwrap()
}

fn at(time: &str) -> Timestamp {
    Timestamp::parse(time).unwrap()
}

/// The events of a body that came at the time of most vectors.
fn events(body: impl AsRef<[u8]>) -> Vec<Event> {
    whatsapp::events(body.as_ref(), &source("vector-wa"), at("2026-11-18T11:07:10.000Z"))
}

/// The one event of a body.
fn event(body: impl AsRef<[u8]>) -> Event {
    let mut events = events(body);
    assert_eq!(events.len(), 1, "{events:?}");
    events.remove(0)
}

fn keys(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.key.as_str()).collect()
}

fn data(event: &Event) -> Value {
    serde_json::from_str(event.data.as_ref().unwrap().as_str()).unwrap()
}

/// A delivery with one change.
fn change(field: &str, value: &Value) -> Value {
    let entry = json!({"id": "100000000000001", "changes": [{"value": value, "field": field}]});
    json!({"object": "whatsapp_business_account", "entry": [entry]})
}

/// A value with these members beside the metadata.
fn value(members: Value) -> Value {
    let mut value = json!({"messaging_product": "whatsapp", "metadata":
        {"display_phone_number": "15550100100", "phone_number_id": "200000000000002"}});
    let Value::Object(members) = members else { panic!("no object") };
    value.as_object_mut().unwrap().extend(members);
    value
}

/// A delivery of one element of an array in the field `messages`.
fn delivery(array: &str, item: &Value) -> String {
    change("messages", &value(json!({ array: [item] }))).to_string()
}

/// An event in the form of the vectors' rows.
fn row(event: &Event) -> Value {
    let name = |name: &Option<Name>| name.as_ref().map(|name| name.as_str().to_owned());
    json!({
        "key": event.key.as_str(), "kind": event.kind.as_str(), "type": name(&event.r#type),
        "from": name(&event.from), "to": name(&event.to), "user_id": name(&event.user_id),
        "thread": name(&event.thread), "ref": name(&event.r#ref), "ts": event.ts, "text": event.text,
        "account": name(&event.account),
    })
}

#[test]
fn every_body_of_the_vectors_gives_its_rows() {
    let cases = cases();
    assert_eq!(cases.len(), CASES);
    for (name, case) in cases {
        let received_at = case["received_at"].as_str().unwrap();
        let body = read_body(case["body"].as_str().unwrap());
        let events = whatsapp::events(&body, &source("vector-wa"), at(received_at));
        let mut expected = case["expect"]["rows"].as_array().unwrap().clone();
        // A message without a time of its own is stored with that of its receipt.
        for row in &mut expected {
            if row["ts"].is_null() && row["kind"] == "message" {
                row["ts"] = received_at.into();
            }
        }
        let mut rows: Vec<_> = events.iter().map(row).collect();
        let mut seen = BTreeSet::new();
        rows.retain(|row| seen.insert(row["key"].to_string()));
        let duplicates = events.len() - rows.len();
        assert_eq!(rows, expected, "{name}");
        assert_eq!(json!(duplicates), case["expect"]["duplicates"], "{name}");
        for event in &events {
            assert_eq!((event.source.as_str(), event.received_at), ("vector-wa", Some(at(received_at))));
            // Not as a `Value`, which holds no half of a surrogate pair.
            let data = event.data.as_ref().unwrap().as_str();
            assert!(serde_json::from_str::<serde::de::IgnoredAny>(data).is_ok(), "{name}");
        }
    }
}

#[test]
fn every_sequence_of_the_vectors_leaves_its_rows() {
    let sequences = read_json("sequences.json");
    let bodies = read_json("bodies.json");
    for sequence in sequences.as_array().unwrap() {
        let (id, steps) = (&sequence["id"], sequence["steps"].as_array().unwrap());
        let sources: BTreeSet<_> = steps.iter().map(|step| step["source"].as_str().unwrap()).collect();
        let (mut stored, mut duplicates) = (BTreeSet::new(), 0);
        for step in steps {
            let case = &bodies["bodies"][step["body"].as_str().unwrap()];
            let body = read_body(case["body"].as_str().unwrap());
            for _ in 0..step["concurrent"].as_u64().unwrap_or(1) {
                let name = step["source"].as_str().unwrap();
                for event in whatsapp::events(&body, &source(name), at("2026-11-18T11:07:10Z")) {
                    assert_eq!(event.source.as_str(), name);
                    let key = event.key.as_str();
                    let stands = if sources.len() > 1 { format!("{name} {key}") } else { key.to_owned() };
                    duplicates += u64::from(!stored.insert(stands));
                }
            }
        }
        let expect = &sequence["expect"];
        let rows: Vec<_> =
            expect["rows"].as_array().unwrap().iter().map(|row| row.as_str().unwrap()).collect();
        match rows.as_slice() {
            [count] if count.ends_with(" rows") => {
                assert_eq!(format!("{} rows", stored.len()), *count, "{id}");
            }
            _ => assert_eq!(
                stored.iter().map(String::as_str).collect::<BTreeSet<_>>(),
                rows.into_iter().collect()
            ),
        }
        assert_eq!(expect["duplicates"].as_u64().unwrap_or(0), duplicates, "{id}");
    }
}

/// An item in its envelope, sent alone, is the same event.
#[test]
fn the_data_of_every_event_of_the_vectors_is_a_delivery_of_that_event() {
    for (name, case) in cases() {
        for event in events(read_body(case["body"].as_str().unwrap())) {
            // A string or an object, which is no delivery.
            if ["not_json", "not_utf8"].map(Some).contains(&event.r#type.as_ref().map(Name::as_str)) {
                continue;
            }
            assert_eq!(events(event.data.as_ref().unwrap().as_str()), [event], "{name}");
        }
    }
}

#[test]
fn the_day_of_receipt_is_in_the_keys_of_items_without_id_and_time_alone() {
    for (name, case) in cases() {
        let body = read_body(case["body"].as_str().unwrap());
        let on = |day: &str| whatsapp::events(&body, &source("wa"), at(&format!("{day}T23:59:59.999Z")));
        let has_day = keys(&on("2026-11-18")) != keys(&on("2026-11-19"));
        let expected = ["history_declined", "errors_at_value_level", "field_without_time"];
        assert_eq!(has_day, expected.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn what_is_left_of_a_body_is_one_malformed_event() {
    for (name, case) in cases() {
        let body = read_body(case["body"].as_str().unwrap());
        // A body may end with white space, which it can do without.
        for length in 0..body.trim_ascii_end().len() {
            let event = event(&body[..length]);
            let is_good = event.kind == Kind::Malformed && event.account.is_none();
            assert!(is_good || name == "not_json", "{name} {length}: {event:?}");
        }
    }
}
