//! `lyftr doctor` where two things are wrong at once, and with every way to write the same JSON.

use axum::http::HeaderValue;
use lyftr::source::{Settings, examine};

use super::{Captured, source};

const NOW: i64 = 1_795_000_000;

/// What the doctor says to a request that a sender with `signer` made of `sent`, and that came as `body` to `settings`.
fn told(signer: &Settings, settings: &Settings, sent: &[u8], body: &[u8]) -> Vec<String> {
    let mut request = Captured::new("/webhook/a", &[], sent);
    for (name, value) in signer.sign(&request.lent(), "m", NOW).unwrap() {
        request.headers.insert(name, value);
    }
    request.body = body.to_vec();
    let diagnosis = examine(settings, &request.lent(), NOW);
    diagnosis.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn every_usual_way_to_write_the_same_json_is_recognized() {
    const SERIALIZED: &str = "the body was serialized again: its blanks are not those that were signed";
    const UNESCAPED: &str = "characters of the body that were escaped when it was signed no longer are";
    const ESCAPED: &str = "characters of the body are escaped that were not when it was signed";
    let settings = source("kind = \"whatsapp\"", "a secret");
    for (sent, body, expected) in [
        (r#"{"a":[1,"x"],"b":"é👋/"}"#, r#"{"a": [1, "x"], "b": "é👋/"}"#, SERIALIZED),
        (r#"{"a": [1, "x: ,"], "b": "é"}"#, r#"{"a":[1,"x: ,"],"b":"é"}"#, SERIALIZED),
        ("{\n  \"a\": [\n    1\n  ]\n}", r#"{"a":[1]}"#, SERIALIZED),
        (r#"{"b":"\u00e9\ud83d\udc4b/"}"#, r#"{"b":"é👋/"}"#, UNESCAPED),
        (r#"{"b":"\u00e9\/"}"#, r#"{"b":"é/"}"#, UNESCAPED),
        (r#"{"b":"é👋/\"\\ \u0001"}"#, r#"{"b":"\u00e9\ud83d\udc4b\/\"\\ \u0001"}"#, ESCAPED),
        (r#"{"b":"é/"}"#, r#"{"b":"é\/"}"#, ESCAPED),
        (r#"{"b":"\u00e9\/"}"#, r#"{"b": "é/"}"#, SERIALIZED),
        ("a\nb", "a\r\nb", "the line ends of the body were changed"),
        ("a\n", "a", "the line end at the end of the body is gone"),
        ("", "{}", "the sender signed an empty body"),
    ] {
        assert_eq!(told(&settings, &settings, sent.as_bytes(), body.as_bytes()), [expected], "{sent}");
    }
}

#[test]
fn a_secret_that_is_nearly_right_is_recognized() {
    let settings = |secret| source("kind = \"github\"", secret);
    for (configured, sender, expected) in [
        ("s3cret ", "s3cret", "has blanks or a line end around it, which the sender's does not have"),
        ("\"s3cret\"", "s3cret", "has quotation marks around it, which the sender's does not have"),
        (
            "s3cret",
            "s3cret\r\n",
            "has a line end at its end where the sender has it, which is not configured",
        ),
        ("6162636465", "abcde", "is used by the sender after decoding it from hexadecimal digits"),
        ("whsec_YWJjZGVm", "YWJjZGVm", "is used by the sender without its prefix `whsec_`"),
        ("whsec_YWJjZGVm", "abcdef", "is used by the sender after decoding it from Base64"),
    ] {
        let found = told(&settings(sender), &settings(configured), b"{}", b"{}");
        assert_eq!(found, [format!("secret `current` {expected}")], "{configured:?}");
        assert!(!found.concat().contains("s3cret"));
    }
}

#[test]
fn two_things_at_once_are_found() {
    let settings = |secret| source("kind = \"shopify\"", secret);
    assert_eq!(
        told(&settings("s3cret\n"), &settings("s3cret"), b"{\"a\":1}", b"{\"a\":1}\n"),
        [
            "secret `current` has a line end at its end where the sender has it, which is not configured",
            "the body has a line end at its end that was not signed"
        ]
    );
    let hmac = |keys: &str| source(&format!("kind = \"hmac\"\nheader = \"x-s\"\n{keys}"), "s3cret");
    assert_eq!(
        told(&hmac("hash = \"sha1\"\nencoding = \"base64\""), &hmac(""), b"{}", b"{}"),
        [
            "the signature is in Base64 and should be in hexadecimal digits",
            "the sender signs with another hash: hash = \"sha1\""
        ]
    );
    assert_eq!(
        told(&hmac("prefix = \"sha256=\""), &hmac(""), b"{}", b"{}"),
        ["another prefix than the configured one stands before the signature"]
    );
}

#[test]
fn a_time_in_milliseconds_is_recognized() {
    let settings = source("kind = \"slack\"", "s3cret");
    let mut request = Captured::new("/webhook/a", &[], b"{}");
    for (name, value) in settings.sign(&request.lent(), "m", NOW).unwrap() {
        request.headers.insert(name, value);
    }
    request.headers.insert("x-slack-request-timestamp", HeaderValue::from_static("1795000000000"));
    let found = examine(&settings, &request.lent(), NOW).findings;
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["the time is in milliseconds and should be in seconds"]
    );
}
