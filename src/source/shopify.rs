//! Shopify's notices about the objects of a shop.

use super::draft::{self, body_key, name};
use super::json::{Json, Unreadable};
use super::payload::Payload;
use super::{Request, time};
use crate::event::{Event, Kind, Source};
use crate::message::{Name, Timestamp};

/// The event of a verified request. Its id, its topic and its shop stand in headers, which are not signed.
pub(super) fn event(source: &Source, request: &Request<'_>, received_at: Timestamp) -> Event {
    let payload = Payload::read(request.body, false);
    let data = payload.data();
    let header = |name| request.header(name).filter(|value| !value.is_empty());
    let (about, customer) = match payload.json().and_then(read) {
        Ok(ids) => ids,
        Err(why) => return draft::malformed(source, why, request.body, received_at, data),
    };
    let id = header("x-shopify-webhook-id");
    let key = id.map_or_else(|| body_key(request.body), |id| format!("webhook/{id}"));
    let mut event = draft::event(source, Kind::Event, &key, received_at, data);
    event.r#type = header("x-shopify-topic").and_then(|topic| Name::lossy(&topic));
    let shop = header("x-shopify-shop-domain").and_then(|shop| Name::lossy(&shop));
    (event.to, event.account) = (shop.clone(), shop);
    (event.thread, event.r#ref) = (about.clone(), about);
    event.user_id = customer;
    event.ts = header("x-shopify-triggered-at").and_then(|at| time::of_text(&at));
    event
}

/// The id of the object, and that of its customer.
fn read(json: Json<'_>) -> Result<(Option<Name>, Option<Name>), Unreadable> {
    let [id, customer] = json.members(["id", "customer"])?;
    let customer = customer.map_or(Ok(None), |customer| customer.member("id"))?;
    Ok((name(id), name(customer)))
}
