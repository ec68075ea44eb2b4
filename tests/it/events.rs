//! The log of everything that arrived: read in pages, waited for, and followed as a stream.

mod filters;
mod followers;
mod lost;
mod pages;
mod seats;
mod stop;
mod streams;
mod waits;

use lyftr::event::{Data, Event, Kind, Source};
use lyftr::message::{Name, Timestamp};
use serde_json::Value;

use crate::support::client::Client;
use crate::support::message;

/// Stores messages with these ids, one after the other.
fn store(client: &mut Client, ids: impl IntoIterator<Item = impl AsRef<str>>) {
    for id in ids {
        client.store(&message(id.as_ref()));
    }
}

/// The keys of the events on a page.
#[track_caller]
fn keys(page: &Value) -> Vec<&str> {
    page["data"].as_array().expect("a page").iter().map(|event| event["key"].as_str().unwrap()).collect()
}

/// The `next` of a page.
#[track_caller]
fn next(page: &Value) -> &str {
    page["next"].as_str().unwrap_or_else(|| panic!("{page}"))
}

/// Reads the log in pages from a place on to its end.
#[track_caller]
fn read_on(client: &mut Client, mut after: Option<String>, query: &str) -> (Vec<Value>, Option<String>) {
    let mut events = Vec::new();
    loop {
        let place = after.as_ref().map_or(String::new(), |after| format!("&after={after}"));
        let page = client.json(&format!("/events?{query}{place}"));
        events.extend(page["data"].as_array().unwrap().iter().cloned());
        after = page["next"].as_str().map(ToOwned::to_owned);
        if page["end"] == true {
            return (events, after);
        }
    }
}

/// An event of another source than the built-in one.
fn event_of(source: &str, key: &str, kind: Kind) -> Event {
    let name = |text: &str| Name::new(text).ok();
    Event {
        source: Source::new(source).unwrap(),
        key: Name::new(key).unwrap(),
        kind,
        r#type: name("image"),
        from: name("a person"),
        to: name("+2"),
        user_id: name("user"),
        thread: name("thread"),
        r#ref: name("about"),
        account: name("account"),
        ts: Timestamp::parse("2025-01-15T10:00:00.5Z").ok(),
        received_at: Timestamp::parse("2025-01-15T10:00:01.250Z").ok(),
        text: None,
        data: Some(Data::from_json("{\"a\":1.50e3}")),
    }
}
