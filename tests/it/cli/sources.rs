//! The commands for configured sources: `check-config`, `send --source` and `doctor`.

use serde_json::Value;

use super::{lyftr, text};
use crate::support::SECRET;
use crate::support::process::Process;

/// The example of the documents, which has a source of each kind.
const EXAMPLE: &str = include_str!("../../../deploy/sources/example.toml");

/// The variables that the example names, each with a secret of the form that its kind wants.
fn variables() -> Vec<(&'static str, &'static str)> {
    let quoted = EXAMPLE.split("env = \"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let secret = |name| match name {
        "STANDARD_WEBHOOKS_SECRET" => "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
        _ => "a secret that only this example has",
    };
    quoted.map(|name| (name, secret(name))).collect()
}

/// Runs a command with the example, and this input.
fn run(arguments: &[&str], more: &[(&str, &str)], input: &[u8]) -> (i32, String, String) {
    let mut environment = variables();
    environment.push(("SOURCES", EXAMPLE));
    environment.push(("WEBHOOK_SECRET", SECRET));
    environment.extend(more);
    let output = lyftr(arguments, &environment, input);
    (output.status.code().unwrap(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
}

fn service() -> Process {
    variables()
        .into_iter()
        .fold(Process::builder().env("SOURCES", EXAMPLE), |builder, (name, value)| builder.env(name, value))
        .start()
}

#[test]
fn check_config_tells_what_a_start_would() {
    let (code, stdout, stderr) = run(&["check-config"], &[], b"");
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.starts_with("the settings are right\nsource shop-wa: whatsapp, secrets 2026-10\n"),
        "{stdout}"
    );
    assert_eq!(stdout.lines().count(), 9);
    let (code, stdout, stderr) = run(&["check-config", "--port", "x"], &[("SLACK_SIGNING_SECRET", " ")], b"");
    assert_eq!((code, stdout.as_str()), (2, ""));
    for told in ["lyftr cannot start with these settings", "PORT should be", "holds nothing but blanks"] {
        assert!(stderr.contains(told), "{told}: {stderr}");
    }
}

#[test]
fn send_shows_the_path_of_each_kind_without_an_account_there() {
    let process = service();
    let url = format!("http://{}", process.address());
    for (name, kind) in [
        ("shop-wa", "message"),
        ("billing", "event"),
        ("code", "event"),
        ("team", "message"),
        ("orders", "event"),
        ("any", "event"),
        ("crm", "event"),
    ] {
        let arguments =
            ["send", "--url", &url, "--source", name, "--text", "Hello \u{1F44B}", "--message-id", "id-1"];
        for _ in 0..2 {
            let (code, stdout, stderr) = run(&arguments, &[], b"");
            assert_eq!((code, stdout.as_str()), (0, "200 {\"status\":\"ok\"}\n"), "{name}: {stderr}");
        }
        let page = process.client().json(&format!("/events?source={name}"));
        let [event] = page["data"].as_array().unwrap().as_slice() else { panic!("{name}: {page}") };
        assert_eq!(event["kind"], kind, "{event}");
        assert!(event["key"].as_str().unwrap().ends_with("id-1"), "{event}");
        assert!(event["data"].to_string().contains("Hello"), "{event}");
    }
    let page = process.client().json("/messages?source=shop-wa");
    assert_eq!(
        (&page["total"], &page["data"][0]["text"]),
        (&Value::from(1), &Value::from("Hello \u{1F44B}"))
    );
}

/// Twilio signs the address, which is not that of the example.
#[test]
fn send_signs_for_a_source_that_is_configured_elsewhere_or_for_another_address() {
    let process = service();
    let url = format!("http://{}", process.address());
    let (code, stdout, stderr) = run(&["send", "--url", &url, "--source", "sms"], &[], b"");
    assert_eq!((code, stdout.as_str()), (0, "200 {\"status\":\"ok\"}\n"), "{stderr}");
    let elsewhere = |kind, secret| {
        let environment = [("WEBHOOK_SECRET", secret)];
        let output =
            lyftr(&["send", "--url", &url, "--source", "shop-wa", "--kind", kind], &environment, b"");
        (output.status.code().unwrap(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    assert_eq!(elsewhere("whatsapp", "a secret that only this example has").0, 0);
    assert_eq!(elsewhere("whatsapp", SECRET).1, "401 {\"detail\":\"invalid signature\"}\n");
    assert_eq!(elsewhere("hmac", SECRET).0, 2, "needs more than a secret");
    // What is configured here is what counts.
    let arguments = ["send", "--url", &url, "--source", "shop-wa", "--kind"];
    let with = |kind| run(&[&arguments[..], &[kind]].concat(), &[], b"");
    assert_eq!(with("whatsapp").1, "200 {\"status\":\"ok\"}\n");
    let (code, _, stderr) = with("stripe");
    assert_eq!((code, stderr.as_str()), (1, "lyftr: --kind is another one than the configured whatsapp\n"));
    let (code, _, stderr) = run(&["send", "--url", &url, "--source", "any", "--message-id", "a.b"], &[], b"");
    assert_eq!(code, 1);
    assert!(stderr.contains("--message-id of a delivery should be"), "{stderr}");
    let (code, _, stderr) = run(&["send", "--url", &url, "--source", "none"], &[], b"");
    assert_eq!(code, 1);
    assert!(stderr.contains("no source of this name") && stderr.contains("shop-wa"), "{stderr}");
}

#[test]
fn doctor_says_why_a_captured_request_is_refused() {
    let body = br#"{"action":"opened"}"#;
    let signature = lyftr::signature::Key::new(b"a secret that only this example has").sign(body);
    let captured = |header: &str, end: &str| {
        let head = format!("POST /webhook/code HTTP/1.1\r\nHost: a\r\nX-Hub-Signature-256: {header}\r\n\r\n");
        [head.as_bytes(), body, end.as_bytes()].concat()
    };
    let examine = |input: &[u8]| run(&["doctor", "--source", "code"], &[], input);
    let (code, stdout, _) = examine(&captured(&format!("sha256={signature}"), ""));
    assert_eq!((code, stdout.as_str()), (0, "the signature is right: secret `current` made it\n"));
    for (input, told) in [
        (captured(&signature, ""), "- `sha256=` is missing before the signature"),
        (
            captured(&format!("sha256={signature}"), "\n"),
            "- the body has a line end at its end that was not signed",
        ),
        (captured("sha256=00", ""), "has another form"),
        (b"Host: a\n\n".to_vec(), "refused: missing_header\n- the header x-hub-signature-256 is absent"),
    ] {
        let (code, stdout, stderr) = examine(&input);
        assert_eq!(code, 1, "{stderr}");
        assert!(stdout.contains(told), "{told}: {stdout}");
        assert!(!stdout.contains(&signature), "{stdout}");
    }
    // Headers and body in two files.
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let headers = file("headers", format!("X-Hub-Signature-256: sha256={signature}\n").as_bytes());
    let arguments = ["doctor", "--source", "code", "--headers", &headers, "--body", &file("body", body)];
    assert_eq!(run(&arguments, &[], b"").0, 0);
    let (code, _, stderr) = run(&["doctor", "--source", "code"], &[], b"hunter2");
    assert_eq!(
        (code, stderr.as_str()),
        (1, "lyftr: what --headers names: line 1 should be a header, as in `Name: value`\n")
    );
}
