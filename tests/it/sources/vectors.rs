//! Every vector, from the request to the events.

use std::collections::BTreeMap;
use std::path::Path;

use lyftr::event::Event;
use lyftr::message::{Name, Timestamp};
use lyftr::signature::{Key, Signature};
use lyftr::source::{Greeting, Settings, examine};
use serde_json::{Value, json};

use super::{Captured, parse};

/// A file of the vectors, which the door is held to; empty, said aloud, where there is none.
pub(super) fn list(name: &str) -> Vec<Value> {
    vectors(name).map(|mut list| std::mem::take(list.as_array_mut().unwrap())).unwrap_or_default()
}

/// A file of the vectors that are kept here too.
pub(super) fn read(name: &str) -> Value {
    serde_json::from_slice(&body(name)).unwrap()
}

/// The bytes of such a file.
pub(super) fn body(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vectors").join(name)).unwrap()
}

/// A file of the vectors; `None`, said aloud, where there is none.
fn vectors(name: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors").join(name);
    match std::fs::read(&path) {
        Ok(bytes) => Some(serde_json::from_slice(&bytes).unwrap()),
        Err(error) => {
            println!("SKIPPED: {}: {error}", path.display());
            assert!(!std::env::vars().any(|(name, _)| name == "CI"), "CI needs the vectors");
            None
        }
    }
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} of {value}"))
}

pub(super) fn bytes(base64: &str) -> Vec<u8> {
    <base64ct::Base64 as base64ct::Encoding>::decode_vec(base64).unwrap()
}

fn captured(request: &Value) -> Captured {
    let headers: Vec<_> = request["headers"].as_array().unwrap().iter().collect();
    let headers: Vec<_> =
        headers.iter().map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect();
    Captured::new(text(request, "target"), &headers, &bytes(text(request, "body_b64")))
}

/// The source of a vector, by way of the TOML that an operator would write.
pub(super) fn settings(source: &Value) -> Settings {
    let mut toml = vec!["[[source]]\nname = \"vector\"".to_owned()];
    let mut variables: Vec<(String, String)> = Vec::new();
    let default = json!([{"name": "current", "value": "a secret"}]);
    let secrets = source.get("secrets").unwrap_or(&default).as_array().unwrap();
    let references: Vec<String> = secrets
        .iter()
        .enumerate()
        .map(|(nth, secret)| {
            variables.push((format!("SECRET_{nth}"), text(secret, "value").to_owned()));
            format!("{{ name = {}, env = \"SECRET_{nth}\" }}", secret["name"])
        })
        .collect();
    toml.push(format!("secrets = [{}]", references.join(", ")));
    for (key, value) in source.as_object().unwrap() {
        match key.as_str() {
            "name" | "secrets" => {}
            "verify_token" if value.is_null() => {}
            "verify_token" => {
                variables.push(("VERIFY".to_owned(), value.as_str().unwrap().to_owned()));
                toml.push("verify_token = { env = \"VERIFY\" }".to_owned());
            }
            "tolerance" => toml.push(format!("tolerance_secs = {value}")),
            _ => toml.push(format!("{key} = {value}")),
        }
    }
    let toml = toml.join("\n");
    let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut config = parse(&toml, &variables, &[]).unwrap_or_else(|errors| panic!("{toml}\n{errors}"));
    config.sources.pop().unwrap()
}

/// What the built-in source says to a request, in the words of the vectors.
fn built_in(source: &Value, request: &Captured) -> Result<String, &'static str> {
    let values: Vec<_> = request.headers.get_all("x-signature").iter().collect();
    let [value] = values[..] else {
        return Err(if values.is_empty() { "missing_header" } else { "duplicate_header" });
    };
    let signature = Signature::parse(value.as_bytes()).map_err(|_| "malformed_header")?;
    let secret = &source["secrets"][0];
    let key = Key::new(text(secret, "value").as_bytes());
    key.verify(&request.body, &signature).map(|()| text(secret, "name").to_owned()).map_err(|_| "no_match")
}

#[test]
fn every_signature_is_judged_as_its_vector_says() {
    let Some(vectors) = vectors("signatures.json") else { return };
    let vectors = vectors.as_array().unwrap();
    assert!(vectors.len() >= 124, "{}", vectors.len());
    let mut wrong = Vec::new();
    for vector in vectors {
        let request = captured(&vector["request"]);
        let found = if vector["provider"] == "seed" {
            built_in(&vector["source"], &request).map_err(str::to_owned)
        } else {
            let settings = settings(&vector["source"]);
            let judged = settings.judge(&request.lent(), vector["now"].as_i64().unwrap());
            judged
                .map(|verified| settings.secrets[verified.secret].name.clone())
                .map_err(|why| why.to_string())
        };
        let expect = &vector["expect"];
        let expected = match expect["status"].as_u64() {
            Some(200) => Ok(text(expect, "secret").to_owned()),
            _ => Err(text(expect, "reason").to_owned()),
        };
        if found != expected {
            wrong.push(format!("{}: {found:?}, expected {expected:?}", vector["id"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_handshake_is_answered_as_its_vector_says() {
    let Some(vectors) = vectors("handshakes.json") else { return };
    let vectors = vectors.as_array().unwrap();
    assert!(vectors.len() >= 14, "{}", vectors.len());
    for vector in vectors {
        let settings = settings(&vector["source"]);
        let request = captured(&vector["request"]);
        let (status, body) = if vector["request"]["method"] == "GET" {
            match settings.greet(&request.target) {
                Greeting::Challenge(challenge) => (200, Some(challenge)),
                Greeting::Refused => (403, None),
                Greeting::NotAllowed => (405, None),
            }
        } else {
            match settings.judge(&request.lent(), vector["now"].as_i64().unwrap()) {
                Ok(_) => (200, settings.challenge(&request.lent())),
                Err(_) => (401, None),
            }
        };
        let expect = &vector["expect"];
        assert_eq!(
            (json!(status), json!(body)),
            (expect["status"].clone(), expect["body"].clone()),
            "{vector}"
        );
    }
}

/// An event in the words of the vectors.
pub(super) fn row(event: &Event) -> Value {
    let name = |name: &Option<Name>| name.as_ref().map(|name| name.as_str().to_owned());
    json!({
        "key": event.key.as_str(), "kind": event.kind.as_str(), "type": name(&event.r#type),
        "from": name(&event.from), "to": name(&event.to), "user_id": name(&event.user_id),
        "thread": name(&event.thread), "ref": name(&event.r#ref), "ts": event.ts.map(|ts| ts.to_string()),
        "text": event.text.as_deref(), "account": name(&event.account),
    })
}

#[test]
fn every_request_gives_the_events_of_its_vector() {
    let Some(vectors) = vectors("events.json") else { return };
    let vectors = vectors.as_array().unwrap();
    assert!(vectors.len() >= 22, "{}", vectors.len());
    let mut wrong = Vec::new();
    for vector in vectors {
        let settings = settings(&vector["source"]);
        let request = captured(&vector["request"]);
        let verified = settings.judge(&request.lent(), vector["now"].as_i64().unwrap()).unwrap();
        let received_at = Timestamp::parse(text(vector, "received_at")).unwrap();
        let events = settings.events(&request.lent(), &verified, received_at);
        let mut expected = vector["expect"]["rows"].clone();
        for row in expected.as_array_mut().unwrap() {
            // INDEX.json: where the provider gives no time, a message has that of its receipt.
            if row["kind"] == "message" && row["ts"].is_null() {
                row["ts"] = vector["received_at"].clone();
            }
        }
        let found: Value = events.iter().map(row).collect();
        if found != expected {
            wrong.push(format!("{}: {found:#}\nexpected {expected:#}", vector["id"]));
        }
        for event in &events {
            assert_eq!(event.received_at, Some(received_at));
            let data = event.data.as_ref().unwrap().as_str();
            let is_form = !request.body.starts_with(b"{");
            assert!(is_form || data.as_bytes() == request.body, "{}: {data}", vector["id"]);
            serde_json::from_str::<Value>(data).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How a sequence of deliveries ends at this level: which keys there are, and how many events had one before.
fn deliver(settings: &Settings, deliveries: &[(Captured, usize)]) -> (Vec<String>, usize) {
    let (mut keys, mut duplicates) = (Vec::new(), 0);
    for (request, times) in deliveries {
        for _ in 0..*times {
            let verified = settings.judge(&request.lent(), 1_795_000_030).unwrap();
            for event in settings.events(&request.lent(), &verified, Timestamp::EPOCH) {
                let key = event.key.as_str().to_owned();
                if keys.contains(&key) { duplicates += 1 } else { keys.push(key) }
            }
        }
    }
    keys.sort();
    (keys, duplicates)
}

#[test]
fn every_sequence_of_deliveries_ends_as_its_vector_says() {
    let (Some(vectors), Some(bodies)) = (vectors("sequences.json"), vectors("bodies.json")) else { return };
    let vectors = vectors.as_array().unwrap();
    assert!(vectors.len() >= 5, "{}", vectors.len());
    let settings = settings(&bodies["source"]);
    for vector in vectors {
        let mut by_source: BTreeMap<&str, Vec<(Captured, usize)>> = BTreeMap::new();
        for step in vector["steps"].as_array().unwrap() {
            let delivery = &bodies["bodies"][text(step, "body")];
            let path = format!("../shared/vectors/{}", text(delivery, "body"));
            let body = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
            let headers = [(text(&bodies, "header"), text(delivery, "signature"))];
            let times = step["concurrent"].as_u64().map_or(1, |times| usize::try_from(times).unwrap());
            let deliveries = by_source.entry(text(step, "source")).or_default();
            deliveries.push((Captured::new("/webhook/wa", &headers, &body), times));
        }
        let expect = &vector["expect"];
        let (mut found, mut duplicates) = (Vec::new(), 0);
        let has_many = by_source.len() > 1;
        for (source, deliveries) in &by_source {
            let (keys, more) = deliver(&settings, deliveries);
            // In another order, and once more, they end in the same set.
            let reversed: Vec<_> = deliveries.iter().rev().cloned().chain(deliveries.clone()).collect();
            assert_eq!(deliver(&settings, &reversed).0, keys, "{vector}");
            found.extend(keys.into_iter().map(|key| if has_many { format!("{source} {key}") } else { key }));
            duplicates += more;
        }
        let mut expected: Vec<String> = serde_json::from_value(expect["rows"].clone()).unwrap();
        if expected == ["7 rows"] {
            found = vec![format!("{} rows", found.len())];
        }
        expected.sort();
        assert_eq!(found, expected, "{vector}");
        let expected = expect.get("duplicates").cloned().unwrap_or(json!(0));
        assert_eq!(json!(duplicates), expected, "{vector}");
    }
}

#[test]
fn the_doctor_names_what_is_wrong_with_a_vector() {
    let Some(vectors) = vectors("signatures.json") else { return };
    let expected: &[(&str, &str)] = &[
        ("wh-good", ""),
        ("wh-bad-reserialised", "characters of the body are escaped that were not when it was signed"),
        ("wh-bad-wrong-secret", "the sender has another secret, or"),
        ("wh-bad-secret-with-newline", "secret `current` has a line end at its end where the sender has it"),
        ("wh-bad-body-byte", "the sender has another secret, or"),
        ("wh-bad-body-trailing-newline", "the body has a line end at its end that was not signed"),
        ("wh-empty-header", "the header x-hub-signature-256 has another form"),
        ("wh-base64-not-hex", "the signature is in Base64 and should be in hexadecimal digits"),
        ("wh-two-different-headers", "the header x-hub-signature-256 stands more than once"),
        ("wh-sha1-header-only", "the header x-hub-signature-256 is absent; X-Hub-Signature is there"),
        ("gi-form-signed-inner-json", "the sender signed the JSON within the form"),
        (
            "sw-age-+301",
            "the signature is right, and was made 301 seconds before the time of this clock; 300 are allowed",
        ),
        (
            "sw-age--301",
            "the signature is right, and was made 301 seconds after the time of this clock; 300 are allowed",
        ),
        ("sw-secret-not-decoded", "secret `current` is used by the sender as text"),
        ("sw-urlsafe-base64", "the signature is in Base64 for URLs"),
        ("sw-missing-timestamp", "the header webhook-timestamp is absent"),
        ("sw-mixed-header-families", "the header webhook-signature is absent; Svix-Signature is there"),
        ("st-body-byte", "the body was serialized again"),
        ("st-missing-header", "the header stripe-signature is absent"),
        ("sl-missing-timestamp", "the header x-slack-request-timestamp is absent"),
        ("sh-hex", "the signature is in hexadecimal digits and should be in Base64"),
        ("sh-urlsafe-base64", "the signature is in Base64 for URLs"),
        ("sh-secret-base64-decoded", "secret `current` is used by the sender after decoding it from Base64"),
        ("tw-http-for-https", "the address was signed with the other of http:// and https://"),
        ("tw-query-dropped", "the address was signed without its query"),
        ("tw-query-reordered", "the address was signed with its query in another order"),
        ("tw-hex", "the signature is in hexadecimal digits and should be in Base64"),
        ("tw-json-body-changed", "the signature is right, and bodySHA256 is that of another body"),
        ("tw-json-no-bodysha", "nothing covers the body"),
        ("tw-shared-key-unknown", "X-Twilio-Webhooks-Signature-Settings names a key"),
        ("hm-prefix-missing", "`hmac ` is missing before the signature"),
        ("hm-timestamp-121", "the signature is right, and was made 121 seconds before"),
    ];
    for (id, says) in expected {
        let vector = vectors.as_array().unwrap().iter().find(|vector| vector["id"] == *id);
        let vector = vector.unwrap_or_else(|| panic!("there is no vector {id}"));
        let settings = settings(&vector["source"]);
        let request = captured(&vector["request"]);
        let diagnosis = examine(&settings, &request.lent(), vector["now"].as_i64().unwrap());
        let found = diagnosis.findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert!(found.starts_with(says) && found.is_empty() == says.is_empty(), "{id}: {found:?}");
        assert_eq!(diagnosis.verdict.is_ok(), says.is_empty(), "{id}");
    }
}
