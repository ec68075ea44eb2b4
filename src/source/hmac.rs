//! Events of a sender that is described by the configuration alone: JSON pointers say where its fields stand.

use super::draft::{self, body_key, name, text};
use super::json::Json;
use super::payload::{Payload, is_form};
use super::pointer::Pointer;
use super::{Pointers, Request, Settings, time};
use crate::event::{Event, Kind};
use crate::message::{Name, Timestamp};

/// The event of a verified request. A body that is no JSON cannot be understood only where a pointer leads into it.
pub(super) fn event(settings: &Settings, request: &Request<'_>, received_at: Timestamp) -> Event {
    let payload = Payload::read(request.body, is_form(request.header("content-type").as_ref()));
    let data = payload.data();
    let json = match payload.json() {
        Ok(json) => Ok(Some(json)),
        Err(_) if settings.pointers == Pointers::default() => Ok(None),
        Err(why) => Err(why),
    };
    let Pointers { key, r#type, from, to, ts, text: words, thread } = &settings.pointers;
    let read = |json: Option<Json<'_>>| {
        let find = |pointer: &Option<Pointer>| match (pointer, json) {
            (Some(pointer), Some(json)) => pointer.find(json),
            _ => Ok(None),
        };
        Ok(Fields {
            key: find(key)?.and_then(Json::word).filter(|key| !key.is_empty()),
            r#type: name(find(r#type)?),
            from: name(find(from)?),
            to: name(find(to)?),
            ts: find(ts)?.and_then(time::of_json),
            text: text(find(words)?),
            thread: name(find(thread)?),
        })
    };
    let fields = match json.and_then(read) {
        Ok(fields) => fields,
        Err(why) => return draft::malformed(&settings.name, why, request.body, received_at, data),
    };
    let key = fields.key.unwrap_or_else(|| body_key(request.body));
    let mut event = draft::event(&settings.name, Kind::Event, &key, received_at, data);
    (event.r#type, event.from, event.to) = (fields.r#type, fields.from, fields.to);
    (event.ts, event.text, event.thread) = (fields.ts, fields.text, fields.thread);
    event
}

struct Fields {
    key: Option<String>,
    r#type: Option<Name>,
    from: Option<Name>,
    to: Option<Name>,
    ts: Option<Timestamp>,
    text: Option<Box<str>>,
    thread: Option<Name>,
}
