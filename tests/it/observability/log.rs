//! The lines of the log: their form, and what they say of each request.

use insta::assert_snapshot;
use serde_json::Value;

use super::traffic;
use crate::support::process::Process;
use crate::support::service::{Fault, Service};
use crate::support::{eventually, message, on_sqlite, sign};

const REQUEST_KEYS: [&str; 7] = ["ts", "level", "request_id", "method", "path", "status", "latency_ms"];

fn keys(line: &Value) -> Vec<&str> {
    line.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Whether a line has exactly the keys of the contract, in their order.
#[track_caller]
fn check(line: &Value) {
    let found = keys(line);
    let ts = line["ts"].as_str().unwrap();
    assert!(ts.ends_with('Z') && ts.parse::<jiff::Timestamp>().is_ok(), "{line}");
    assert!(["DEBUG", "INFO", "WARN", "ERROR"].iter().any(|level| line["level"] == *level), "{line}");
    if line.get("request_id").is_none() {
        assert_eq!(found[..3], ["ts", "level", "message"], "{line}");
        return;
    }
    assert!(line["status"].is_u64() && line["latency_ms"].is_number(), "{line}");
    let mut expected = REQUEST_KEYS.to_vec();
    if line["path"] == "/webhook" && line["method"] == "POST" {
        expected.extend(line.get("message_id").map(|_| "message_id"));
        expected.extend(["dup", "result"]);
        assert!(line["dup"].is_boolean() && line["result"].is_string(), "{line}");
    }
    assert_eq!(found, expected, "{line}");
}

#[test]
fn standard_output_has_one_json_object_a_line_from_start_to_stop() {
    let mut process = Process::builder().env("WEBHOOK_SECRET", "short").env("LOG_LEVEL", "DEBUG").start();
    traffic(&mut process.client());
    process.break_store();
    assert_eq!(process.client().get("/health/ready").status, 503);
    assert!(process.terminate().success());
    let lines = process.log_lines();
    for line in &lines {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line:?}"));
        assert!(!line.contains("\": "), "no spaces between tokens: {line}");
        check(&value);
    }
    let messages: Vec<_> = process
        .log_values()
        .iter()
        .filter_map(|line| line["message"].as_str().map(ToOwned::to_owned))
        .collect();
    for expected in ["listening", "stopping", "stopped", "not ready"] {
        assert!(messages.iter().any(|message| message == expected), "{expected}: {messages:?}");
    }
    assert!(messages[0].starts_with("WEBHOOK_SECRET is shorter"), "{messages:?}");
    assert_eq!(process.stderr(), "");
}

#[test]
fn each_request_has_one_line_with_the_id_that_its_sender_was_told() {
    let service = Service::start();
    let mut client = service.client();
    let mut expected: Vec<_> = traffic(&mut client)
        .into_iter()
        .map(|(method, path, reply)| {
            (reply.request_id().to_owned(), method.to_owned(), path.to_owned(), reply.status)
        })
        .collect();
    let own = client.request("GET", "/health/live", &[("X-Request-ID", "order-4711")], b"");
    expected.push((own.request_id().to_owned(), "GET".into(), "/health/live".into(), 200));
    let found: Vec<_> = service
        .stop()
        .values()
        .iter()
        .map(|line| {
            check(line);
            let text = |key: &str| line[key].as_str().unwrap().to_owned();
            (
                text("request_id"),
                text("method"),
                text("path"),
                u16::try_from(line["status"].as_u64().unwrap()).unwrap(),
            )
        })
        .collect();
    assert_eq!(found, expected);
    assert!(found.iter().any(|(id, ..)| id == "order-4711"));
}

#[test]
fn the_line_of_a_post_has_the_result() {
    let service = Service::start();
    let mut client = service.client();
    let posts = traffic(&mut client)
        .into_iter()
        .filter(|(method, path, _)| (*method, *path) == ("POST", "/webhook"))
        .count();
    service.faulty().inserts.nth(1, Fault::Unavailable);
    assert_eq!(client.send(&message("m3")).status, 503);
    let lines: Vec<String> = service
        .stop()
        .values()
        .iter()
        .filter(|line| line["path"] == "/webhook" && line["method"] == "POST")
        .map(|l| format!("{} {} {} {} {}", l["level"], l["status"], l["message_id"], l["dup"], l["result"]))
        .collect();
    assert_eq!(lines.len(), posts + 1);
    assert_snapshot!(lines.join("\n"), @r#"
    "INFO" 200 "m1" false "created"
    "INFO" 200 "m1" true "duplicate"
    "WARN" 200 "m1" true "conflict"
    "ERROR" 401 null false "invalid_signature"
    "ERROR" 401 null false "invalid_signature"
    "ERROR" 401 null false "invalid_signature"
    "WARN" 422 null false "validation_error"
    "WARN" 422 null false "validation_error"
    "WARN" 422 "m2" false "validation_error"
    "WARN" 422 null false "validation_error"
    "WARN" 413 null false "too_large"
    "ERROR" 503 "m3" false "error"
    "#);
}

#[test]
fn an_id_with_any_characters_is_one_line_of_json() {
    let service = Service::start();
    let mut client = service.client();
    let ids = ["\"}", "\\", "a\u{2028}b", "é😀", "{\"level\":\"ERROR\"}", " ", "</script>"];
    for id in ids {
        client.store(&message(id));
    }
    let logged: Vec<_> =
        service.stop().values().iter().map(|line| line["message_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(logged, ids);
}

#[test]
fn the_level_error_leaves_out_everything_but_errors() {
    for level in ["ERROR", "error"] {
        let mut process = Process::builder().env("LOG_LEVEL", level).start_silent();
        let mut client = process.client();
        client.store(&message("m1"));
        client.get("/nowhere");
        client.send_bytes(b"{}");
        let refused = client.post(b"{}", &[]);
        assert!(process.terminate().success());
        let lines = process.log_values();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["request_id"], refused.request_id());
        assert_eq!(lines[0]["level"], "ERROR");
    }
}

#[test]
fn the_level_warn_leaves_out_what_went_well() {
    let service = Service::builder().level(tracing::Level::WARN).start();
    let mut client = service.client();
    client.store(&message("m1"));
    client.get("/messages");
    let refused = client.get("/nowhere");
    let lines = service.stop().values();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["request_id"], refused.request_id());
}

#[test]
fn a_message_with_a_refused_signature_is_not_looked_into() {
    let service = Service::start();
    let mut client = service.client();
    let body = message("m1").to_string();
    client.post(body.as_bytes(), &[&sign(b"")]);
    let text = service.stop().text();
    assert!(!text.contains("m1"), "{text}");
}

/// Takes nothing.
struct Broken;

impl std::io::Write for Broken {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_nobody_takes_are_counted_and_stop_nothing() {
    let service = Service::builder().log_to(Broken).start();
    let mut client = service.client();
    for n in 0..5 {
        client.store(&message(&format!("m{n}")));
    }
    crate::support::eventually("the lines are counted", || {
        (client.metric("log_lines_dropped_total") >= 5.0).then_some(())
    });
}

/// What is begun with nothing is not made anew. What is lost is, and that is said.
#[test]
fn a_first_start_says_where_it_listens_and_nothing_else() {
    let said = |process: &Process| -> Vec<String> {
        let lines = process.log_values();
        lines.iter().filter_map(|line| line["message"].as_str().map(ToOwned::to_owned)).collect()
    };
    let derived = |process: &Process| {
        eventually("everything is derived", || {
            process.client().metrics().contains("\nstore_search_behind_messages 0\n").then_some(())
        });
    };
    let mut process = Process::start();
    derived(&process);
    process.client().store(&message("m"));
    derived(&process);
    process.terminate();
    // A database on a server is there before the service, and gets its schema.
    let schema = (!on_sqlite()).then_some("the schema was brought up to date");
    let expected: Vec<&str> = schema.into_iter().chain(["listening", "stopping", "stopped"]).collect();
    assert_eq!(said(&process), expected);
    if on_sqlite() {
        std::fs::remove_file(process.folder().join("app.db-index")).unwrap();
        let mut again = Process::builder().folder(process.folder()).start();
        eventually("it says so", || {
            said(&again).contains(&"the index is made anew from the messages".to_owned()).then_some(())
        });
        again.terminate();
    }
}
