//! Several secrets at once: each lets in, and the metrics tell which of them is still in use.

use lyftr::clock::unix_seconds;
use lyftr::signature::Key;

use crate::support::client::Client;
use crate::support::process::Process;
use crate::support::service::Service;
use crate::support::{SECRET, message};

const PREVIOUS: [&str; 2] = ["the secret that was valid before", "the secret that was valid before that"];

fn send_signed_with(client: &mut Client, secret: &str, id: &str) -> u16 {
    let body = message(id).to_string();
    client.post(body.as_bytes(), &[&Key::new(secret.as_bytes()).sign(body.as_bytes())]).status
}

fn verified(client: &mut Client, key: &str) -> f64 {
    client.metric(&format!("webhook_verified_total{{source=\"webhook\",key=\"{key}\"}}"))
}

fn last_used(client: &mut Client, key: &str) -> f64 {
    client.metric(&format!("webhook_key_last_used_timestamp_seconds{{source=\"webhook\",key=\"{key}\"}}"))
}

#[test]
fn every_listed_secret_lets_in_and_no_other() {
    let service = Service::builder().previous_secrets(&PREVIOUS).start();
    let mut client = service.client();
    for (n, secret) in [SECRET, PREVIOUS[0], PREVIOUS[1]].into_iter().enumerate() {
        assert_eq!(send_signed_with(&mut client, secret, &format!("m{n}")), 200, "{secret}");
    }
    assert_eq!(send_signed_with(&mut client, "a secret that was never valid", "m3"), 401);
    assert_eq!(client.json("/messages")["total"], 3);

    let only_current = Service::start();
    assert_eq!(send_signed_with(&mut only_current.client(), PREVIOUS[0], "m"), 401);
}

#[test]
fn the_metrics_tell_which_secret_is_in_use_and_since_when_not() {
    let service = Service::builder().previous_secrets(&PREVIOUS).start();
    let mut client = service.client();
    for key in ["current", "previous_1", "previous_2"] {
        assert_eq!((verified(&mut client, key), last_used(&mut client, key)), (0.0, 0.0), "{key}");
    }
    let before = unix_seconds();
    for id in ["m1", "m2"] {
        assert_eq!(send_signed_with(&mut client, PREVIOUS[1], id), 200);
    }
    // Signed, and so verified, though it is no message.
    assert_eq!(client.send_bytes(b"{}").status, 422);
    assert_eq!(send_signed_with(&mut client, "a secret that was never valid", "m3"), 401);
    let count = ["current", "previous_1", "previous_2"].map(|key| verified(&mut client, key));
    assert_eq!(count, [1.0, 0.0, 2.0]);
    let used = (before as f64)..=(unix_seconds() as f64);
    assert!(used.contains(&last_used(&mut client, "previous_2")));
    assert_eq!(last_used(&mut client, "previous_1"), 0.0);
    let page = client.metrics();
    assert_eq!(page.lines().filter(|line| line.starts_with("webhook_verified_total{")).count(), 3);
    assert!(PREVIOUS.iter().all(|secret| !page.contains(secret)));
}

#[test]
fn previous_secrets_come_from_the_environment_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("previous");
    std::fs::write(&path, format!("{}\n{}\n", PREVIOUS[0], PREVIOUS[1])).unwrap();
    let listed = PREVIOUS.join(",");
    for (name, value) in [
        ("WEBHOOK_SECRET_PREVIOUS", listed.as_str()),
        ("WEBHOOK_SECRET_PREVIOUS_FILE", path.to_str().unwrap()),
    ] {
        let mut process = Process::builder().env(name, value).start();
        let mut client = process.client();
        for (n, secret) in [SECRET, PREVIOUS[0], PREVIOUS[1]].into_iter().enumerate() {
            assert_eq!(send_signed_with(&mut client, secret, &format!("m{n}")), 200, "{name} {secret}");
        }
        assert_eq!(send_signed_with(&mut client, "a secret that was never valid", "m3"), 401);
        process.terminate();
        let said = process.log_lines().concat() + &process.stderr();
        assert!(PREVIOUS.iter().all(|secret| !said.contains(secret)), "{name}: a secret is said aloud");
    }
}

/// What gets into a secret by mistake, or is meant, and what the start says of it.
const ODD: [(&str, &str); 9] = [
    ("a secret with a newline at its end\n", "ends with a line feed"),
    ("a secret from a file of Windows\r\n", "ends with a line feed and a carriage return"),
    ("\u{feff}a secret from an editor of Windows", "begins with a byte-order mark"),
    ("\"a secret in quotation marks\"", "begins with a quotation mark, ends with a quotation mark"),
    ("'a secret in single ones'", "begins with a quotation mark, ends with a quotation mark"),
    ("  a secret with blanks around it\t", "begins with a blank, ends with a blank"),
    ("a secret on two lines\nof which both count", "has a line end in it"),
    ("a secret with a comma, which a list has too", ""),
    ("a secret,\n with both,\n", "ends with a line feed"),
];

/// What the process said besides of requests, in one text.
fn warnings(process: &Process) -> String {
    let lines = process.log_values();
    let warnings = lines.iter().filter(|line| line["level"] == "WARN" && line.get("request_id").is_none());
    warnings.map(|line| line["message"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_odd_secret_is_warned_of_and_is_valid_as_the_current_and_as_the_previous_one() {
    for (secret, oddity) in ODD {
        let is_odd = |warnings: &str, name: &str| warnings.contains(&format!("{name} {oddity}"));
        let mut process = Process::builder().env("WEBHOOK_SECRET", secret).start();
        assert_eq!(send_signed_with(&mut process.client(), secret, "m"), 200, "{secret:?}");
        assert_eq!(
            send_signed_with(&mut process.client(), secret.trim(), "m") == 200,
            secret == secret.trim()
        );
        process.terminate();
        let said = warnings(&process);
        assert_eq!(is_odd(&said, "WEBHOOK_SECRET"), !oddity.is_empty(), "{secret:?}: {said}");

        // As the documents say: the old one into WEBHOOK_SECRET_PREVIOUS, as it is.
        let mut process = Process::builder().env("WEBHOOK_SECRET_PREVIOUS", secret).start();
        let mut client = process.client();
        assert_eq!(send_signed_with(&mut client, SECRET, "m1"), 200);
        assert_eq!(send_signed_with(&mut client, secret, "m2"), 200, "{secret:?}");
        assert_eq!(
            (verified(&mut client, "current"), verified(&mut client, "previous_1")),
            (1.0, 1.0),
            "{secret:?}"
        );
        process.terminate();
        let previous = warnings(&process);
        assert!(previous.contains("WEBHOOK_SECRET_PREVIOUS") || oddity.is_empty(), "{secret:?}: {previous}");
        for said in [said, previous] {
            let words = ["a secret", "of which", "which a list"];
            assert!(words.iter().all(|word| !said.contains(word)), "said aloud: {said}");
        }
    }
}

#[test]
fn a_signer_is_warned_of_an_odd_secret() {
    let finished = Process::builder().args(&["sign"]).env("WEBHOOK_SECRET", "'a secret in quotes'").run();
    assert_eq!(finished.code(), Some(0));
    assert!(finished.stderr.contains("WEBHOOK_SECRET begins with a quotation mark"), "{finished:?}");
    assert!(!finished.stderr.contains("a secret"), "{finished:?}");
}

#[test]
fn a_secret_of_blanks_is_none() {
    for blank in [" ", ",", "\n", " ,\r\n"] {
        let finished = Process::builder().env("WEBHOOK_SECRET", blank).run();
        assert_eq!(finished.code(), Some(2), "{blank:?}");
        let process = Process::builder().env("WEBHOOK_SECRET_PREVIOUS", blank).start();
        assert_eq!(send_signed_with(&mut process.client(), blank, "m"), 401, "{blank:?}");
    }
}

#[test]
fn a_read_token_that_no_request_can_carry_is_warned_of() {
    for (token, oddity) in [
        ("the token of this test\n", "ends with a line feed: no request can carry that"),
        ("the token of this test ", "ends with a blank: no request can carry that"),
        ("the token\u{1} of this test", "has a control character in it: no request can carry that"),
        (
            "\"the token of this test\"",
            "begins with a quotation mark, ends with a quotation mark: that is part of it",
        ),
    ] {
        let mut process = Process::builder().env("READ_TOKEN", token).start();
        process.terminate();
        let said = warnings(&process);
        assert!(said.contains(&format!("READ_TOKEN {oddity}")), "{said}");
        assert!(!said.contains("of this test"), "{said}");
    }
}
