//! Exports: all messages or events that the filters select, in lines, of any size.

mod command;
mod csv;
mod ends;
mod events;
mod forms;
mod messages;

use lyftr::event::{Event, Kind, Source};
use lyftr::message::{Message, Name};
use serde_json::Value;

use crate::support::chunked::Chunked;
use crate::support::client::Client;
use crate::support::service::Service;
use crate::support::{Messages as _, mixed, settle};

/// More than two pages of the store's.
const MANY: usize = 3_000;

/// A service that has many messages, each third of another source.
fn filled() -> Service {
    let service = Service::start();
    for batch in mixed(0..MANY).chunks(500) {
        let event = |(n, message): (usize, &Message)| {
            let source = if n % 3 == 0 { Source::new("shop").unwrap() } else { Source::WEBHOOK };
            Event::of_message(Message { source, ..message.clone() }, None, None)
        };
        let events: Vec<Event> = batch.iter().enumerate().map(event).collect();
        service.store().insert(&events).unwrap();
    }
    settle(&*service.store());
    service
}

/// The export at a target, whole, as its values.
#[track_caller]
fn exported(service: &Service, target: &str) -> Vec<Value> {
    let reply = Chunked::open(service.address(), target, &[("Accept", "application/x-ndjson")]).whole();
    let text = reply.text();
    assert!(text.is_empty() || text.ends_with('\n'), "{target}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect()
}

/// The items of a page and of all that follow it by `next`, whose parameter is given.
#[track_caller]
fn turned(client: &mut Client, target: &str, parameter: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut place = String::new();
    loop {
        let page = client.json(&format!("{target}{place}"));
        items.extend(page["data"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) if page["end"] != true => place = format!("&{parameter}={next}"),
            _ => return items,
        }
    }
}

/// An event that is no message, with this name.
fn event(source: &str, key: &str) -> Event {
    Event::bare(Source::new(source).unwrap(), Name::new(key).unwrap(), Kind::Status)
}

/// Stores events that are more than connections hold that nobody reads from.
fn store_large(service: &Service) {
    let data = format!("\"{}\"", "x".repeat(1 << 20));
    for n in 0..24 {
        let data = Some(lyftr::event::Data::from_json(data.clone()));
        service.store().insert(&[Event { data, ..event("shop", &format!("large {n:02}")) }]).unwrap();
    }
}

/// Stores messages of the built-in source.
fn store_mixed(service: &Service, count: usize) {
    for batch in mixed(0..count).chunks(500) {
        service.store().insert_messages(batch).unwrap();
    }
    settle(&*service.store());
}
