//! Sources: their configuration, and what becomes of a delivery.

use std::ffi::OsString;
use std::path::Path;
use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue};
use lyftr::event::{Event, Kind};
use lyftr::message::{Name, Timestamp};
use lyftr::source::{Config, Encoding, Outside, Provider, Request, Settings, examine};
use serde::de::IgnoredAny;

use super::signature::changes;

const NOW: i64 = 1_795_000_000;
/// A secret that each provider takes.
const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
/// Bodies up to this size are changed in every way that is tried.
const CHANGED_MAX: usize = 4 << 10;

/// A configuration, of which every variable and every file holds the same secret.
fn parse(text: &str) -> Result<Config, Vec<String>> {
    let variable = |_: &str| Some(OsString::from(SECRET));
    let file = |_: &Path| Ok(SECRET.as_bytes().to_vec());
    Config::parse(text, Outside { variable: &variable, file: &file }).map_err(|errors| errors.0)
}

/// The text of a configuration.
///
/// # Panics
/// If one is taken whose sources break a rule, or refused without a line of the text.
pub fn sources(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse(text) {
        Ok(config) => {
            assert!(text.matches("source").count() >= config.sources.len().min(1));
            for (nth, source) in config.sources.iter().enumerate() {
                let name = source.name.as_str();
                assert!(config.sources.iter().skip(nth + 1).all(|other| other.name != source.name));
                assert!(name != "webhook" && (1..=40).contains(&name.len()));
                assert!(!source.secrets.is_empty() && (1..=64 << 20).contains(&source.max_body_bytes));
                assert!((1..=86_400).contains(&source.scheme.tolerance_secs));
                assert_eq!(source.public_url.is_some(), source.provider == Provider::Twilio);
                assert!(!format!("{source:?}").contains(SECRET));
            }
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            let lines = text.matches('\n').count() + 1;
            for error in &errors {
                let number =
                    error.strip_prefix("line ").and_then(|rest| rest.split_once(": ")).map(|(line, _)| line);
                let number: usize =
                    number.and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("{error}"));
                assert!((1..=lines).contains(&number), "{error}");
                assert!(!error.contains(SECRET));
            }
        }
    }
}

/// A source of each provider.
static SOURCES: LazyLock<Vec<Settings>> = LazyLock::new(|| {
    let mut text = String::new();
    for (provider, word) in Provider::ALL {
        let keys = [("name", word), ("kind", word)].map(|(key, value)| format!("{key} = \"{value}\"\n"));
        text += "[[source]]\nsecrets = [{ name = \"a\", env = \"A\" }]\n";
        text += &keys.concat();
        text += match provider {
            Provider::Twilio => "public_url = \"https://a.test\"\n",
            Provider::Hmac => {
                "header = \"x-s\"\nkey = \"/id\"\ntype = \"/a/0\"\nfrom = \"/from\"\nts = \"/ts\"\ntext = \"/text\"\nthread = \"\"\n"
            }
            _ => "",
        };
    }
    parse(&text).unwrap().sources
});

/// A delivery: a byte that chooses the source and whether the body is a form, a line that is its signature's header, and the
/// body.
///
/// # Panics
/// If it is taken though it was changed, or not taken though it is right, or if its events break a rule.
pub fn delivery(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let mut parts = rest.splitn(2, |byte| *byte == b'\n');
    let (header, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let settings = &SOURCES[usize::from(choice % 16) / 2];
    let is_form = choice % 2 == 1;
    let mut headers = HeaderMap::new();
    let content_type = if is_form { "application/x-www-form-urlencoded" } else { "application/json" };
    headers.insert("content-type", HeaderValue::from_static(content_type));
    let given = HeaderValue::from_bytes(header);
    for name in ["x-github-delivery", "x-github-event", "x-shopify-webhook-id", "x-shopify-triggered-at"] {
        if let Ok(value) = &given {
            headers.insert(name, value.clone());
        }
    }
    let target = target(settings, is_form, body);
    let signed = settings.sign(&Request { target: &target, headers: &headers, body }, "m-1", NOW);
    // Fields without `=`, and too many of them, are signed by nobody.
    let Some(signed) = signed else { return };
    for (name, value) in signed {
        headers.insert(name, value);
    }
    let request = Request { target: &target, headers: &headers, body };
    let verified = settings.judge(&request, NOW).unwrap();
    let events = settings.events(&request, &verified, Timestamp::EPOCH);
    assert_eq!(events, settings.events(&request, &verified, Timestamp::EPOCH));
    assert!(!events.is_empty());
    for event in &events {
        check(settings, event);
    }
    // Fields may be written in many ways that mean the same, and one that means another may be signed alike.
    if body.len() <= CHANGED_MAX && settings.provider != Provider::Twilio {
        for changed in changes(body) {
            assert!(settings.judge(&Request { body: &changed, ..request }, NOW).is_err(), "{changed:?}");
        }
    }
    let signature = settings.scheme.headers[0].signature.clone();
    if let Ok(value) = given {
        let right = headers.insert(&signature, value.clone()).unwrap();
        let request = Request { target: &target, headers: &headers, body };
        let is_hex = settings.scheme.encoding == Encoding::Hex;
        let is_right = value.as_bytes() == right.as_bytes()
            || (is_hex && value.as_bytes().eq_ignore_ascii_case(right.as_bytes()));
        let judged = settings.judge(&request, NOW);
        assert!(
            judged.is_err()
                || is_right
                || settings.scheme.headers.len() > 1
                || settings.provider == Provider::Stripe
        );
        if body.len() < 64 {
            assert_eq!(examine(settings, &request, NOW).verdict, judged);
        }
        let _any = (settings.challenge(&request), settings.greet(&target));
    }
}

/// The request target; that of Twilio covers a body that is no form.
fn target(settings: &Settings, is_form: bool, body: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    if settings.provider != Provider::Twilio || is_form {
        return "/webhook/a?b=1".to_owned();
    }
    format!("/webhook/a?bodySHA256={}", Encoding::Hex.encode(&Sha256::digest(body)))
}

/// What holds for every event.
fn check(settings: &Settings, event: &Event) {
    assert_eq!(event.source, settings.name);
    assert_eq!(event.received_at, Some(Timestamp::EPOCH));
    let Event { key, r#type, from, to, user_id, thread, r#ref, account, .. } = event;
    for name in [&Some(key.clone()), r#type, from, to, user_id, thread, r#ref, account].into_iter().flatten()
    {
        assert_eq!(Name::new(name.as_str()).as_ref(), Ok(name));
    }
    assert!(event.kind != Kind::Message || event.ts.is_some());
    assert!(event.text.as_deref().is_none_or(|text| !text.is_empty() && !text.contains('\0')));
    let data = event.data.as_ref().unwrap().as_str();
    serde_json::from_str::<IgnoredAny>(data).unwrap();
    assert!(!data.contains('\0'));
}
