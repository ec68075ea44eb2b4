//! A delivery of WhatsApp's: whatever it is, it gives events, and each of them is a delivery of itself.

use lyftr::event::{Event, Kind, Source};
use lyftr::message::{Name, Timestamp};
use lyftr::source::whatsapp::events;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

/// Above this size of all data, what stands around items is no longer kept with each of them.
const COPIED_ALWAYS: usize = 1 << 20;

/// The body of a request.
///
/// # Panics
/// If a body gives no event, or one that no store can hold; if an event's data are not a delivery of that event; if a body
/// that cannot be read is not kept whole.
pub fn whatsapp(data: &[u8]) {
    let source = Source::new("wa").unwrap();
    let received_at = Timestamp::parse("2026-11-18T11:07:10.001Z").unwrap();
    let told = events(data, &source, received_at);
    assert!(!told.is_empty());
    let size: usize = told.iter().map(Event::bytes).sum();
    for event in &told {
        can_be_stored(event);
        assert_eq!((&event.source, event.received_at), (&source, Some(received_at)));
    }
    if let Some(whole) = told.iter().find(|event| is_whole(event, data)) {
        assert_eq!((told.len(), whole.kind, &whole.account), (1, Kind::Malformed, &None));
    } else if size < COPIED_ALWAYS {
        for event in &told {
            let again = events(event.data.as_ref().unwrap().as_str().as_bytes(), &source, received_at);
            assert_eq!(again.as_slice(), std::slice::from_ref(event));
        }
    }
}

/// Whether the event stands for the body as a whole.
fn is_whole(event: &Event, body: &[u8]) -> bool {
    let digest = Sha256::digest(body);
    let digits = digest.iter().take(16).fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
    event.key.as_str() == format!("malformed/#{digits}")
}

fn can_be_stored(event: &Event) {
    let Event { key, r#type, from, to, user_id, thread, r#ref, account, .. } = event;
    for name in [r#type, from, to, user_id, thread, r#ref, account].into_iter().flatten().chain([key]) {
        assert!(Name::new(name.as_str()).is_ok(), "{name:?}");
    }
    assert!(event.r#type.is_some());
    assert!(event.kind != Kind::Message || event.ts.is_some(), "a message without a place among others");
    assert!(event.text.as_deref().is_none_or(|text| !text.is_empty() && !text.contains('\0')));
    let data = event.data.as_ref().unwrap().as_str();
    assert!(serde_json::from_str::<IgnoredAny>(data).is_ok(), "{data}");
}
