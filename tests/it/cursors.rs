//! Cursors: the names under which followers keep their places.

use std::sync::Barrier;

use serde_json::{Value, json};

use crate::support::client::{Client, Reply};
use crate::support::message;
use crate::support::process::Process;
use crate::support::service::Service;

/// The precondition of a move.
enum If<'a> {
    /// The cursor is there.
    At(&'a str),
    /// There is no cursor.
    None,
}

fn put(client: &mut Client, name: &str, when: &If<'_>, to: &str) -> Reply {
    let body = json!({ "position": to }).to_string();
    let tag = match when {
        If::At(position) => format!("\"{position}\""),
        If::None => "*".to_owned(),
    };
    let header = if matches!(when, If::None) { "If-None-Match" } else { "If-Match" };
    client.request("PUT", &format!("/cursors/{name}"), &[(header, &tag)], body.as_bytes())
}

/// Stores so many messages, and returns their positions.
fn positions(client: &mut Client, count: usize) -> Vec<String> {
    (0..count).for_each(|n| client.store(&message(&format!("m{n}"))));
    let page = client.json("/events?limit=1000");
    page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["position"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_cursor_is_made_moved_shown_and_deleted() {
    let service = Service::start();
    let mut client = service.client();
    assert_eq!(client.get("/cursors").line(), r#"200 {"data":[]}"#);
    let at = positions(&mut client, 5);
    let before = lyftr::clock::received_at().to_string();
    let made = put(&mut client, "billing", &If::None, &at[0]);
    let after = lyftr::clock::received_at().to_string();
    let cursor = made.json();
    let updated_at = cursor["updated_at"].as_str().unwrap();
    assert!(before.as_str() <= updated_at && updated_at <= after.as_str());
    let expected =
        format!(r#"200 {{"name":"billing","position":"{}","updated_at":"{updated_at}","lag":4}}"#, at[0]);
    assert_eq!(made.line(), expected);
    let shown = client.get("/cursors/billing");
    assert_eq!(shown.line(), expected);
    let tag = format!("\"{}\"", at[0]);
    for reply in [&made, &shown] {
        assert_eq!((reply.header("etag"), reply.header("cache-control")), (Some(&*tag), Some("no-store")));
    }
    let moved = put(&mut client, "billing", &If::At(&at[0]), &at[3]);
    assert_eq!(
        (moved.status, &moved.json()["position"], &moved.json()["lag"]),
        (200, &at[3].clone().into(), &1.into())
    );
    // Back is a move like another one.
    assert_eq!(put(&mut client, "billing", &If::At(&at[3]), &at[1]).status, 200);
    assert_eq!(put(&mut client, "Audit.2_x-y", &If::None, &at[4]).status, 200);
    let list = client.json("/cursors");
    let names: Vec<_> = list["data"].as_array().unwrap().iter().map(|cursor| &cursor["name"]).collect();
    assert_eq!(names, ["Audit.2_x-y", "billing"]);
    assert_eq!(list["data"][1], client.json("/cursors/billing"));
    let deleted = client.request("DELETE", "/cursors/billing", &[], b"");
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    for method in ["GET", "HEAD", "DELETE"] {
        assert_eq!(client.request(method, "/cursors/billing", &[], b"").status, 404, "{method}");
    }
    assert_eq!(put(&mut client, "billing", &If::None, &at[0]).status, 200, "and can be made again");
}

#[test]
fn a_move_from_where_the_cursor_is_not_is_refused_and_told_where_it_is() {
    let service = Service::start();
    let mut client = service.client();
    let at = positions(&mut client, 3);
    let none = put(&mut client, "c", &If::At(&at[0]), &at[1]);
    assert_eq!((none.status, &none.json()["position"]), (412, &Value::Null));
    assert_eq!(put(&mut client, "c", &If::None, &at[0]).status, 200);
    for when in [If::None, If::At(&at[1])] {
        let reply = put(&mut client, "c", &when, &at[2]);
        assert_eq!((reply.status, &reply.json()["position"]), (412, &at[0].clone().into()));
        assert!(reply.json()["detail"].is_string());
    }
    // Where the cursor is counts before what the move asks for.
    let lost = format!("{:016x}{:016x}", 1_i64 << 40, 7);
    let reply = put(&mut client, "c", &If::At(&at[1]), &lost);
    assert_eq!((reply.status, &reply.json()["position"]), (412, &at[0].clone().into()));
    assert_eq!(put(&mut client, "c", &If::At(&at[0]), &lost).status, 410);
    assert_eq!(client.json("/cursors/c")["position"], at[0]);
    // The same move twice, because the first answer was lost: the second is refused and shows that the first took place.
    assert_eq!(put(&mut client, "c", &If::At(&at[0]), &at[2]).status, 200);
    let again = put(&mut client, "c", &If::At(&at[0]), &at[2]);
    assert_eq!((again.status, &again.json()["position"]), (412, &at[2].clone().into()));
}

#[test]
fn a_move_says_what_it_replaces_and_goes_to_an_event_of_this_database() {
    let service = Service::start();
    let mut client = service.client();
    let at = positions(&mut client, 2);
    let body = json!({"position": at[0]}).to_string();
    let mut send = |headers: &[(&str, &str)], body: &str, name: &str| {
        client.request("PUT", &format!("/cursors/{name}"), headers, body.as_bytes())
    };
    assert_eq!(send(&[], &body, "c").status, 428);
    let none = [("If-None-Match", "*")];
    let tag = format!("\"{}\"", at[0]);
    let location = |reply: &Reply| {
        assert_eq!(reply.status, 422, "{}", reply.line());
        reply.json()["detail"][0]["loc"].to_string()
    };
    for header in [("If-None-Match", &*tag), ("If-None-Match", "x")] {
        assert_eq!(location(&send(&[header], &body, "c")), r#"["header","if-none-match"]"#);
    }
    for bad in [&at[0], "*", "", "\"x\"", &format!("W/{tag}"), &format!("{tag}, {tag}")] {
        assert_eq!(location(&send(&[("If-Match", bad)], &body, "c")), r#"["header","if-match"]"#, "{bad}");
    }
    assert_eq!(location(&send(&[("If-Match", &tag), none[0]], &body, "c")), r#"["header","if-none-match"]"#);
    assert_eq!(
        location(&send(&[("If-Match", &tag), ("If-Match", &tag)], &body, "c")),
        r#"["header","if-match"]"#
    );
    assert_eq!(location(&send(&[none[0], none[0]], &body, "c")), r#"["header","if-none-match"]"#);
    for (bad, expected) in [
        ("", r#"["body",0]"#),
        ("{\"position\":", r#"["body",11]"#),
        ("[]", r#"["body"]"#),
        ("{}", r#"["body","position"]"#),
        (r#"{"position":7}"#, r#"["body","position"]"#),
        (r#"{"position":"now"}"#, r#"["body","position"]"#),
    ] {
        assert_eq!(location(&send(&none, bad, "c")), expected, "{bad}");
    }
    for name in ["a%20b", "%ff", &"x".repeat(65), "a%2Fb"] {
        assert_eq!(location(&send(&none, &body, name)), r#"["path","name"]"#, "{name}");
    }
    assert_eq!(send(&none, &format!("{}{body}", " ".repeat(5_000)), "c").status, 413);
    let unknown = json!({"position": format!("{:016x}{:016x}", 1_i64 << 40, 7)}).to_string();
    assert_eq!(send(&none, &unknown, "c").status, 410);
    assert_eq!(send(&none, &body, &"x".repeat(64)).status, 200);
    assert_eq!(client.json("/cursors")["data"].as_array().unwrap().len(), 1);
    assert_eq!(client.get("/cursors/a%20b").status, 404);
}

#[test]
fn there_are_a_hundred_cursors_at_most() {
    let service = Service::start();
    let mut client = service.client();
    let at = positions(&mut client, 1);
    for n in 0..100 {
        assert_eq!(put(&mut client, &format!("c{n}"), &If::None, &at[0]).status, 200);
    }
    assert_eq!(put(&mut client, "one-more", &If::None, &at[0]).status, 409);
    assert_eq!(
        put(&mut client, "c7", &If::At(&at[0]), &at[0]).status,
        200,
        "one of them is moved all the same"
    );
    assert_eq!(client.request("DELETE", "/cursors/c3", &[], b"").status, 204);
    assert_eq!(put(&mut client, "one-more", &If::None, &at[0]).status, 200);
}

#[test]
fn of_two_followers_that_move_a_cursor_one_does() {
    const RACERS: usize = 4;
    let service = Service::start();
    let mut client = service.client();
    let at = positions(&mut client, 21);
    for round in 0..20 {
        let (from, start) = (&at[round], Barrier::new(RACERS));
        let replies: Vec<Reply> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..RACERS)
                .map(|_| {
                    let (start, to) = (&start, &at[round + 1]);
                    let mut client = service.client();
                    scope.spawn(move || {
                        let when = if round == 0 { If::None } else { If::At(from) };
                        start.wait();
                        put(&mut client, "c", &when, to)
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412, 412, 412]);
        assert!(replies.iter().all(|reply| reply.json()["position"] == at[round + 1]));
    }
}

#[test]
fn a_cursor_survives_a_crash_and_its_lag_is_a_metric() {
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::builder().folder(folder.path()).start();
    let mut client = process.client();
    let at = positions(&mut client, 4);
    assert!(client.metrics().contains("# TYPE event_cursor_lag gauge\n"));
    assert_eq!(put(&mut client, "c", &If::None, &at[1]).status, 200);
    assert_eq!(client.metric(r#"event_cursor_lag{cursor="c"}"#), 2.0);
    let cursor = client.json("/cursors/c");
    process.kill9();
    let process = Process::builder().folder(folder.path()).start();
    let mut client = process.client();
    assert_eq!(client.json("/cursors/c"), cursor);
    assert_eq!(client.metric(r#"event_cursor_lag{cursor="c"}"#), 2.0);
}
