//! Every input that fuzzing has found worth keeping, and every one that was thought of, again.
//!
//! `fuzz/corpus/` has a folder for each target; `scripts/fuzz` looks for more. The properties are those of the
//! fuzz targets, and what generates inputs near to good ones below holds to the same.

use std::path::Path;

use proptest::prelude::*;

use crate::support::service::Service;

#[allow(unreachable_pub, reason = "the fuzz targets reach it")]
#[path = "../../fuzz/src/lib.rs"]
mod properties;

/// The files kept for a target, with their names.
fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut kept: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    assert!(!kept.is_empty(), "{} is empty", folder.display());
    kept.sort();
    kept
}

fn replay(target: &str, property: fn(&[u8])) {
    for (name, data) in kept(target) {
        // The test's output then ends with the file that failed.
        println!("fuzz/corpus/{target}/{name}");
        property(&data);
    }
}

#[test]
fn every_signature_of_the_corpus_holds() {
    replay("signature", properties::signature);
}

#[test]
fn every_message_of_the_corpus_holds() {
    replay("message", properties::message);
}

#[test]
fn every_query_of_the_corpus_holds() {
    replay("query", properties::query);
}

#[test]
fn every_position_of_the_corpus_holds() {
    replay("position", properties::position);
    for (name, data) in kept("position") {
        let is_good =
            std::str::from_utf8(&data).is_ok_and(|text| text.parse::<lyftr::event::Position>().is_ok());
        assert_eq!(is_good, name.starts_with("good"), "{name}");
    }
}

#[test]
fn every_event_of_the_corpus_holds() {
    replay("event", properties::event);
}

#[test]
fn every_configuration_of_sources_of_the_corpus_holds() {
    replay("sources", properties::sources);
}

#[test]
fn every_delivery_of_the_corpus_holds() {
    replay("delivery", properties::delivery);
}

#[test]
fn every_delivery_of_whatsapp_of_the_corpus_holds() {
    replay("whatsapp", properties::whatsapp);
}

#[test]
fn every_message_of_the_corpus_is_as_good_as_its_name_says() {
    for (name, data) in kept("message") {
        let is_good = lyftr::message::parse(&data).is_ok();
        assert!(is_good || !name.starts_with("good-"), "{name}");
        assert!(!is_good || !name.starts_with("bad-"), "{name}");
    }
}

#[test]
fn every_message_of_the_corpus_is_answered_as_the_document_says() {
    let service = Service::start();
    let mut client = service.client();
    for (name, data) in kept("message") {
        let expected = if lyftr::message::parse(&data).is_ok() { 200 } else { 422 };
        // The client holds the answer to docs/openapi.json.
        let reply = client.send_bytes(&data);
        assert_eq!(reply.status, expected, "{name}: {}", reply.line());
    }
}

/// The fields of a message: name, a right value, and a pattern that is right or nearly so.
const FIELDS: [(&str, &str, &str); 5] = [
    ("message_id", "\"m1\"", "[^\\p{Cc}]{0,3}|é{254,257}|a?[\\x00-\\x20\\x7e-\\xa1]"),
    ("from", "\"+1\"", "\\+[0-9]{14,17}|\\+{0,2}[0-9]{0,2}|\\+[0-9]?\\PC"),
    ("to", "\"+2\"", "\\+[0-9]{14,17}|\\+{0,2}[0-9]{0,2}|\\+[0-9]?\\PC"),
    (
        "ts",
        "\"2025-01-15T10:00:00Z\"",
        "[0-9]{4}-(0[0-9]|1[0-3])-(0[0-9]|1[0-9]|2[7-9]|3[0-2])T(0[0-9]|2[0-4]):[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?Z",
    ),
    ("text", "\"Hello\"", "(?s).{0,4}|é{4095,4098}|\\x00"),
];

/// Any JSON, and what is nearly JSON.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "\"(\\\\u[0-9a-fA-F]{4}|\\\\ud[89a-f][0-9]{2}|\\\\[bfnrt/x]|a){0,4}\"",
        "null|true|-?[0-9.eE+-]{1,6}|\\[\\[\\{\\}\\],1\\]|\\{\"a\":1,\"a\":\\[\\]\\}",
    ]
}

/// A member for a field: mostly right, sometimes nearly so, seldom something else or nothing.
fn member(at: usize) -> impl Strategy<Value = String> {
    let (key, right, near) = FIELDS[at];
    prop_oneof![
        12 => Just(format!("\"{key}\":{right}")),
        6 => near.prop_map(move |text| format!("\"{key}\":{}", serde_json::Value::from(text))),
        1 => value().prop_map(move |value| format!(" \"{key}\" : {value}\n")),
        1 => Just(String::new()),
    ]
}

fn body() -> impl Strategy<Value = String> {
    let extra = prop_oneof![
        6 => Just(String::new()),
        1 => ("[a-c]", value()).prop_map(|(key, value)| format!("\"{key}\":{value}")),
        1 => (0..FIELDS.len()).prop_flat_map(member),
    ];
    (member(0), member(1), member(2), member(3), member(4), extra.clone(), extra).prop_map(|members| {
        let (id, from, to, ts, text, one, other) = members;
        let members = [id, one, from, to, ts, text, other];
        let given: Vec<_> = members.into_iter().filter(|member| !member.is_empty()).collect();
        format!("{{{}}}", given.join(","))
    })
}

/// Bodies with the members that some provider looks for, of any kind.
fn delivered() -> impl Strategy<Value = String> {
    const FIELD: &str = "(MessageSid|CallSid|MessageStatus|CallStatus|From|Body|payload|id|text|a)=([a-z0-9+]|%[0-9A-F]{2}){0,8}";
    let word = "(id|type|event|event_id|event_time|data|object|user|channel|ts|text|message|item|sender|login|repository|payload|entry|changes|value|messages|statuses|MessageSid|CallSid|MessageStatus|From|Body)";
    let leaf = prop_oneof![
        value(),
        "\"[a-z_]{0,12}\"",
        "[0-9]{1,20}",
        "\"message_changed\"|\"message\"|\"reaction_added\""
    ];
    let json = leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            2 => proptest::collection::vec((word, inner.clone()), 0..5).prop_map(|members| {
                let members: Vec<_> = members.into_iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
            1 => proptest::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
        ]
    });
    prop_oneof![4 => json, 1 => proptest::collection::vec(FIELD, 0..6).prop_map(|fields| fields.join("&")), 1 => "\\PC{0,20}"]
}

fn query() -> impl Strategy<Value = String> {
    let number = "-?0{0,3}[0-9]{1,3}|-?1844674407370955161[0-9]|-?[0-9]{0,45}|%3[0-9]|[0-9][.+e][0-9]";
    let pair = prop_oneof![
        ("(limit|offset|%6Cimit)", number).prop_map(|(name, number)| format!("{name}={number}")),
        "(from|q)=(%[0-9A-F]{2}|%2B|\\+|[0-9]|\\PC){0,6}",
        "since=2025-0[0-9]-[0-3][0-9]T2[0-9]:00:00(\\.[0-9]{0,10})?Z?",
        "[a-z]{0,6}=?[0-9&=%]{0,6}",
    ];
    proptest::collection::vec(pair, 0..6).prop_map(|pairs| pairs.join("&"))
}

/// What becomes an event: its fields, a zero byte between two, and its data last.
fn event() -> impl Strategy<Value = String> {
    let field = "[a-z-]{1,3}|[^\\x00]{0,4}|é{254,257}|2025-01-15T10:00:00(\\.[0-9]{1,9})?Z";
    let data = prop_oneof![
        value(),
        body(),
        ("[ \\t\\r\\n]{0,3}", value(), "[ \\r\\n,]{0,3}", value())
            .prop_map(|(space, one, between, two)| { format!("{space}[{one}{between},{two}]{space}") }),
    ];
    (proptest::collection::vec(field, 12), data).prop_map(|(fields, data)| fields.join("\0") + "\0" + &data)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nearly_good_signatures_hold(data in "([0-9a-f]{62,66}|[0-9A-Fa-f]{64}|[0-9a-fG: é]{62,64})\\n\\PC{0,20}") {
        properties::signature(data.as_bytes());
    }

    #[test]
    fn nearly_good_bodies_hold(body in body()) {
        properties::message(body.as_bytes());
    }

    #[test]
    fn nearly_good_positions_hold(text in "[0-9a-f]{31,33}|[0-9a-fA-FgG+: ]{32}|[078f]0{14}[01][0-9a-f]{16}|\\PC{0,32}") {
        properties::position(text.as_bytes());
    }

    #[test]
    fn events_of_any_fields_hold(event in event()) {
        properties::event(event.as_bytes());
    }

    #[test]
    fn nearly_good_deliveries_hold(choice in 0..16_u8, header in "[ -~]{0,40}", body in delivered()) {
        properties::delivery(&[&[choice], header.as_bytes(), b"\n", body.as_bytes()].concat());
    }

    #[test]
    fn nearly_good_queries_hold(query in query()) {
        properties::query(query.as_bytes());
    }
}
