//! Stripe's events: snapshots, and the thin ones of its second API.

use super::draft::{self, name};
use super::json::{Json, Unreadable};
use super::payload::Payload;
use super::{Request, time};
use crate::event::{Event, Kind, Source};
use crate::message::{Name, Timestamp};

/// The event of a verified request.
pub(super) fn event(source: &Source, request: &Request<'_>, received_at: Timestamp) -> Event {
    let payload = Payload::read(request.body, false);
    let data = payload.data();
    let fields = match payload.json().and_then(Fields::read) {
        Ok(fields) => fields,
        Err(why) => return draft::malformed(source, why, request.body, received_at, data),
    };
    let key = format!("event/{}", fields.id);
    let mut event = draft::event(source, Kind::Event, &key, received_at, data);
    event.r#type = fields.r#type;
    event.ts = fields.created;
    (event.thread, event.r#ref) = (fields.about.clone(), fields.about);
    event.user_id = fields.customer;
    (event.to, event.account) = (fields.account.clone(), fields.account);
    event
}

struct Fields {
    id: String,
    r#type: Option<Name>,
    created: Option<Timestamp>,
    /// The object that the event is about.
    about: Option<Name>,
    customer: Option<Name>,
    account: Option<Name>,
}

/// A member of a value that may be absent.
fn member<'a>(json: Option<Json<'a>>, name: &str) -> Result<Option<Json<'a>>, Unreadable> {
    json.map_or(Ok(None), |json| json.member(name))
}

impl Fields {
    fn read(json: Json<'_>) -> Result<Self, Unreadable> {
        let [id, kind, created, data, related, account] =
            json.members(["id", "type", "created", "data", "related_object", "account"])?;
        let id = id.and_then(Json::word).filter(|id| !id.is_empty()).ok_or(Unreadable::NoId)?;
        let object = member(data, "object")?.filter(|object| object.is_object());
        let about = match object {
            Some(object) => object.member("id")?,
            None => member(related, "id")?,
        };
        let customer = match member(object, "customer")? {
            // An expanded customer.
            Some(customer) if customer.is_object() => customer.member("id")?,
            other => other,
        };
        Ok(Self {
            id,
            r#type: name(kind),
            created: created.and_then(time::of_json),
            about: name(about),
            customer: name(customer),
            account: name(account),
        })
    }
}
