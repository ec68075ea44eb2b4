//! Slack's events, slash commands and interactions.

use super::draft::{self, body_key, name, text, written};
use super::form::{Form, Repeated};
use super::json::{Json, Unreadable};
use super::payload::{Payload, is_form};
use super::{Request, time};
use crate::event::{Event, Kind, Source};
use crate::message::{Name, Timestamp};

/// The subtypes of `message` that are what a person or an app has written; the others are notices.
const WRITTEN: [&str; 5] = ["bot_message", "file_share", "me_message", "reply_broadcast", "thread_broadcast"];

/// The event of a verified request.
pub(super) fn event(source: &Source, request: &Request<'_>, received_at: Timestamp) -> Event {
    let payload = Payload::read(request.body, is_form(request.header("content-type").as_ref()));
    let data = payload.data();
    let fields = match &payload {
        Payload::Form(form, _) => of_form(form),
        _ => payload.json().and_then(of_json),
    };
    let fields = match fields {
        Ok(fields) => fields,
        Err(why) => return draft::malformed(source, why, request.body, received_at, data),
    };
    let key = fields.id.as_ref().map_or_else(|| body_key(request.body), |id| format!("event/{id}"));
    let event = draft::event(source, fields.kind, &key, received_at, data);
    draft::finished(fields.fill(event))
}

struct Fields {
    id: Option<String>,
    kind: Kind,
    r#type: Option<Name>,
    user: Option<Name>,
    /// Who writes where nobody does who has a user id.
    bot: Option<Name>,
    channel: Option<Name>,
    /// The time by which Slack names the message that the event is about.
    about: Option<Name>,
    team: Option<Name>,
    ts: Option<Timestamp>,
    text: Option<Box<str>>,
}

impl Fields {
    fn fill(self, mut event: Event) -> Event {
        event.r#type = self.r#type;
        event.from = self.user.clone().or(self.bot);
        event.user_id = self.user;
        event.r#ref =
            self.channel.as_ref().zip(self.about).and_then(|(channel, about)| {
                Name::lossy(&format!("{}/{}", channel.as_str(), about.as_str()))
            });
        (event.to, event.thread) = (self.channel.clone(), self.channel);
        event.account = self.team;
        event.ts = self.ts;
        event.text = self.text;
        event
    }
}

/// A request of the Events API: an event in its envelope, or a notice without one.
fn of_json(json: Json<'_>) -> Result<Fields, Unreadable> {
    let [id, kind, team, sent_at, event] =
        json.members(["event_id", "type", "team_id", "event_time", "event"])?;
    let mut fields = match event.filter(|event| event.is_object()) {
        Some(event) => of_event(event)?,
        None => Fields {
            id: None,
            kind: Kind::Event,
            r#type: name(kind),
            user: None,
            bot: None,
            channel: None,
            about: None,
            team: None,
            ts: None,
            text: None,
        },
    };
    fields.id = id.and_then(Json::word).filter(|id| !id.is_empty());
    fields.team = name(team);
    fields.ts = sent_at.and_then(time::of_json).or(fields.ts);
    Ok(fields)
}

/// The event within its envelope.
fn of_event(event: Json<'_>) -> Result<Fields, Unreadable> {
    let [kind, subtype, user, bot, channel, words, ts] =
        event.members(["type", "subtype", "user", "bot_id", "channel", "text", "ts"])?;
    let [message, deleted, reaction, item] = event.members(["message", "deleted_ts", "reaction", "item"])?;
    let (kind_word, subtype_word) = (string(kind), string(subtype));
    let kind = kind_of(&kind_word, &subtype_word);
    let word = if subtype_word.is_empty() { kind_word } else { format!("{kind_word}.{subtype_word}") };
    let mut fields = Fields {
        id: None,
        kind,
        r#type: Name::lossy(&word),
        user: id_of(user)?,
        bot: name(bot),
        channel: id_of(channel)?,
        about: name(ts),
        team: None,
        ts: ts.and_then(time::of_json),
        // What a notice says, Slack has written and nobody else.
        text: text(words).filter(|_| kind == Kind::Message),
    };
    if let Some(message) = message.filter(|message| kind == Kind::Edit && message.is_object()) {
        let [user, bot, words, ts] = message.members(["user", "bot_id", "text", "ts"])?;
        (fields.user, fields.bot) = (id_of(user)?, name(bot));
        (fields.text, fields.about) = (text(words), name(ts));
    }
    if kind == Kind::Revoke {
        fields.about = name(deleted);
    }
    if kind == Kind::Reaction {
        fields.text = text(reaction);
        if let Some(item) = item.filter(|item| item.is_object()) {
            let [channel, ts] = item.members(["channel", "ts"])?;
            (fields.channel, fields.about) = (id_of(channel)?, name(ts));
        }
    }
    Ok(fields)
}

fn kind_of(kind: &str, subtype: &str) -> Kind {
    match (kind, subtype) {
        ("message", "message_changed") => Kind::Edit,
        ("message", "message_deleted") => Kind::Revoke,
        ("message" | "app_mention", "") => Kind::Message,
        ("message" | "app_mention", written) if WRITTEN.contains(&written) => Kind::Message,
        ("message", _) => Kind::System,
        ("reaction_added" | "reaction_removed", _) => Kind::Reaction,
        _ => Kind::Event,
    }
}

/// A form: a slash command, or an interaction in the field `payload`.
fn of_form(form: &Form) -> Result<Fields, Unreadable> {
    let field = |name| form.only(name).map_err(|Repeated| Unreadable::RepeatedMember);
    let named = |name| Ok(field(name)?.and_then(|value| Name::lossy(&String::from_utf8_lossy(value))));
    let fields = Fields {
        id: None,
        kind: Kind::Event,
        r#type: named("command")?,
        user: named("user_id")?,
        bot: None,
        channel: named("channel_id")?,
        about: None,
        team: named("team_id")?,
        ts: None,
        text: field("text")?.and_then(|value| written(&String::from_utf8_lossy(value))),
    };
    let Some(payload) = field("payload")? else { return Ok(fields) };
    let [kind, user, channel, team] = Json::parse(payload)?.members(["type", "user", "channel", "team"])?;
    let (user, channel, team) = (id_of(user)?, id_of(channel)?, id_of(team)?);
    Ok(Fields { r#type: name(kind), user, channel, team, text: None, ..fields })
}

/// An id, or the id of an object.
fn id_of(json: Option<Json<'_>>) -> Result<Option<Name>, Unreadable> {
    match json {
        Some(object) if object.is_object() => Ok(name(object.member("id")?)),
        other => Ok(name(other)),
    }
}

fn string(json: Option<Json<'_>>) -> String {
    json.and_then(Json::string).unwrap_or_default()
}
