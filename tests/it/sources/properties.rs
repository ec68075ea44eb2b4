//! What holds for any request.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use lyftr::event::Kind;
use lyftr::message::Timestamp;
use lyftr::source::{Provider, Refusal, Settings, examine};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{Captured, source};

const NOW: i64 = 1_795_000_000;
const FORM: &str = "application/x-www-form-urlencoded";

/// A source of each provider; Twilio's twice, for forms and for JSON.
fn sources() -> Vec<(Settings, bool)> {
    Provider::ALL
        .into_iter()
        .flat_map(|(provider, word)| {
            let more = match provider {
                Provider::Twilio => "public_url = \"https://a.test/\"",
                Provider::Hmac => {
                    "header = \"x-s\"\nprefix = \"s=\"\nencoding = \"base64\"\nhash = \"sha512\"\nkey = \"/id\"\ntext = \"/text\"\n\
                     timestamp_header = \"x-t\"\nsigned = \"{timestamp}.{body}\""
                }
                _ => "",
            };
            let settings = source(&format!("kind = \"{word}\"\n{more}"), "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX");
            let both = provider == Provider::Twilio;
            [Some((settings.clone(), both)), both.then_some((settings, false))].into_iter().flatten()
        })
        .collect()
}

/// A request that the provider would have signed.
fn signed(settings: &Settings, is_form: bool, body: &[u8]) -> Captured {
    let mut target = "/webhook/a?b=1&c=%20".to_owned();
    if settings.provider == Provider::Twilio && !is_form {
        target += "&bodySHA256=";
        target += &base16ct::lower::encode_string(&Sha256::digest(body));
    }
    let content_type = if is_form { FORM } else { "application/json" };
    let mut request = Captured::new(&target, &[("content-type", content_type)], body);
    for (name, value) in settings.sign(&request.lent(), "msg_1", NOW).unwrap() {
        request.headers.insert(name, value);
    }
    request
}

fn names(settings: &Settings) -> Vec<HeaderName> {
    let family = &settings.scheme.headers[0];
    [Some(family.signature.clone()), family.timestamp.clone(), family.id.clone()]
        .into_iter()
        .flatten()
        .collect()
}

fn body_of(is_form: bool) -> BoxedStrategy<Vec<u8>> {
    if is_form {
        // As Twilio writes it: pairs with `=`, upper-case digits, no empty pairs.
        let pair = "[A-Za-z][A-Za-z0-9]{0,3}=([A-Za-z0-9._*-]|\\+|%(2B|C3%A9|0A|7E)){0,6}";
        return prop::collection::vec(pair, 1..6).prop_map(|pairs| pairs.join("&").into_bytes()).boxed();
    }
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..60),
        "\\{\"id\":\"[a-z]{1,3}\",\"type\":\"[a-z]{1,4}\",\"text\":\"\\PC{0,9}\"\\}"
            .prop_map(String::into_bytes),
    ]
    .boxed()
}

fn requests() -> impl Strategy<Value = (Settings, Captured)> {
    let sources = sources();
    (0..sources.len()).prop_flat_map(move |nth| {
        let (settings, is_form) = sources[nth].clone();
        body_of(is_form).prop_map(move |body| {
            let request = signed(&settings, is_form, &body);
            (settings.clone(), request)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_signed_request_is_taken_and_gives_events((settings, request) in requests()) {
        let verified = settings.judge(&request.lent(), NOW).unwrap();
        prop_assert_eq!(verified.secret, 0);
        let events = settings.events(&request.lent(), &verified, Timestamp::EPOCH);
        prop_assert!(!events.is_empty());
        let again = settings.events(&request.lent(), &verified, Timestamp::EPOCH);
        prop_assert_eq!(&events, &again);
        for event in &events {
            prop_assert_eq!(&event.source, &settings.name);
            let data = event.data.as_ref().unwrap().as_str();
            prop_assert!(serde_json::from_str::<&serde_json::value::RawValue>(data).is_ok(), "{}", data);
            prop_assert!(event.kind != Kind::Message || event.ts.is_some());
            prop_assert!(!event.text.as_deref().unwrap_or_default().contains('\0'));
            if event.kind == Kind::Malformed {
                prop_assert!(event.key.as_str().starts_with("malformed/#"));
            }
        }
    }

    #[test]
    fn one_changed_bit_of_the_body_is_noticed((settings, request) in requests(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut changed = request.clone();
        let at = at.index(changed.body.len());
        changed.body[at] ^= 1 << bit;
        // Twilio signs fields, and `%2b` is the same as `%2B`, `%c3` as `%C3`.
        let is_same = request.body[at].is_ascii_alphabetic() && bit == 5 && at > 0
            && (request.body[at - 1] == b'%' || (at > 1 && request.body[at - 2] == b'%'));
        if settings.provider == Provider::Twilio && is_same {
            return Ok(());
        }
        prop_assert!(settings.judge(&changed.lent(), NOW).is_err(), "{:?}", changed);
    }

    #[test]
    fn a_body_that_is_cut_or_longer_is_noticed((settings, request) in requests(), at in any::<prop::sample::Index>(), more in any::<u8>()) {
        let mut changed = request.clone();
        changed.body.truncate(at.index(request.body.len()));
        // Fields are signed without what stands between them.
        let is_form = settings.provider == Provider::Twilio && request.headers["content-type"] == FORM;
        let is_same = is_form && request.body[changed.body.len()..] == *b"&";
        prop_assert!(is_same || settings.judge(&changed.lent(), NOW).is_err(), "{:?}", changed);
        let mut changed = request.clone();
        changed.body.push(more);
        prop_assert!((is_form && more == b'&') || settings.judge(&changed.lent(), NOW).is_err(), "{:?}", changed);
    }

    #[test]
    fn one_changed_byte_of_a_signed_header_is_noticed(
        (settings, request) in requests(), header in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in 0x20..0x7f_u8
    ) {
        let names = names(&settings);
        let name = &names[header.index(names.len())];
        let value = request.headers[name].as_bytes().to_vec();
        let at = at.index(value.len());
        let mut other = value.clone();
        other[at] = byte;
        // The one change that is none: the case of a hexadecimal digit. Stripe's list may have blanks around its parts.
        let is_hex = settings.scheme.encoding == lyftr::source::Encoding::Hex;
        prop_assume!(other != value && !(is_hex && other.eq_ignore_ascii_case(&value)));
        let mut changed = request.clone();
        changed.headers.insert(name, HeaderValue::from_bytes(&other).unwrap());
        prop_assert!(settings.judge(&changed.lent(), NOW).is_err(), "{:?}", changed);
        changed.headers.insert(name, HeaderValue::from_bytes(&value[..at]).unwrap());
        prop_assert!(settings.judge(&changed.lent(), NOW).is_err(), "{:?}", changed);
        changed.headers.remove(name);
        prop_assert_eq!(settings.judge(&changed.lent(), NOW), Err(Refusal::MissingHeader));
        let mut changed = request.clone();
        changed.headers.append(name, HeaderValue::from_bytes(&value).unwrap());
        prop_assert_eq!(settings.judge(&changed.lent(), NOW), Err(Refusal::DuplicateHeader));
    }

    #[test]
    fn a_signed_time_counts_within_the_tolerance((settings, request) in requests(), away in -700..700_i64) {
        let has_time = settings.judge(&request.lent(), NOW).unwrap().signed_at.is_some();
        let expected = if has_time && away.abs() > 300 { Err(Refusal::TimestampOutOfRange) } else { Ok(0) };
        let found = settings.judge(&request.lent(), NOW + away).map(|verified| verified.secret);
        prop_assert_eq!(found, expected);
    }

}

proptest! {
    // The doctor tries very many things.
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_refused_and_never_panics(
        nth in any::<prop::sample::Index>(), values in prop::collection::vec("(t=|v1,|v1a,|sha256=|v0=|s=)?[-0-9a-zA-Z+/=,. ]{0,70}", 3),
        body in prop::collection::vec(any::<u8>(), 0..40), target in "/[a-z?&=%0-9A-F]{0,20}"
    ) {
        let sources = sources();
        let (settings, is_form) = &sources[nth.index(sources.len())];
        let content_type = if *is_form { FORM } else { "text/plain" };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static(content_type));
        for (name, value) in names(settings).into_iter().zip(&values) {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let request = Captured { target, headers, body };
        prop_assert!(settings.judge(&request.lent(), NOW).is_err());
        prop_assert!(!examine(settings, &request.lent(), NOW).findings.is_empty());
        let _any = settings.greet(&request.target);
    }
}

#[test]
fn a_flood_of_signatures_is_refused() {
    let settings =
        source("kind = \"standard-webhooks\"", "whpk_6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=");
    let one = "v1a,ZEASYfnSWfBKUW5sjVotkUupYiXN2YlCGxORlRe1/RF+NC5bavo78CDZm6vsnIfHEYW+qs6nydq2dgMNw6MOAw==";
    for (times, expected) in [(8, Refusal::NoMatch), (9, Refusal::MalformedHeader)] {
        let value = vec![one; times].join(" ");
        let headers =
            [("webhook-id", "m"), ("webhook-timestamp", "1795000000"), ("webhook-signature", value.as_str())];
        let request = Captured::new("/webhook/a", &headers, b"{}");
        assert_eq!(settings.judge(&request.lent(), NOW), Err(expected), "{times}");
    }
}

#[test]
fn an_address_that_twilio_signed_is_of_no_use_with_another_body() {
    let settings = source("kind = \"twilio\"\npublic_url = \"https://a.test\"", "a secret");
    let mut request = signed(&settings, false, b"{\"a\":1}");
    assert!(settings.judge(&request.lent(), NOW).is_ok());
    // As a form without fields it would be signed by the address alone.
    request.headers.insert("content-type", HeaderValue::from_static(FORM));
    request.body.clear();
    assert_eq!(settings.judge(&request.lent(), NOW), Err(Refusal::BodyHash));
    for port in ["", ":443", ":8443"] {
        let signer = source(&format!("kind = \"twilio\"\npublic_url = \"https://a.test{port}\""), "a secret");
        let request = signed(&signer, true, b"A=1");
        assert!(settings.judge(&request.lent(), NOW).is_ok(), "{port}");
    }
}
