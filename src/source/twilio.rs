//! Twilio: what is peculiar to its signatures, and its messages, statuses and calls.
//!
//! It signs the address that it sends to and the fields of the form, or, for another body, an address that holds the body's
//! SHA-256 as `bodySHA256`.

use std::borrow::Cow;

use axum::http::HeaderName;
use sha2::{Digest, Sha256};

use super::draft::{self, body_key, written};
use super::form::{Form, Repeated};
use super::json::Unreadable;
use super::mac::{Encoding, Hash};
use super::payload::{Payload, is_form};
use super::verify::{Refusal, only};
use super::{Provider, Request, Settings};
use crate::event::{Data, Event, Kind, Source};
use crate::message::{Name, Timestamp};
use crate::signature::same_secret;

/// Names the secret and the hash of a request by the newer scheme.
const SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");
/// The hash of the newer scheme.
pub(super) const NEWER_HASH: Hash = Hash::Sha256;
const CONTENT_TYPE: &str = "content-type";

/// What the newer scheme's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SignatureSettings {
    /// The name of the secret.
    pub(super) key: String,
}

/// Reads the header of the newer scheme; `None` if there is none, or for another provider.
pub(super) fn signature_settings(
    settings: &Settings,
    request: &Request<'_>,
) -> Result<Option<(SignatureSettings, Hash)>, Refusal> {
    if settings.provider != Provider::Twilio {
        return Ok(None);
    }
    let value = match only(request, &SETTINGS) {
        Ok(value) => value.to_str().map_err(|_| Refusal::MalformedHeader)?,
        Err(Refusal::MissingHeader) => return Ok(None),
        Err(other) => return Err(other),
    };
    let (mut key, mut algorithm) = (None, None);
    for pair in value.split(',') {
        let (name, value) = pair.trim().split_once('=').ok_or(Refusal::MalformedHeader)?;
        let slot = match name {
            "key" => &mut key,
            "algorithm" => &mut algorithm,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(Refusal::MalformedHeader);
        }
    }
    match (key, algorithm) {
        (Some(key), Some("HMAC_SHA256")) => Ok(Some((SignatureSettings { key: key.to_owned() }, NEWER_HASH))),
        _ => Err(Refusal::MalformedHeader),
    }
}

/// The fields that are signed: those of a form; none for another body, or for another provider.
///
/// Reading them before they are verified cannot be helped. A field without `=`, which Twilio never sends, would be signed as
/// one with it.
pub(super) fn signed_fields(settings: &Settings, request: &Request<'_>) -> Result<Form, Refusal> {
    let is_signed = settings.provider == Provider::Twilio && is_form(request.header(CONTENT_TYPE).as_ref());
    let body = if is_signed { request.body } else { &[] };
    let is_whole = |field: &[u8]| field.is_empty() || field.contains(&b'=');
    if !body.split(|byte| *byte == b'&').all(is_whole) {
        return Err(Refusal::NoMatch);
    }
    Form::parse(body).ok_or(Refusal::NoMatch)
}

/// The addresses that the request may have been sent to: with the port of its scheme, and without any. One empty address for
/// other providers, which sign none.
pub(super) fn urls(settings: &Settings, request: &Request<'_>) -> Vec<String> {
    let Some(public_url) = &settings.public_url else { return vec![String::new()] };
    let base = public_url.trim_end_matches('/');
    let (without, with) = ports(base);
    [without, with].map(|base| format!("{base}{}", request.target)).to_vec()
}

/// An address without a port, and with one: its own, or that of its scheme.
fn ports(url: &str) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (authority, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len())).unwrap_or((rest, ""));
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(user, host)| (user, host));
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    let port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (name, port) = match host.rsplit_once(':') {
        Some((name, number)) if port(number) => (name, number),
        _ => (host, if scheme == "http" { "80" } else { "443" }),
    };
    (format!("{scheme}://{user}{name}{path}"), format!("{scheme}://{user}{name}:{port}{path}"))
}

/// Checks the hash of the body in a signed address. A form needs none, but where there is one it counts, lest a signed
/// address be used with another body.
pub(super) fn check_body_hash(settings: &Settings, request: &Request<'_>) -> Result<(), Refusal> {
    if settings.provider != Provider::Twilio {
        return Ok(());
    }
    let query = Form::of_target(request.target).ok_or(Refusal::BodyHash)?;
    let given = query.only("bodySHA256").map_err(|Repeated| Refusal::BodyHash)?;
    let is_right = |given: &[u8]| {
        let given = Encoding::Hex.decode(given, Hash::Sha256.length());
        given.is_some_and(|given| same_secret(&given, &Sha256::digest(request.body)))
    };
    let is_covered = given.map_or_else(|| is_form(request.header(CONTENT_TYPE).as_ref()), is_right);
    if is_covered { Ok(()) } else { Err(Refusal::BodyHash) }
}

/// The event of a verified request.
pub(super) fn event(source: &Source, request: &Request<'_>, received_at: Timestamp) -> Event {
    let payload = Payload::read(request.body, is_form(request.header(CONTENT_TYPE).as_ref()));
    let data = payload.data();
    match &payload {
        Payload::Form(form, _) => match Fields::read(form) {
            Ok(fields) => fields.event(source, request.body, received_at, data),
            Err(Repeated) => {
                draft::malformed(source, Unreadable::RepeatedMember, request.body, received_at, data)
            }
        },
        Payload::Json(..) => draft::event(source, Kind::Event, &body_key(request.body), received_at, data),
        Payload::Other(_, why) => draft::malformed(source, *why, request.body, received_at, data),
    }
}

/// The fields of a form that an event is made of.
struct Fields<'a> {
    message: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
    sms_status: Option<Cow<'a, str>>,
    call: Option<Cow<'a, str>>,
    call_status: Option<Cow<'a, str>>,
    direction: Option<Cow<'a, str>>,
    other: Option<Cow<'a, str>>,
    from: Option<Cow<'a, str>>,
    to: Option<Cow<'a, str>>,
    user: Option<Cow<'a, str>>,
    body: Option<Cow<'a, str>>,
    account: Option<Cow<'a, str>>,
}

impl<'a> Fields<'a> {
    fn read(form: &'a Form) -> Result<Self, Repeated> {
        let field = |name| {
            let value = form.only(name)?.filter(|value| !value.is_empty());
            Ok(value.map(String::from_utf8_lossy))
        };
        Ok(Self {
            message: field("MessageSid")?.or(field("SmsSid")?),
            status: field("MessageStatus")?,
            sms_status: field("SmsStatus")?,
            call: field("CallSid")?,
            call_status: field("CallStatus")?,
            direction: field("Direction")?,
            other: field("EventType")?,
            from: field("From")?,
            to: field("To")?,
            user: field("ExternalUserId")?,
            body: field("Body")?,
            account: field("AccountSid")?,
        })
    }

    fn event(self, source: &Source, body: &[u8], received_at: Timestamp, data: Data) -> Event {
        let is_incoming = |status: &str| matches!(status, "received" | "receiving");
        // What an older status callback has in place of MessageStatus.
        let status = self.status.or_else(|| self.sms_status.clone().filter(|status| !is_incoming(status)));
        let (kind, key, word, about) = match (self.other, self.message, status, self.call, self.call_status) {
            // A conversation's callbacks name one message many times.
            (Some(other), ..) => (Kind::Event, body_key(body), Some(other), None),
            (None, Some(id), Some(status), ..) => {
                (Kind::Status, format!("status/{id}/{status}"), Some(status), Some(id))
            }
            (None, Some(id), None, ..) => (Kind::Message, id.into_owned(), self.sms_status, None),
            (None, None, _, Some(id), Some(status)) => {
                (Kind::Call, format!("call/{id}/{status}"), Some(status), Some(id))
            }
            (None, None, _, call, _) => (Kind::Event, body_key(body), None, call),
        };
        let named = |value: Option<Cow<'_, str>>| value.as_deref().and_then(Name::lossy);
        let (from, to) = (party(self.from.as_deref()), party(self.to.as_deref()));
        let is_outgoing = self.direction.is_some_and(|direction| direction.starts_with("outbound"));
        let is_to_outside = kind == Kind::Status || (kind == Kind::Call && is_outgoing);
        let mut event = draft::event(source, kind, &key, received_at, data);
        event.thread = if is_to_outside { to.clone() } else { from.clone() };
        event.from = from.filter(|_| kind != Kind::Status);
        event.to = to;
        (event.r#type, event.r#ref) = (named(word), named(about));
        (event.user_id, event.account) = (named(self.user), named(self.account));
        event.text = self.body.as_deref().filter(|_| kind == Kind::Message).and_then(written);
        draft::finished(event)
    }
}

/// A person or a number, without the channel before a WhatsApp address or a phone number.
fn party(address: Option<&str>) -> Option<Name> {
    let address = address?;
    let within = match address.split_once(':') {
        Some((channel, rest)) if channel == "whatsapp" || Name::phone_number(rest).is_ok() => rest,
        _ => address,
    };
    Name::lossy(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_signed_with_its_port_or_without() {
        for (url, without, with) in [
            ("https://a.test", "https://a.test", "https://a.test:443"),
            ("http://a.test/p/q", "http://a.test/p/q", "http://a.test:80/p/q"),
            ("https://a.test:8443/p", "https://a.test/p", "https://a.test:8443/p"),
            ("https://u:p@a.test", "https://u:p@a.test", "https://u:p@a.test:443"),
            ("https://[::1]:8/p", "https://[::1]/p", "https://[::1]:8/p"),
            ("https://[::1]", "https://[::1]", "https://[::1]:443"),
        ] {
            assert_eq!(ports(url), (without.to_owned(), with.to_owned()), "{url}");
        }
    }

    #[test]
    fn a_party_is_a_number_or_a_name_without_its_channel() {
        for (address, expected) in [
            (Some("+1555"), Some("+1555")),
            (Some("whatsapp:+1555"), Some("+1555")),
            (Some("whatsapp:US.X1"), Some("US.X1")),
            (Some("rcs:+1555"), Some("+1555")),
            (Some("messenger:123"), Some("messenger:123")),
            (Some("sip:a@b.test"), Some("sip:a@b.test")),
            (Some("whatsapp:"), None),
            (None, None),
        ] {
            assert_eq!(party(address).as_ref().map(Name::as_str), expected, "{address:?}");
        }
    }
}
