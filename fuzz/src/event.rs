//! An event's JSON: every member as it is, in the order of the contract, and `data` byte for byte.

use lyftr::event::{Arrived, Data, Event, Kind, LogId, Position, Recorded, Source};
use lyftr::message::{Name, Timestamp, check_text};

use super::json::{self, Value};

const LOG: LogId = *b"the log of tests";
/// The members in the order of the contract, but for `data`, the last one.
const MEMBERS: [&str; 14] = [
    "position",
    "source",
    "kind",
    "type",
    "key",
    "from",
    "to",
    "user_id",
    "thread",
    "ref",
    "account",
    "ts",
    "received_at",
    "text",
];

/// Up to a zero byte each: kind and arrival number, source, key, type, from, to, `user_id`, thread, ref, account, time of
/// arrival, text; the rest is `data`. What the rules refuse is left out.
///
/// # Panics
/// If the JSON is none, or not that of the event; if it has a line end where it should be one line.
pub fn event(bytes: &[u8]) {
    let mut parts = bytes.splitn(13, |byte| *byte == 0);
    let mut part = || parts.next().and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default();
    let (number, source, key) = (part(), part(), part());
    let number = number.bytes().fold(1_i64, |number, byte| number.wrapping_mul(31).wrapping_add(byte.into()));
    let mut name = || Name::new(part()).ok();
    let (r#type, from, to, user_id, thread, r#ref, account) =
        (name(), name(), name(), name(), name(), name(), name());
    let received_at: Option<Timestamp> = Timestamp::parse(part()).ok();
    let text: Option<Box<str>> = Some(part()).filter(|text| check_text(text).is_ok()).map(Into::into);
    let data = part();
    let data = json::is_json(data).then(|| Data::from_json(data));
    let event = Event {
        source: Source::new(source).unwrap_or(Source::WEBHOOK),
        key: Name::new(key).unwrap_or_else(|_| Name::new("key").unwrap()),
        kind: Kind::of_number(number.rem_euclid(11)).unwrap(),
        r#type,
        from,
        to,
        user_id,
        thread,
        r#ref,
        account,
        ts: received_at,
        received_at,
        text,
        data,
    };
    let arrived = Arrived { seq: number.checked_abs().unwrap_or(1).max(1), event };
    let recorded = Recorded::new(&LOG, arrived);
    is_as_it_is(&recorded);
    is_at_a_place_of_its_own(&recorded);
}

fn is_as_it_is(recorded: &Recorded) {
    let event = &recorded.arrived.event;
    let whole = recorded.json();
    let name = |name: &Option<Name>| name.as_ref().map(|name| name.as_str().to_owned());
    let expected = [
        Some(recorded.position.to_string()),
        Some(event.source.as_str().to_owned()),
        Some(event.kind.as_str().to_owned()),
        name(&event.r#type),
        Some(event.key.as_str().to_owned()),
        name(&event.from),
        name(&event.to),
        name(&event.user_id),
        name(&event.thread),
        name(&event.r#ref),
        name(&event.account),
        event.ts.map(|ts| ts.to_string()),
        event.received_at.map(|at| at.to_string()),
        event.text.as_deref().map(ToOwned::to_owned),
    ];
    let members = json::members(&whole).expect("an object");
    let (last, first) = members.split_last().unwrap();
    let expected = MEMBERS
        .iter()
        .zip(expected)
        .map(|(name, value)| ((*name).to_owned(), value.map_or(Value::Null, Value::Text)));
    assert_eq!(first, expected.collect::<Vec<_>>());
    assert_eq!(last.0, "data");
    let data = event.data.as_ref().map_or("null", |data| data.as_str());
    assert!(whole.ends_with(&format!(",\"data\":{data}}}")), "{whole}");

    let line = recorded.json_line();
    assert!(!line.contains(['\n', '\r']), "{line:?}");
    assert_eq!(line.len(), whole.len());
    // A line end in JSON stands between values.
    assert!(
        line.bytes().zip(whole.bytes()).all(|(line, whole)| line == whole || line == b' ' && whole < b' ')
    );
    assert_eq!(json::members(&line).expect("an object"), members);
}

/// Another log, number, key or time has another position.
fn is_at_a_place_of_its_own(recorded: &Recorded) {
    let Recorded { position, arrived } = recorded;
    assert_eq!(Position::of(&LOG, arrived), *position);
    assert_eq!(position.to_string().parse(), Ok(*position));
    let mut other = arrived.clone();
    other.seq = if arrived.seq == 1 { 2 } else { arrived.seq - 1 };
    assert_ne!(Position::of(&LOG, &other), *position);
    let mut other = arrived.clone();
    other.event.key = Name::new(if arrived.event.key.as_str() == "a" { "b" } else { "a" }).unwrap();
    assert_ne!(Position::of(&LOG, &other).tag, position.tag);
    let mut other = arrived.clone();
    other.event.received_at = if arrived.event.received_at.is_some() { None } else { Some(Timestamp::EPOCH) };
    assert_ne!(Position::of(&LOG, &other).tag, position.tag);
    assert_ne!(Position::of(b"another log here", arrived).tag, position.tag);
}
