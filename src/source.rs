//! Sources: where deliveries come from. Each is configured with its provider and its secrets; here it is decided whether a
//! request was signed with one of them, and what events it holds.
//!
//! Pure: no I/O, no clock. What enters from outside (time, environment, files) is handed in.
//!
//! The order for a `POST /webhook/{name}`: [`Settings::present`] judges the headers before the body is read;
//! [`Settings::verify`] judges the whole; [`Settings::challenge`] finds a handshake; [`Settings::events`] gives what is to be
//! stored. Nothing is parsed before it is verified.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Secret;
use crate::erasure::KeptFor;
use crate::event::{Event, Source};
use crate::message::Timestamp;

mod config;
mod doctor;
mod draft;
pub(crate) mod form;
mod github;
mod handshake;
mod hmac;
mod json;
mod mac;
mod payload;
mod pointer;
mod repeats;
mod sample;
mod scheme;
mod shopify;
mod sign;
mod slack;
mod standard;
mod stripe;
mod time;
mod twilio;
mod verify;
pub mod whatsapp;

pub use config::{Config, Outside};
pub use doctor::{Diagnosis, Finding, examine};
pub use handshake::Greeting;
pub use mac::{Encoding, Hash, Key, Signature};
pub use pointer::{BadPointer, Pointer};
pub use repeats::{BodyDigest, Repeats};
pub use sample::{Delivery, Sample};
pub use scheme::{BadTemplate, Form, Headers, Part, Scheme, TOLERANCE_SECS, Template};
pub use verify::{Presented, Refusal};

/// Whose requests a source receives; the `kind` of a source in its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// The WhatsApp Cloud API of Meta.
    WhatsApp,
    /// Any sender that follows Standard Webhooks, with its own header names or Svix's.
    StandardWebhooks,
    /// Stripe.
    Stripe,
    /// GitHub.
    Github,
    /// Slack's Events API.
    Slack,
    /// Shopify.
    Shopify,
    /// Twilio.
    Twilio,
    /// Any sender that signs with an HMAC, described by the configuration.
    Hmac,
}

impl Provider {
    /// Every provider with its word in the configuration.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::WhatsApp, "whatsapp"),
        (Self::StandardWebhooks, "standard-webhooks"),
        (Self::Stripe, "stripe"),
        (Self::Github, "github"),
        (Self::Slack, "slack"),
        (Self::Shopify, "shopify"),
        (Self::Twilio, "twilio"),
        (Self::Hmac, "hmac"),
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(provider, _)| *provider == self).map_or("", |(_, word)| word)
    }

    /// Whether the id of a request stands in a header that is not signed, so that whoever has seen a request can send it again
    /// as another one.
    pub fn has_unsigned_id(self) -> bool {
        matches!(self, Self::Github | Self::Shopify)
    }
}

/// One source as it is configured, every setting checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub name: Source,
    /// Whose requests it receives.
    pub provider: Provider,
    /// What it verifies by, at least one.
    pub secrets: Vec<NamedSecret>,
    /// How its requests are signed.
    pub scheme: Scheme,
    /// The token of Meta's handshake.
    pub verify_token: Option<Secret>,
    /// Maximum size of a body, in bytes. Exactly that is accepted.
    pub max_body_bytes: usize,
    /// The address that the outside knows Lyftr by, without the path of the source. Twilio signs it.
    pub public_url: Option<String>,
    /// Where fields of an event stand in the body, for sources that say so.
    pub pointers: Pointers,
    /// How long its events are kept, if not as long as those of other sources.
    pub kept_for: Option<KeptFor>,
}

/// A secret and the name that metrics and log lines know it by.
#[derive(Debug, Clone)]
pub struct NamedSecret {
    /// Its name, unique within the source.
    pub name: String,
    /// The key.
    pub key: Key,
    /// What was read, for [`examine`].
    pub(crate) given: Secret,
}

/// Where fields of an event stand in the body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the field of an event that has its name")]
pub struct Pointers {
    pub key: Option<Pointer>,
    pub r#type: Option<Pointer>,
    pub from: Option<Pointer>,
    pub to: Option<Pointer>,
    pub ts: Option<Pointer>,
    pub text: Option<Pointer>,
    pub thread: Option<Pointer>,
}

/// A request to a source.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The request target as it was sent: path and query.
    pub target: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The raw bytes of the body; empty while it is not read yet.
    pub body: &'a [u8],
}

/// What a verified request was signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The place of the secret among the secrets of the source.
    pub secret: usize,
    /// The signed time, in Unix seconds.
    pub signed_at: Option<i64>,
    /// The signed id.
    pub signed_id: Option<String>,
}

impl Settings {
    /// Judges the headers of a request, before its body is read.
    ///
    /// # Errors
    /// [`Refusal`] if one is absent, stands more than once or has another form than the scheme's.
    pub fn present(&self, request: &Request<'_>) -> Result<Presented, Refusal> {
        verify::presented(self, request)
    }

    /// Judges a request whose headers are known to be in form, at the time `now` in Unix seconds.
    ///
    /// # Errors
    /// [`Refusal`] if no secret made the signature, or its time is too far from `now`, or it does not cover the body.
    pub fn verify(
        &self,
        presented: &Presented,
        request: &Request<'_>,
        now: i64,
    ) -> Result<Verified, Refusal> {
        verify::verify(self, presented, request, now)
    }

    /// Both judgements, one after the other.
    ///
    /// # Errors
    /// [`Refusal`] of the first that fails.
    pub fn judge(&self, request: &Request<'_>, now: i64) -> Result<Verified, Refusal> {
        self.verify(&self.present(request)?, request, now)
    }

    /// The headers that sign a request as the provider would, with the first secret that can sign, at the time `now` in Unix
    /// seconds; `id` is the id of the request, for schemes that sign one. `None` if no secret can, as a public key cannot.
    pub fn sign(&self, request: &Request<'_>, id: &str, now: i64) -> Option<Vec<(HeaderName, HeaderValue)>> {
        sign::sign(self, request, id, now)
    }

    /// Answers a `GET`, by which Meta asks whether this is the right place.
    pub fn greet(&self, target: &str) -> Greeting {
        handshake::greet(self, target)
    }

    /// The challenge to be answered where a verified request is nothing but a handshake, as Slack's `url_verification` is.
    pub fn challenge(&self, request: &Request<'_>) -> Option<String> {
        (self.provider == Provider::Slack).then(|| handshake::slack(request.body)).flatten()
    }

    /// The events of a verified request, at least one, in the order of its body. `received_at` is Lyftr's clock, in
    /// milliseconds.
    pub fn events(&self, request: &Request<'_>, verified: &Verified, received_at: Timestamp) -> Vec<Event> {
        let event = match self.provider {
            Provider::WhatsApp => return whatsapp::events(request.body, &self.name, received_at),
            Provider::StandardWebhooks => standard::event(self, request, verified, received_at),
            Provider::Stripe => stripe::event(&self.name, request, received_at),
            Provider::Github => github::event(&self.name, request, received_at),
            Provider::Slack => slack::event(&self.name, request, received_at),
            Provider::Shopify => shopify::event(&self.name, request, received_at),
            Provider::Twilio => twilio::event(&self.name, request, received_at),
            Provider::Hmac => hmac::event(self, request, received_at),
        };
        vec![event]
    }
}
