//! Followers of a real service, as docs/following.md shows them.

use std::process::{Command, Stdio};

use crate::support::process::Process;
use crate::support::{eventually, message, message_with, skip};

const FOLLOWING: &str = include_str!("../../../docs/following.md");

/// `lyftr tail` in front of a service.
fn tail(service: &Process, arguments: &[&str]) -> crate::support::process::Builder {
    let url = format!("http://{}", service.address());
    let builder =
        Process::builder().env_remove("DATABASE_URL").env_remove("WEBHOOK_SECRET").env_remove("PORT");
    builder.args(&[&["tail", "--url", &url], arguments].concat())
}

/// The keys of the events that were printed.
fn keys(printed: &str) -> Vec<String> {
    let events = printed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    events.map(|event| event["key"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn events_are_printed_from_the_beginning_from_now_and_from_a_cursor() {
    let service = Process::start();
    let mut client = service.client();
    let now = tail(&service, &["--limit", "2", "--cursor", "now"]).spawn();
    // Where the log is empty, a cursor has no place yet.
    eventually("it follows", || (client.metric("followers_open") == 1.0).then_some(()));
    for key in ["m1", "m2", "m3"] {
        client.store(&message(key));
    }
    let finished = now.finish();
    assert_eq!((finished.code(), keys(&finished.stdout)), (Some(0), vec!["m1".into(), "m2".into()]));
    let finished = tail(&service, &["--until-end", "--cursor", "now"]).run();
    assert_eq!((finished.code(), keys(&finished.stdout)), (Some(0), vec!["m3".into()]));
    let pages = tail(&service, &["--until-end", "--from", "beginning"]).run();
    let stream = tail(&service, &["--limit", "3", "--from", "beginning"]).run();
    assert_eq!(pages.stdout, stream.stdout);
    assert_eq!(keys(&pages.stdout), ["m1", "m2", "m3"]);
    assert_eq!(client.json("/cursors")["data"].as_array().unwrap().len(), 1);
}

#[test]
fn filters_let_through_what_they_name() {
    let service = Process::start();
    let mut client = service.client();
    for (key, from) in [("m1", "+1"), ("m2", "+2"), ("m3", "+1")] {
        client.store(&message_with(key, from, "2025-01-15T10:00:00Z", Some("text")));
    }
    for (filter, expected) in [
        (["--sender", "+1"], vec!["m1", "m3"]),
        (["--thread", "+2"], vec!["m2"]),
        (["--kind", "status"], vec![]),
        (["--source", "webhook"], vec!["m1", "m2", "m3"]),
        (["--recipient", "+3"], vec![]),
    ] {
        let arguments = [&["--until-end", "--from", "beginning"], &filter[..]].concat();
        assert_eq!(keys(&tail(&service, &arguments).run().stdout), expected, "{filter:?}");
    }
}

#[test]
fn a_service_that_is_restarted_is_followed_on() {
    let mut service = Process::start();
    let (folder, port) = (service.folder().to_owned(), service.address().port().to_string());
    service.client().store(&message("m1"));
    let follower = tail(&service, &["--from", "beginning", "--limit", "2"]).spawn();
    eventually("the first event", || (follower.log_lines().len() == 1).then_some(()));
    assert_eq!(service.terminate().code(), Some(0));
    let again = Process::builder().folder(&folder).env("PORT", &port).start();
    again.client().store(&message("m2"));
    let finished = follower.finish();
    assert_eq!((finished.code(), keys(&finished.stdout)), (Some(0), vec!["m1".into(), "m2".into()]));
    assert!(finished.stderr.contains("lyftr: connected again\n"), "{}", finished.stderr);
}

#[test]
fn the_read_token_of_a_service_is_wanted() {
    let service = Process::builder().env("READ_TOKEN", "hunter2").start();
    for (token, code) in [("hunter2", 0), ("hunter3", 1), ("", 1)] {
        let finished = tail(&service, &["--until-end"]).env("READ_TOKEN", token).run();
        assert_eq!(finished.code(), Some(code), "{}", finished.stderr);
    }
}

#[test]
fn a_place_in_another_log_is_refused() {
    let (one, other) = (Process::start(), Process::start());
    one.client().store(&message("m1"));
    other.client().store(&message("m1"));
    let position = one.client().json("/events")["next"].as_str().unwrap().to_owned();
    for arguments in [&["--from", &position][..], &["--from", &position, "--until-end"]] {
        let finished = tail(&other, arguments).run();
        assert_eq!((finished.code(), finished.stdout.as_str()), (Some(1), ""), "{}", finished.stderr);
        assert!(finished.stderr.contains("is none in this log (410 "), "{}", finished.stderr);
    }
    assert_eq!(tail(&one, &["--from", &position, "--until-end"]).run().code(), Some(0));
    let finished = tail(&one, &["--from", "nowhere"]).run();
    assert_eq!(finished.code(), Some(2), "{}", finished.stderr);
}

#[test]
fn the_program_in_the_document_counts_each_message_once_however_often_it_is_killed() {
    let service = Process::start();
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("follower.py");
    let shown = FOLLOWING.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    std::fs::write(&program, shown).unwrap();
    let database = folder.path().join("own.db");
    let start = || {
        let mut command = Command::new("python3");
        command.arg(&program).arg(format!("http://{}", service.address())).arg(&database);
        command.stdin(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    let Ok(mut follower) = start() else { return skip("python3 is missing: apt-get install python3") };
    let mut client = service.client();
    let mut rng = fastrand::Rng::new();
    for n in 0..60 {
        client.store(&message_with(&format!("m{n}"), "+1", "2025-01-15T10:00:00Z", None));
        if n % 12 == 11 {
            std::thread::sleep(std::time::Duration::from_millis(rng.u64(..300)));
            follower.kill().unwrap();
            follower.wait().unwrap();
            follower = start().unwrap();
        }
    }
    eventually("all are counted", || {
        let own = rusqlite::Connection::open(&database)?;
        let count =
            own.query_row("SELECT messages FROM total WHERE sender = '+1'", (), |row| row.get::<_, i64>(0))?;
        let text = count.to_string();
        if count == 60 { Ok(()) } else { Err(rusqlite::Error::InvalidParameterName(text)) }
    });
    follower.kill().unwrap();
    follower.wait().unwrap();
}
