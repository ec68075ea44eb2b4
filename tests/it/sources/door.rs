//! Every vector through the front door: what the service answers, and what it has stored then, on either engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use lyftr::clock::Clock;
use lyftr::event::Source;
use lyftr::source::{Config, Settings};
use serde_json::{Value, json};

use super::vectors::{self, bytes, settings, text};
use crate::support::client::{Connection, Reply, request};
use crate::support::service::Service;

/// A service with sources, and the clock that it judges by.
struct Door {
    service: Service,
    /// Milliseconds since the epoch.
    clock: Arc<AtomicI64>,
}

impl Door {
    /// Serves a source under each name.
    fn open<'a>(sources: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Self {
        let named = |(name, source): (&str, &Value)| Settings {
            name: Source::new(name).unwrap(),
            ..settings(source)
        };
        let sources = sources.into_iter().map(named).collect();
        let clock = Arc::new(AtomicI64::new(0));
        let shown = Arc::clone(&clock);
        let service = Service::builder()
            .sources(Config { sources, warnings: Vec::new() })
            .clock(Clock::of(move || jiff::Timestamp::from_millisecond(shown.load(Relaxed)).unwrap()))
            .start();
        Self { service, clock }
    }

    fn set_clock(&self, time: &str) {
        self.clock.store(time.parse::<jiff::Timestamp>().unwrap().as_millisecond(), Relaxed);
    }

    /// Sends the request of a vector, whose header may stand in no order, over a connection of its own.
    fn send(&self, target: &str, vector: &Value) -> Reply {
        if let Some(now) = vector["now"].as_i64() {
            self.clock.store(now * 1_000, Relaxed);
        }
        let given = &vector["request"];
        let headers: Vec<(&str, &str)> = given["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
            .collect();
        let method = given["method"].as_str().unwrap_or("POST");
        self.ask(method, target, &headers, &bytes(text(given, "body_b64")))
    }

    fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut connection = Connection::open(self.service.address());
        let mut sent = request(method, target, headers, body);
        if body.is_empty() && method == "POST" {
            sent = String::from_utf8(sent)
                .unwrap()
                .replacen("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n", 1)
                .into_bytes();
        }
        drop(connection.try_write(sent));
        connection.reply(method, target)
    }

    /// The events of a source, in the order of their arrival.
    fn events(&self, source: &str) -> Vec<Value> {
        let page = self.service.client().json(&format!("/events?limit=1000&source={source}"));
        assert_eq!(page["end"], true);
        page["data"].as_array().unwrap().clone()
    }

    /// How many events came before, with the same content and with another.
    fn duplicates_and_conflicts(&self, source: &str) -> (f64, f64) {
        let of =
            |result| self.metric(&format!("webhook_events_total{{source=\"{source}\",result=\"{result}\"}}"));
        (of("duplicate"), of("conflict"))
    }

    fn metric(&self, series: &str) -> f64 {
        self.service.client().metric(series)
    }
}

/// Of an event what the vectors say of it.
fn row(event: &Value) -> Value {
    const FIELDS: [&str; 11] =
        ["key", "kind", "type", "from", "to", "user_id", "thread", "ref", "ts", "text", "account"];
    FIELDS
        .iter()
        .map(|field| ((*field).to_owned(), event[field].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Holds the events to the rows of a vector. Where the provider gives no time, a message has that of its receipt.
fn compare(id: &str, events: &[Value], rows: &Value, wrong: &mut Vec<String>) {
    let mut rows = rows.clone();
    for (row, event) in rows.as_array_mut().unwrap().iter_mut().zip(events) {
        if row["kind"] == "message" && row["ts"].is_null() {
            row["ts"] = event["received_at"].clone();
        }
    }
    let found: Value = events.iter().map(row).collect();
    if found != rows {
        wrong.push(format!("{id}: {found:#}\nexpected {rows:#}"));
    }
}

/// The target of a vector under another name. Twilio signs the address, so that its vectors keep theirs.
fn renamed(target: &str, name: &str) -> String {
    let query = target.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
    format!("/webhook/{name}{query}")
}

/// The vectors of a file, each with a door that serves its source, the name of that, and the target.
fn behind_doors(vectors: &[Value]) -> Vec<(Arc<Door>, String, String, &Value)> {
    let is_fixed = |vector: &Value| vector["source"]["kind"] == "twilio";
    let names: Vec<String> = (0..vectors.len()).map(|nth| format!("v{nth}")).collect();
    let free =
        vectors.iter().zip(&names).filter(|(vector, _)| !is_fixed(vector) && vector["provider"] != "seed");
    let door = Arc::new(Door::open(free.map(|(vector, name)| (name.as_str(), &vector["source"]))));
    let of = |(vector, name): (&'_ Value, &String)| {
        let target = text(&vector["request"], "target");
        if is_fixed(vector) {
            let name = target.split('?').next().unwrap().rsplit('/').next().unwrap();
            (Arc::new(Door::open([(name, &vector["source"])])), name.to_owned(), target.to_owned())
        } else {
            (Arc::clone(&door), name.clone(), renamed(target, name))
        }
    };
    vectors
        .iter()
        .zip(&names)
        .filter(|(vector, _)| vector["provider"] != "seed")
        .map(|pair| {
            let (door, name, target) = of(pair);
            (door, name, target, pair.0)
        })
        .collect()
}

#[test]
fn every_signature_is_answered_as_its_vector_says_and_nothing_else_is_stored() {
    let vectors = vectors::list("signatures.json");
    let mut wrong = Vec::new();
    for (door, name, target, vector) in behind_doors(&vectors) {
        let reply = door.send(&target, vector);
        let expect = &vector["expect"];
        let stored = door.events(&name).len();
        let is_good = expect["status"] == 200;
        if json!(reply.status) != expect["status"] || (stored > 0) != is_good {
            wrong.push(format!("{}: {}, {stored} stored, expected {expect}", vector["id"], reply.line()));
            continue;
        }
        let series = if is_good {
            format!("webhook_verified_total{{source=\"{name}\",key=\"{}\"}}", text(expect, "secret"))
        } else {
            format!("webhook_refused_total{{source=\"{name}\",reason=\"{}\"}}", text(expect, "reason"))
        };
        if door.metric(&series) < 1.0 {
            wrong.push(format!("{}: {series} is 0", vector["id"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_handshake_is_answered_as_its_vector_says_and_stores_nothing() {
    let vectors = vectors::list("handshakes.json");
    for (door, name, target, vector) in behind_doors(&vectors) {
        let reply = door.send(&target, vector);
        let expect = &vector["expect"];
        assert_eq!(json!(reply.status), expect["status"], "{vector}");
        if let Some(body) = expect["body"].as_str() {
            assert_eq!(reply.text(), body, "{vector}");
            assert_eq!(reply.header("content-type"), expect["content_type"].as_str(), "{vector}");
        }
        assert_eq!(door.events(&name).len(), 0, "{vector}");
    }
}

#[test]
fn every_request_of_another_provider_is_stored_as_its_vector_says() {
    let vectors = vectors::list("events.json");
    let mut wrong = Vec::new();
    for (door, name, target, vector) in behind_doors(&vectors) {
        assert_eq!(door.send(&target, vector).line(), r#"200 {"status":"ok"}"#, "{vector}");
        // The retry comes later.
        let mut retry = vector.clone();
        retry["now"] = json!(vector["now"].as_i64().unwrap() + 7);
        assert_eq!(door.send(&target, &retry).line(), r#"200 {"status":"ok"}"#, "{vector}");
        assert_eq!(door.duplicates_and_conflicts(&name), (1.0, 0.0), "{vector}");
        compare(text(vector, "id"), &door.events(&name), &vector["expect"]["rows"], &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Bodies of WhatsApp by name, and what their file says of them.
fn bodies() -> (Value, BTreeMap<String, Value>) {
    let bodies = vectors::read("bodies.json");
    let all = bodies["bodies"].as_object().unwrap().clone().into_iter().collect();
    (bodies, all)
}

fn deliver(door: &Door, source: &str, header: &str, delivery: &Value) -> Reply {
    let body = vectors::body(text(delivery, "body"));
    door.ask("POST", &format!("/webhook/{source}"), &[(header, text(delivery, "signature"))], &body)
}

#[test]
fn every_delivery_of_whatsapp_is_stored_as_its_vector_says() {
    let (file, bodies) = bodies();
    let header = text(&file, "header");
    let names: Vec<String> = (0..bodies.len()).map(|nth| format!("wa{nth}")).collect();
    let door = Door::open(names.iter().map(|name| (name.as_str(), &file["source"])));
    let mut wrong = Vec::new();
    for ((id, delivery), name) in bodies.iter().zip(&names) {
        door.set_clock(text(delivery, "received_at"));
        let expect = &delivery["expect"];
        let reply = deliver(&door, name, header, delivery);
        assert_eq!(json!(reply.status), expect["http"], "{id}: {}", reply.line());
        compare(id, &door.events(name), &expect["rows"], &mut wrong);
        let series = format!("webhook_events_total{{source=\"{name}\",result=\"duplicate\"}}");
        assert_eq!(Some(door.metric(&series)), expect["duplicates"].as_f64(), "{id}");
        // Once more: nothing new.
        let rows = door.events(name).len();
        let (before, _) = door.duplicates_and_conflicts(name);
        door.clock.fetch_add(7_000, Relaxed);
        assert_eq!(deliver(&door, name, header, delivery).status, 200, "{id}");
        assert_eq!(door.events(name).len(), rows, "{id}");
        let (after, conflicts) = door.duplicates_and_conflicts(name);
        let sent =
            door.metric(&format!("webhook_events_total{{source=\"{name}\",result=\"created\"}}")) + before;
        assert_eq!((after - before, conflicts), (sent, 0.0), "{id}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_sequence_of_deliveries_ends_as_its_vector_says() {
    let (file, bodies) = bodies();
    let header = text(&file, "header");
    for vector in vectors::list("sequences.json") {
        let steps = vector["steps"].as_array().unwrap();
        let mut names: Vec<&str> = steps.iter().map(|step| text(step, "source")).collect();
        names.sort_unstable();
        names.dedup();
        let door = Door::open(names.iter().map(|name| (*name, &file["source"])));
        for step in steps {
            let delivery = &bodies[text(step, "body")];
            door.set_clock(text(delivery, "received_at"));
            let times = step["concurrent"].as_u64().unwrap_or(1);
            std::thread::scope(|scope| {
                for _ in 0..times {
                    scope.spawn(|| {
                        assert_eq!(
                            deliver(&door, text(step, "source"), header, delivery).status,
                            200,
                            "{vector}"
                        );
                    });
                }
            });
        }
        let (mut found, mut duplicates) = (Vec::new(), 0.0);
        for name in &names {
            let prefix = if names.len() > 1 { format!("{name} ") } else { String::new() };
            found.extend(door.events(name).iter().map(|event| format!("{prefix}{}", text(event, "key"))));
            duplicates +=
                door.metric(&format!("webhook_events_total{{source=\"{name}\",result=\"duplicate\"}}"));
        }
        let expect = &vector["expect"];
        let mut expected: Vec<String> = serde_json::from_value(expect["rows"].clone()).unwrap();
        if expected == ["7 rows"] {
            found = vec![format!("{} rows", found.len())];
        }
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{vector}");
        let wanted = expect["duplicates"].as_f64().unwrap_or(0.0);
        assert_eq!(Some(duplicates), Some(wanted), "{vector}");
    }
}

#[test]
fn a_request_with_a_changed_byte_or_a_cut_body_is_refused_and_stores_nothing() {
    for (door, name, target, vector) in behind_doors(&vectors::list("events.json")) {
        if vector["source"]["kind"] == "twilio" {
            // It signs the fields of a form, of which two spellings may be the same.
            continue;
        }
        let body = bytes(text(&vector["request"], "body_b64"));
        let with = |body: &[u8]| {
            let mut changed = vector.clone();
            changed["request"]["body_b64"] =
                <base64ct::Base64 as base64ct::Encoding>::encode_string(body).into();
            door.send(&target, &changed).status
        };
        for at in (0..body.len()).step_by(body.len() / 6 + 1) {
            let mut changed = body.clone();
            changed[at] ^= 1;
            assert_eq!(with(&changed), 401, "{at} of {vector}");
            assert_eq!(with(&body[..at]), 401, "{at} of {vector}");
        }
        assert_eq!(door.events(&name).len(), 0, "{vector}");
        assert_eq!(with(&body), 200, "{vector}");
    }
}

/// Meta delivers again, late, and in any order.
#[test]
fn any_order_and_any_repetition_of_deliveries_stores_the_same_events() {
    let (file, bodies) = bodies();
    let header = text(&file, "header");
    let names = ["in-order", "backwards", "often"];
    let door = Door::open(names.map(|name| (name, &file["source"])));
    door.set_clock("2026-11-18T12:00:00Z");
    let good: Vec<&Value> = bodies.values().filter(|delivery| delivery["expect"]["http"] == 200).collect();
    assert!(good.len() > 50, "{}", good.len());
    let send = |name: &str, delivery: &Value| assert_eq!(deliver(&door, name, header, delivery).status, 200);
    for delivery in &good {
        send("in-order", delivery);
    }
    for delivery in good.iter().rev() {
        send("backwards", delivery);
    }
    for nth in 0..2 * good.len() {
        // Each at least once, some again while others have yet to come.
        send("often", good[nth * 7 % good.len()]);
    }
    let keys = |name: &str| -> Vec<String> {
        let mut keys: Vec<_> = door.events(name).iter().map(|event| text(event, "key").to_owned()).collect();
        keys.sort_unstable();
        keys
    };
    let expected = keys("in-order");
    assert!(!good.len().is_multiple_of(7) && expected.len() > 100, "{} {}", good.len(), expected.len());
    assert_eq!(keys("backwards"), expected);
    assert_eq!(keys("often"), expected);
}
