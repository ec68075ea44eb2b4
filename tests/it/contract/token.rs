//! `READ_TOKEN`: who may read, and that storing and the probes do not ask for it.

use insta::assert_snapshot;

use crate::support::message;
use crate::support::service::Service;

const TOKEN: &str = "a-token-for-reading";
const GUARDED: [&str; 6] = ["/messages", "/stats", "/stats/volume", "/events", "/cursors", "/metrics"];

#[test]
fn without_a_token_everybody_may_read() {
    let service = Service::start();
    let mut client = service.client();
    for target in GUARDED {
        assert_eq!(client.get(target).status, 200, "{target}");
        let reply = client.request("GET", target, &[("Authorization", "Bearer whatever")], b"");
        assert_eq!(reply.status, 200, "{target}");
    }
}

#[test]
fn with_a_token_only_who_has_it_may_read() {
    let service = Service::builder().read_token(TOKEN).start();
    let mut client = service.client();
    assert_snapshot!(client.get("/messages").line(), @r#"401 {"detail":"missing or wrong read token"}"#);
    let right = format!("Bearer {TOKEN}");
    let lower = format!("bearer {TOKEN}");
    let wrong = [
        String::new(),
        TOKEN.to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer{TOKEN}"),
        format!("Bearer  {TOKEN}"),
        format!("Bearer {TOKEN}x"),
        format!("Bearer {}", &TOKEN[1..]),
        format!("Bearer {}", TOKEN.to_uppercase()),
        format!("Bearer {TOKEN}, Bearer {TOKEN}"),
        format!("Basic {TOKEN}"),
        "Bearer é".to_owned(),
    ];
    for target in GUARDED {
        for method in ["GET", "HEAD"] {
            for good in [&right, &lower] {
                assert_eq!(
                    client.request(method, target, &[("Authorization", good)], b"").status,
                    200,
                    "{method} {target}"
                );
            }
            let missing = client.request(method, target, &[], b"");
            for bad in &wrong {
                let reply = client.request(method, target, &[("Authorization", bad)], b"");
                assert_eq!((reply.status, &reply.body), (401, &missing.body), "{method} {target} {bad:?}");
                assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
            }
        }
    }
}

#[test]
fn one_event_and_one_cursor_and_a_stream_need_the_token_too() {
    let service = Service::builder().read_token(TOKEN).start();
    let mut client = service.client();
    for (method, target) in
        [("GET", "/events/x"), ("GET", "/cursors/c"), ("PUT", "/cursors/c"), ("DELETE", "/cursors/c")]
    {
        assert_eq!(client.request(method, target, &[], b"").status, 401, "{method} {target}");
        let right = [("Authorization", &*format!("Bearer {TOKEN}"))];
        assert_ne!(client.request(method, target, &right, b"").status, 401, "{method} {target}");
    }
    assert_eq!(client.request("GET", "/events", &[("Accept", "text/event-stream")], b"").status, 401);
}

#[test]
fn a_token_in_the_query_does_not_count() {
    let service = Service::builder().read_token(TOKEN).start();
    let mut client = service.client();
    for name in ["token", "access_token", "read_token", "READ_TOKEN", "authorization", "Authorization"] {
        for target in GUARDED {
            assert_eq!(client.get(&format!("{target}?{name}={TOKEN}")).status, 401, "{target} {name}");
            assert_eq!(client.get(&format!("{target}?{name}=Bearer+{TOKEN}")).status, 401, "{target} {name}");
        }
    }
    for header in ["X-Read-Token", "Cookie", "Proxy-Authorization"] {
        let value = format!("Bearer {TOKEN}");
        assert_eq!(client.request("GET", "/stats", &[(header, &value)], b"").status, 401, "{header}");
    }
}

#[test]
fn storing_and_the_probes_need_no_token() {
    let service = Service::builder().read_token(TOKEN).start();
    let mut client = service.client();
    client.store(&message("m1"));
    assert_eq!(client.get("/health/live").status, 200);
    assert_eq!(client.get("/health/ready").status, 200);
    assert_eq!(client.get("/nowhere").status, 404);
    assert_eq!(client.request("DELETE", "/messages", &[], b"").status, 405);
}

#[test]
fn the_token_comes_before_the_query_and_the_store() {
    let service = Service::builder().read_token(TOKEN).start();
    let mut client = service.client();
    service.faulty().reads.all(crate::support::service::Fault::Unavailable);
    assert_eq!(client.get("/messages?limit=x").status, 401);
    let right = [("Authorization", &*format!("Bearer {TOKEN}"))];
    assert_eq!(client.request("GET", "/messages?limit=x", &right, b"").status, 422);
    assert_eq!(client.request("GET", "/messages", &right, b"").status, 503);
    assert_eq!(service.faulty().reads.count(), 1);
}
