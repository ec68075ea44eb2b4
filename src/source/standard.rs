//! Standard Webhooks: any sender's events, by their signed id.

use super::draft::{self, body_key, name};
use super::json::Json;
use super::payload::{Payload, is_form};
use super::{Request, Settings, Verified, time};
use crate::event::{Event, Kind};
use crate::message::Timestamp;

/// The event of a verified request. Its time is the one that the body names, else that of the signature, which is another
/// with each attempt.
pub(super) fn event(
    settings: &Settings,
    request: &Request<'_>,
    verified: &Verified,
    received_at: Timestamp,
) -> Event {
    let payload = Payload::read(request.body, is_form(request.header("content-type").as_ref()));
    let data = payload.data();
    let read = |json: Json<'_>| {
        let key = match &settings.pointers.key {
            Some(pointer) => pointer.find(json)?.and_then(Json::word),
            None => verified.signed_id.clone(),
        };
        let kind = name(json.member("type")?);
        Ok((key.filter(|key| !key.is_empty()), kind, json.member("timestamp")?.and_then(time::of_json)))
    };
    let (key, kind, at) = match payload.json().and_then(read) {
        Ok(fields) => fields,
        Err(why) => return draft::malformed(&settings.name, why, request.body, received_at, data),
    };
    let key = key.unwrap_or_else(|| body_key(request.body));
    let mut event = draft::event(&settings.name, Kind::Event, &key, received_at, data);
    event.r#type = kind;
    event.ts = at.or(verified.signed_at.and_then(time::of_seconds));
    event
}
