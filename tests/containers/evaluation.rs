//! What somebody does who tries Lyftr: `make up`, a few messages, questions, the log, `make down`.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::Value;

use crate::engine::{Stack, docker, image, text, try_docker};
use crate::support::process::Said;
use crate::support::{SECRET, eventually, message, message_with};

#[test]
fn without_a_secret_it_says_what_to_set_and_starts_nothing() {
    let stack = Stack::new("");
    let output = stack.make("up", &[]);
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("WEBHOOK_SECRET is not set") && said.contains("export WEBHOOK_SECRET="), "{said}");
    assert_eq!(stack.remains(), "");
    assert!(stack.make("down", &[]).status.success(), "make down works without a secret");
}

#[test]
fn what_is_not_ready_is_said_with_the_reason() {
    let stack = Stack::new("");
    let output = stack.make("up", &[("WEBHOOK_SECRET", SECRET), ("LOG_LEVEL", "LOUD")]);
    assert!(!output.status.success());
    let said = text(&output);
    // The value is not repeated: a secret may stand there by mistake.
    assert!(said.contains("not ready") && said.contains("LOG_LEVEL") && said.contains("DEBUG"), "{said}");
    assert!(!said.contains("LOUD"), "{said}");
}

#[test]
fn the_way_of_somebody_who_tries_it() {
    let stack = Stack::up("");
    let mut client = stack.client();
    let empty = client.json("/messages");
    assert_eq!((ids(&empty).len(), &empty["total"]), (0, &0.into()));

    // The second time is a duplicate, and the fourth line has another text under a known id.
    client.store(&message("m1"));
    client.store(&message("m1"));
    client.store(&message_with("m2", "+14155550199", "2025-01-15T09:00:00Z", Some("Earlier")));
    client.store(&message_with("m2", "+14155550199", "2025-01-15T09:00:00Z", Some("Another text")));
    client.store(&message_with("m3", "+14155550199", "2025-01-15T11:00:00Z", None));
    let body = message("forged").to_string();
    for signatures in [&[][..], &["00"], &[&"0".repeat(64)]] {
        assert_eq!(client.post(body.as_bytes(), signatures).status, 401);
    }
    assert_eq!(client.send_bytes(b"{}").status, 422);

    let first = client.json("/messages?limit=2");
    assert_eq!((ids(&first), &first["total"]), (vec!["m2", "m1"], &3.into()));
    let second = client.json("/messages?limit=2&offset=2");
    assert_eq!(ids(&second), ["m3"]);
    assert_eq!(ids(&client.json("/messages?from=%2B14155550199")), ["m2", "m3"]);
    assert_eq!(ids(&client.json("/messages?since=2025-01-15T10:00:00Z")), ["m1", "m3"]);
    assert_eq!(ids(&client.json("/messages?q=eARL")), ["m2"]);
    let stats = client.json("/stats");
    assert_eq!((&stats["total_messages"], &stats["senders_count"]), (&3.into(), &2.into()));

    for (result, count) in [
        ("created", 3.0),
        ("duplicate", 1.0),
        ("conflict", 1.0),
        ("invalid_signature", 3.0),
        ("validation_error", 1.0),
    ] {
        assert_eq!(
            client.metric(&format!("webhook_requests_total{{result=\"{result}\"}}")),
            count,
            "{result}"
        );
    }

    // Every line that the container prints is an object, and nothing of a message or a secret is in them.
    let container = stack.container("api");
    let (log, errors) = outputs(&container);
    assert_eq!(errors, "", "standard error");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let results: BTreeSet<&str> = lines.iter().filter_map(|line| line["result"].as_str()).collect();
    assert_eq!(
        results.into_iter().collect::<Vec<_>>(),
        ["conflict", "created", "duplicate", "invalid_signature", "validation_error"]
    );
    for secret in [SECRET, "Earlier", "+1415", "9876543210"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
    assert_eq!(first_line_of_make_logs(&stack)["level"].as_str().map(str::is_empty), Some(false));

    eventually("the container's own check says that it is well", || {
        (docker(&["inspect", "--format", "{{.State.Health.Status}}", &container]) == "healthy").then_some(())
    });

    // The image says of which commit it is.
    let revision = "{{index .Config.Labels \"org.opencontainers.image.revision\"}}";
    let commit = stack.command("git").args(["rev-parse", "HEAD"]).output().unwrap();
    assert_eq!(docker(&["inspect", "--format", revision, &container]), text(&commit).trim());

    // `make up` again changes nothing, and `make restart` puts a new container there with the old messages.
    assert!(stack.make("up", &[("WEBHOOK_SECRET", SECRET)]).status.success());
    assert_eq!(
        docker(&["inspect", "--format", "{{.State.Running}} {{.RestartCount}}", &container]),
        "true 0"
    );
    let before = docker(&["inspect", "--format", "{{.Id}}", &container]);
    let restart = stack.make("restart", &[("WEBHOOK_SECRET", SECRET)]);
    assert!(restart.status.success(), "{}", text(&restart));
    assert_ne!(docker(&["inspect", "--format", "{{.Id}}", &stack.container("api")]), before);
    assert_eq!(stack.client().json("/stats")["total_messages"], 3);
}

/// The same file with the Compose that Debian 12 has, where it is there. The image is not built again.
#[test]
fn compose_1_29_understands_the_file_too() {
    if !std::path::Path::new("/usr/bin/docker-compose").exists() {
        println!("NOT RUN: there is no docker-compose");
        return;
    }
    image();
    let stack = Stack::new("");
    let compose = |arguments: &[&str]| {
        let mut command = stack.command("docker-compose");
        let output = command.args(arguments).env("WEBHOOK_SECRET", SECRET).output().unwrap();
        assert!(output.status.success(), "docker-compose {arguments:?}: {}", text(&output));
    };
    compose(&["up", "-d", "--no-build"]);
    eventually("it is ready", || {
        let health = try_docker(&["exec", &stack.container("api"), "/lyftr", "healthcheck"]);
        health.status.success().then_some(())
    });
    stack.client().store(&message("m1"));
    compose(&["down", "-v"]);
    assert_eq!(stack.remains(), "");
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|row| row["message_id"].as_str().unwrap()).collect()
}

/// What a container printed on standard output and on standard error.
fn outputs(container: &str) -> (String, String) {
    let output = try_docker(&["logs", container]);
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// `make logs` goes on until it is ended.
fn first_line_of_make_logs(stack: &Stack) -> Value {
    let mut command = stack.command("make");
    let mut logs = command.args(["--silent", "logs"]).stdout(Stdio::piped()).spawn().unwrap();
    let said = Said::default();
    let collector = said.collect(logs.stdout.take().unwrap());
    let found = eventually("a line of the log", || {
        // Compose puts the container's name before each line.
        said.text().lines().find_map(|line| serde_json::from_str(line.get(line.find('{')?..)?).ok())
    });
    logs.kill().unwrap();
    logs.wait().unwrap();
    drop(collector);
    found
}
