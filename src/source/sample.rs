//! Realistic deliveries of each provider, for `lyftr send`: what a newcomer sends before having an account there.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::{Pointer, Provider, Settings};

/// What a delivery is to tell.
#[derive(Debug, Clone)]
pub struct Sample<'a> {
    /// The id of the event.
    pub id: &'a str,
    /// The sender, a phone number.
    pub from: &'a str,
    /// The recipient, a phone number.
    pub to: &'a str,
    /// What a person typed.
    pub text: &'a str,
    /// When.
    pub at: jiff::Timestamp,
}

/// A request that is not signed yet.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The headers, without those of the signature.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Sample<'_> {
    /// The delivery as the provider of a source sends it: a text message, or its most usual event.
    pub fn delivery(&self, settings: &Settings) -> Delivery {
        let Self { id, text, at, .. } = *self;
        let seconds = at.as_second();
        let (headers, body): (&[(&'static str, &str)], Value) = match settings.provider {
            Provider::WhatsApp => (&[], self.whatsapp()),
            Provider::Stripe => {
                let object = json!({"id": "pi_1", "object": "payment_intent", "amount": 1999, "currency": "eur",
                    "description": text, "customer": "cus_1"});
                let event = json!({"id": id, "object": "event", "created": seconds, "type": "payment_intent.succeeded",
                    "livemode": false, "data": {"object": object}});
                (&[], event)
            }
            Provider::Github => {
                let body = json!({"action": "opened", "issue": {"number": 1, "title": text},
                    "repository": {"id": 1, "full_name": "octo-org/example"}, "sender": {"login": "octocat", "id": 1}});
                (&[("x-github-event", "issues"), ("x-github-delivery", id), ("x-github-hook-id", "1")], body)
            }
            Provider::Slack => {
                let event = json!({"type": "message", "user": "U0000000001", "channel": "C0000000001", "text": text,
                    "ts": format!("{seconds}.000100")});
                let body = json!({"type": "event_callback", "team_id": "T0000000001", "event_id": id,
                    "event_time": seconds, "event": event});
                (&[], body)
            }
            Provider::Shopify => {
                let body = json!({"id": 1, "name": "#1001", "note": text, "customer": {"id": 1}});
                let shop = ("x-shopify-shop-domain", "example.myshopify.com");
                (&[("x-shopify-topic", "orders/create"), ("x-shopify-webhook-id", id), shop], body)
            }
            Provider::StandardWebhooks => (
                &[],
                json!({"type": "message.created", "timestamp": at.to_string(), "data": {"id": id, "text": text}}),
            ),
            Provider::Twilio => return self.twilio(),
            Provider::Hmac => (&[], self.by_pointers(settings)),
        };
        let mut body = body;
        if let (Provider::StandardWebhooks, Some(pointer)) = (settings.provider, &settings.pointers.key) {
            put(&mut body, pointer, json!(id));
        }
        delivery("application/json", headers, body.to_string().into_bytes())
    }

    fn whatsapp(&self) -> Value {
        let digits = |number: &str| number.trim_start_matches('+').to_owned();
        let (from, to) = (digits(self.from), digits(self.to));
        let message = json!({"from": from, "id": self.id, "timestamp": self.at.as_second().to_string(), "type": "text",
            "text": {"body": self.text}});
        let value = json!({"messaging_product": "whatsapp",
            "metadata": {"display_phone_number": to, "phone_number_id": "106540352242922"},
            "contacts": [{"profile": {"name": "Asha"}, "wa_id": from}], "messages": [message]});
        let entry = json!({"id": "102290129340398", "changes": [{"value": value, "field": "messages"}]});
        json!({"object": "whatsapp_business_account", "entry": [entry]})
    }

    fn twilio(&self) -> Delivery {
        let account = "AC00000000000000000000000000000000";
        let fields = [
            ("MessageSid", self.id),
            ("AccountSid", account),
            ("From", self.from),
            ("To", self.to),
            ("Body", self.text),
        ];
        let pair =
            |(name, value): (&str, &str)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        let body = fields.map(pair).join("&").into_bytes();
        delivery("application/x-www-form-urlencoded", &[], body)
    }

    /// A body that has every field where the source looks for it.
    fn by_pointers(&self, settings: &Settings) -> Value {
        let mut body = json!({});
        let pointers = &settings.pointers;
        for (pointer, value) in [
            (&pointers.key, json!(self.id)),
            (&pointers.r#type, json!("message")),
            (&pointers.from, json!(self.from)),
            (&pointers.to, json!(self.to)),
            (&pointers.ts, json!(self.at.to_string())),
            (&pointers.text, json!(self.text)),
            (&pointers.thread, json!(self.from)),
        ] {
            if let Some(pointer) = pointer {
                put(&mut body, pointer, value);
            }
        }
        body
    }
}

fn delivery(media: &'static str, headers: &[(&'static str, &str)], body: Vec<u8>) -> Delivery {
    let mut map = HeaderMap::new();
    for (name, value) in [&[("content-type", media)], headers].concat() {
        // What no header can hold is left out.
        if let Ok(value) = HeaderValue::from_str(value) {
            map.insert(HeaderName::from_static(name), value);
        }
    }
    Delivery { headers: map, body }
}

/// Puts a value where a pointer leads, through objects that are made on the way.
fn put(body: &mut Value, pointer: &Pointer, value: Value) {
    let mut at = body;
    for name in pointer.names() {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[name.as_str()];
    }
    *at = value;
}
