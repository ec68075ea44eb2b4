//! GitHub's events, as JSON or in the field `payload` of a form.

use super::Request;
use super::draft::{self, body_key, name};
use super::form::Repeated;
use super::json::{Json, Unreadable};
use super::payload::{Payload, is_form};
use crate::event::{Event, Kind, Source};
use crate::message::{Name, Timestamp};

/// The event of a verified request. Its id and its type stand in headers, which are not signed.
pub(super) fn event(source: &Source, request: &Request<'_>, received_at: Timestamp) -> Event {
    let payload = Payload::read(request.body, is_form(request.header("content-type").as_ref()));
    let data = payload.data();
    let Fields { action, sender, sender_id, repository } = match read(&payload) {
        Ok(fields) => fields,
        Err(why) => return draft::malformed(source, why, request.body, received_at, data),
    };
    let delivery = request.header("x-github-delivery").filter(|id| !id.is_empty());
    let key = delivery.map_or_else(|| body_key(request.body), |id| format!("delivery/{id}"));
    let mut event = draft::event(source, Kind::Event, &key, received_at, data);
    event.r#type = request.header("x-github-event").and_then(|kind| match action {
        Some(action) => Name::lossy(&format!("{kind}.{action}")),
        None => Name::lossy(&kind),
    });
    (event.from, event.user_id) = (sender, sender_id);
    (event.to, event.thread) = (repository.clone(), repository);
    event.account = request.header("x-github-hook-id").and_then(|hook| Name::lossy(&hook));
    event
}

struct Fields {
    action: Option<String>,
    sender: Option<Name>,
    sender_id: Option<Name>,
    repository: Option<Name>,
}

fn read(payload: &Payload<'_>) -> Result<Fields, Unreadable> {
    let Payload::Form(form, _) = payload else { return Fields::read(payload.json()?) };
    let inner = form.only("payload").map_err(|Repeated| Unreadable::RepeatedMember)?;
    Fields::read(Json::parse(inner.ok_or(Unreadable::NotJson)?)?)
}

impl Fields {
    fn read(json: Json<'_>) -> Result<Self, Unreadable> {
        let [action, sender, repository] = json.members(["action", "sender", "repository"])?;
        let (sender, sender_id) = match sender.filter(|sender| sender.is_object()) {
            Some(sender) => sender.members(["login", "id"]).map(|[login, id]| (name(login), name(id)))?,
            None => (None, None),
        };
        let repository = repository.map_or(Ok(None), |repository| repository.member("full_name"))?;
        let action = action.and_then(Json::string).filter(|action| !action.is_empty());
        Ok(Self { action, sender, sender_id, repository: name(repository) })
    }
}
