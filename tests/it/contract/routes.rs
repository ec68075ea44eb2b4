//! What holds for every path: 404, 405, HEAD, and the id of each request.

use insta::assert_snapshot;

use crate::support::client::request;
use crate::support::service::Service;
use crate::support::{message, sign};

type Headers<'a> = &'a [(&'a str, &'a str)];

const READABLE: [&str; 9] = [
    "/",
    "/messages",
    "/stats",
    "/stats/volume",
    "/events",
    "/cursors",
    "/metrics",
    "/health/live",
    "/health/ready",
];

#[test]
fn an_unknown_path_is_404_whatever_the_method() {
    let service = Service::start();
    let mut client = service.client();
    assert_snapshot!(client.get("/nowhere").line(), @r#"404 {"detail":"Not Found"}"#);
    for path in [
        "//",
        "/index.html",
        "/assets",
        "/assets/",
        "/assets/a/b",
        "/session/",
        "/webhook/",
        "/webhook//",
        "//webhook",
        "/Webhook",
        "/WEBHOOK",
        "/webhooks",
        "/messages/",
        "/messages/m1",
        "/events/",
        "/events/a/b",
        "/cursors/",
        "/stats/",
        "/%6dessages",
        "/messages%2F",
        "/health",
        "/health/",
        "/health/alive",
        "/metrics/",
        "/./messages",
        "/a/../messages",
        "/favicon.ico",
        "/.env",
        "/messages;a=b",
        "/messages%00",
        "/%",
        "/%ff",
        "/é",
        "/{path}",
        "/messages\\",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let reply = client.request(method, path, &[], b"");
            assert_eq!(reply.line(), r#"404 {"detail":"Not Found"}"#, "{method} {path}");
        }
        let reply = client.head(path);
        assert_eq!((reply.status, reply.body.len()), (404, 0), "{path}");
        assert_eq!(reply.header("content-length"), Some("22"));
    }
}

#[test]
fn a_wrong_method_is_405_and_told_which_are_right() {
    let service = Service::start();
    let mut client = service.client();
    assert_snapshot!(client.get("/webhook").line(), @r#"405 {"detail":"Method Not Allowed"}"#);
    for method in ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "post", "Post"] {
        let reply = client.request(method, "/webhook", &[], b"");
        assert_eq!(reply.line(), r#"405 {"detail":"Method Not Allowed"}"#, "{method}");
        assert_eq!(reply.header("allow"), Some("POST"), "{method}");
    }
    let reply = client.head("/webhook");
    assert_eq!((reply.status, reply.header("allow"), reply.body.len()), (405, Some("POST"), 0));
    for path in READABLE {
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get", "head"] {
            let reply = client.request(method, path, &[], b"");
            assert_eq!(reply.line(), r#"405 {"detail":"Method Not Allowed"}"#, "{method} {path}");
            let allowed: Vec<_> = reply.header("allow").unwrap().split(',').map(str::trim).collect();
            assert_eq!(allowed, ["GET", "HEAD"], "{method} {path}");
        }
    }
}

#[test]
fn the_forms_of_a_target_that_have_no_path_are_404() {
    let service = Service::start();
    let mut connection = service.connect();
    connection.write("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.reply("OPTIONS", "*").status, 404);
    connection.write("GET messages HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.reply("GET", "messages").status, 404);
    let mut connection = service.connect();
    connection.write("CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n");
    assert_eq!(connection.reply("CONNECT", "example.org:443").status, 404);
}

#[test]
fn a_target_in_absolute_form_is_understood() {
    let service = Service::start();
    let mut client = service.client();
    assert_eq!(client.get("http://lyftr.test/health/live").status, 200);
    assert_eq!(client.get("http://lyftr.test/messages?limit=3").json()["limit"], 3);
}

#[test]
fn head_answers_as_get_does_without_the_body() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message("m1"));
    let queries = ["/messages?limit=1", "/messages?limit=x", "/messages?q=nothing", "/stats?a=b"];
    for target in READABLE.iter().chain(&queries) {
        let (get, head) = (client.get(target), client.head(target));
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{target}");
        // The page of metrics grows between the two.
        let differs = |name: &str| {
            ["x-request-id", "date"].contains(&name) || (name == "content-length" && *target == "/metrics")
        };
        let kept = |reply: &crate::support::client::Reply| -> Vec<_> {
            let mut headers: Vec<_> =
                reply.headers.iter().filter(|(name, _)| !differs(name)).cloned().collect();
            headers.sort();
            headers
        };
        assert_eq!(kept(&head), kept(&get), "{target}");
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{target}");
    }
    assert_eq!(client.connections, 1);
}

#[test]
fn a_short_and_plain_request_id_is_taken_over() {
    let service = Service::start();
    let mut client = service.client();
    let longest = "a".repeat(64);
    for id in ["a", "order-4711", "A-Z_a.z", "0", "..", "-", &longest] {
        for target in ["/health/live", "/nowhere", "/webhook", "/messages?limit=x"] {
            let reply = client.request("GET", target, &[("X-Request-ID", id)], b"");
            assert_eq!(reply.request_id(), id, "{target}");
        }
    }
}

#[test]
fn any_other_request_id_is_replaced_by_one_of_our_own() {
    let service = Service::start();
    let mut client = service.client();
    let mut seen = std::collections::HashSet::new();
    let long = "a".repeat(65);
    for id in ["", " ", "a b", "a\"b", "a,b", "a/b", "a:b", "é", "%41", "a\tb", "<x>", "{\"a\":1}", &long] {
        let reply = client.request("GET", "/health/live", &[("X-Request-ID", id)], b"");
        assert_ne!(reply.request_id(), id.trim(), "{id:?}");
        assert!(seen.insert(reply.request_id().to_owned()), "ids are unique");
    }
    for _ in 0..10 {
        assert!(seen.insert(client.get("/health/live").request_id().to_owned()), "ids are unique");
    }
}

#[test]
fn every_kind_of_answer_carries_the_id_of_its_request() {
    let service = Service::builder().max_body_bytes(1000).start();
    let body = message("m1").to_string();
    let signature = sign(body.as_bytes());
    let id = ("X-Request-ID", "mine");
    let large = "x".repeat(1001);
    let cases: [(&str, &str, Headers<'_>, &str, u16); 8] = [
        ("POST", "/webhook", &[id, ("X-Signature", &signature)], &body, 200),
        ("POST", "/webhook", &[id], &body, 401),
        ("POST", "/webhook", &[id, ("X-Signature", &sign(b"{}"))], "{}", 422),
        ("POST", "/webhook", &[id], &large, 413),
        ("GET", "/webhook", &[id], "", 405),
        ("GET", "/nowhere", &[id], "", 404),
        ("GET", "/messages?limit=x", &[id], "", 422),
        ("GET", "/health/live", &[id, ("Host", "second")], "", 400),
    ];
    for (method, target, headers, body, status) in cases {
        let mut connection = service.connect();
        connection.write(request(method, target, headers, body.as_bytes()));
        let reply = connection.reply(method, target);
        assert_eq!((reply.status, reply.request_id()), (status, "mine"), "{method} {target}");
    }
}
