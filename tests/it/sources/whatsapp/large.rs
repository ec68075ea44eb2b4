//! Bodies made to cost more than they should: time and memory grow with the body alone. What takes time by the square of the
//! length would take minutes here.

use std::fmt::Write;

use super::*;

/// The largest body that a source takes by default.
const BODY_BYTES: usize = 4 << 20;
/// Quick enough without optimisation.
const PART_BYTES: usize = 1 << 20;

/// A delivery with these members in its value and this id of its entry.
fn body(entry_id: &str, field: &str, members: &str) -> String {
    let change = format!("{{\"field\":\"{field}\",\"value\":{{{members}}}}}");
    format!("{{\"entry\":[{{\"id\":\"{entry_id}\",\"changes\":[{change}]}}]}}")
}

/// So many items in a list.
fn list(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).fold(String::new(), |mut list, n| {
        write!(list, "{}{}", if n == 0 { "" } else { "," }, item(n)).unwrap();
        list
    })
}

fn status(n: usize) -> String {
    format!("{{\"id\":\"{n:x}\",\"status\":\"sent\"}}")
}

/// The events of a body, after a check that they take no more memory than so many times the body.
fn bounded(body: &str) -> Vec<Event> {
    let events = events(body);
    let bytes: usize = events.iter().map(|event| event.bytes() + event.key.as_str().len()).sum();
    assert!(bytes <= 32 * body.len().max(1 << 16), "{bytes} bytes of a body of {}", body.len());
    events
}

#[test]
fn a_hundred_thousand_items_are_a_hundred_thousand_events() {
    let metadata =
        "\"metadata\":{\"display_phone_number\":\"15550100100\",\"phone_number_id\":\"200000000000002\"}";
    let members =
        format!("\"messaging_product\":\"whatsapp\",{metadata},\"statuses\":[{}]", list(100_000, status));
    let body = body("1", "messages", &members);
    assert!(body.len() <= BODY_BYTES);
    let events = bounded(&body);
    assert_eq!(events.len(), 100_000);
    assert_eq!(events.iter().map(|event| &event.key).collect::<BTreeSet<_>>().len(), 100_000);
    // None of them is without its surroundings.
    assert!(events.iter().all(|event| event.data.as_ref().unwrap().as_str().contains(metadata)));
}

#[test]
fn more_items_than_can_say_something_are_one_malformed_event() {
    let nothing = list(BODY_BYTES / 3 - 100, |_| "{}".into());
    let empty = body("1", "messages", &format!("\"messages\":[{nothing}]"));
    assert!(empty.len() <= BODY_BYTES);
    let events = bounded(&empty);
    assert_eq!((events.len(), row(&events[0])["type"].as_str()), (1, Some("too_many_items")));
    assert_eq!(events[0].data.as_ref().unwrap().as_str(), empty);
}

#[test]
fn what_is_large_around_many_items_is_kept_once_and_not_with_each() {
    const ITEMS: usize = 10_000;
    let large = "x".repeat(PART_BYTES / 2);
    let statuses = format!("\"statuses\":[{}]", list(ITEMS, status));
    let groups = format!("\"groups\":[{}]", list(ITEMS, status));
    let contact = format!("{{\"wa_id\":\"1\",\"profile\":{{\"name\":\"{large}\"}}}}");
    let messages =
        format!("\"messages\":[{}]", list(ITEMS, |n| format!("{{\"id\":\"{n:x}\",\"from\":\"1\"}}")));
    let history = format!("\"history\":[{{\"threads\":[{{\"id\":\"{large}\",{messages}}}]}}]");
    let members = format!("\"metadata\":{{\"phone_number_id\":\"{large}\"}},{statuses}");
    let object = body("1", "messages", &statuses).replacen('{', &format!("{{\"object\":\"{large}\","), 1);
    for (what, body, count) in [
        ("metadata", body("1", "messages", &members), ITEMS),
        ("new member", body("1", "messages", &format!("\"new\":\"{large}\",{statuses}")), ITEMS),
        ("entry", body(&large, "messages", &groups), ITEMS),
        ("field", body("1", &large, &groups), ITEMS),
        ("contact", body("1", "messages", &format!("\"contacts\":[{contact}],{messages}")), ITEMS),
        ("thread", body("1", "history", &history), ITEMS),
        ("object", object.clone(), ITEMS),
    ] {
        let events = bounded(&body);
        let is_kept = |event: &&Event| event.data.as_ref().unwrap().as_str().contains(&large);
        assert!(
            events.iter().any(|event| is_kept(&event)) && events.len() == count,
            "{what}: {}",
            events.len()
        );
        assert!(events.iter().filter(is_kept).count() <= 32, "{what}");
    }
}

#[test]
fn depth_and_repetition_cost_no_more_than_length() {
    let half = PART_BYTES / 2;
    let deep = format!("{}{}", "[".repeat(half), "]".repeat(half));
    let nested = format!("{}1{}", "{\"messages\":[".repeat(40_000), "]}".repeat(40_000));
    let keys = list(50_000, |n| format!("\"k{n}\":0"));
    let contacts = list(10_000, |n| format!("{{\"wa_id\":\"{n}\",\"user_id\":\"u{n}\"}}"));
    let messages = list(10_000, |n| format!("{{\"id\":\"{n}\",\"from\":\"{}\"}}", 9_999 - n));
    let changes = list(15_000, |_| "{\"field\":\"x\",\"value\":{}}".into());
    let of_value = |members: String| body("1", "messages", &members);
    let of_item = |members: &str| of_value(format!("\"messages\":[{{\"id\":\"1\",{members}}}]"));
    for (what, body, count) in [
        ("deep item", of_item(&format!("\"text\":{deep}")), 1),
        ("deep new member", of_value(format!("\"new\":{deep},\"messages\":[{{\"id\":\"1\"}}]")), 1),
        ("nothing but depth", deep.clone(), 1),
        ("nested values", of_value(format!("\"messages\":[{nested}]")), 1),
        ("keys", of_item(&keys), 1),
        ("keys twice", of_item(&format!("{keys},{keys}")), 1),
        ("keys around", of_value(format!("{keys},\"messages\":[{{\"id\":\"1\"}}]")), 1),
        ("contacts", of_value(format!("\"contacts\":[{contacts}],\"messages\":[{messages}]")), 10_000),
        ("changes", format!("{{\"entry\":[{{\"id\":\"1\",\"changes\":[{changes}]}}]}}"), 15_000),
        ("entries", format!("{{\"entry\":[{}]}}", list(15_000, |n| format!("{{\"id\":\"{n}\"}}"))), 15_000),
    ] {
        assert_eq!(bounded(&body).len(), count, "{what}");
    }
}
