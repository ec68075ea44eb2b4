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
    client.metric(&format!("webhook_verified_total{{key=\"{key}\"}}"))
}

fn last_used(client: &mut Client, key: &str) -> f64 {
    client.metric(&format!("webhook_key_last_used_timestamp_seconds{{key=\"{key}\"}}"))
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
        assert_eq!(send_signed_with(&mut client, &listed, "m3"), 401);
        process.terminate();
        let said = process.log_lines().concat() + &process.stderr();
        assert!(PREVIOUS.iter().all(|secret| !said.contains(secret)), "{name}: a secret is said aloud");
    }
}
