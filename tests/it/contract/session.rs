//! `/session`: signing in to the page with the read token.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use insta::assert_snapshot;
use lyftr::clock::Clock;

use crate::support::client::{Client, Reply, request};
use crate::support::service::Service;
use crate::support::{eventually, message};

const TOKEN: &str = "a token & more: ü+%";
const FORM: &[u8] = b"token=a+token+%26+more%3A+%C3%BC%2B%25";

fn at_host(client: &mut Client, method: &str, host: &str, form: &[u8]) -> Reply {
    let bytes = String::from_utf8(request(method, "/session", &[], form)).unwrap();
    client.raw(method, "/session", bytes.replace("lyftr.test", host).as_bytes())
}

fn sign_in(client: &mut Client, host: &str) -> Reply {
    at_host(client, "POST", host, FORM)
}

/// The cookie of a session, as a browser sends it back.
fn cookie(client: &mut Client) -> String {
    let reply = sign_in(client, "localhost");
    assert_eq!(reply.status, 204, "{}", reply.text());
    reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

#[test]
fn the_token_gets_a_cookie_that_no_script_and_no_other_site_has() {
    let service = Service::builder().read_token(TOKEN).start();
    let reply = sign_in(&mut service.client(), "inbox.example");
    let attributes = reply.header("set-cookie").unwrap().split_once("; ").unwrap().1.to_owned();
    assert_eq!(attributes, "Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    for host in ["localhost:8000", "127.0.0.1:8000", "[::1]:8000"] {
        let reply = sign_in(&mut service.client(), host);
        assert!(!reply.header("set-cookie").unwrap().contains("Secure"), "{host}");
    }
}

#[test]
fn a_cookie_reads_and_does_nothing_else() {
    let service = Service::builder().read_token(TOKEN).admin_token("another-token-for-admins").start();
    let mut client = service.client();
    client.store(&message("m1"));
    let cookie = cookie(&mut client);
    for target in ["/messages", "/stats", "/stats/volume", "/events", "/cursors", "/metrics"] {
        for method in ["GET", "HEAD"] {
            let reply = client.request(method, target, &[("Cookie", &*cookie)], b"");
            assert_eq!(reply.status, 200, "{method} {target}");
            assert!(reply.header("lyftr-session").is_some_and(|end| end.ends_with('Z')), "{target}");
        }
    }
    let body = br#"{"position":"0000000000000001a1b2c3d4e5f60718"}"#;
    for (method, target) in
        [("PUT", "/cursors/c"), ("DELETE", "/cursors/c"), ("DELETE", "/events?source=webhook")]
    {
        let headers = [("Cookie", &*cookie), ("If-None-Match", "*")];
        let reply = client.request(method, target, &headers, body);
        assert_eq!(reply.status, 401, "{method} {target}");
    }
    assert_eq!(client.request("POST", "/webhook", &[("Cookie", &*cookie)], b"{}").status, 401);
}

#[test]
fn the_token_in_the_header_needs_no_session_and_gets_none() {
    let service = Service::builder().read_token("a-token-for-reading").start();
    let headers = [("Authorization", "Bearer a-token-for-reading")];
    let reply = service.client().request("GET", "/messages", &headers, b"");
    assert_eq!((reply.status, reply.header("lyftr-session")), (200, None));
}

#[test]
fn a_session_ends_after_twelve_hours() {
    let now = Arc::new(AtomicI64::new(1_800_000_000));
    let clock = Arc::clone(&now);
    let clock = Clock::of(move || jiff::Timestamp::from_second(clock.load(Relaxed)).unwrap());
    let service = Service::builder().read_token(TOKEN).clock(clock).start();
    let mut client = service.client();
    let cookie = cookie(&mut client);
    let mut ask = || client.request("GET", "/stats", &[("Cookie", &*cookie)], b"");
    assert_eq!(ask().header("lyftr-session"), Some("2027-01-15T20:00:00Z"));
    now.fetch_add(12 * 3_600 - 1, Relaxed);
    assert_eq!(ask().status, 200);
    now.fetch_add(1, Relaxed);
    assert_eq!(ask().status, 401);
}

#[test]
fn a_session_is_valid_on_every_replica_and_void_where_the_token_is_another() {
    let (one, replica) =
        (Service::builder().read_token(TOKEN).start(), Service::builder().read_token(TOKEN).start());
    let changed = Service::builder().read_token("the next token").start();
    let without_page = Service::builder().read_token(TOKEN).without_page().start();
    let cookie = cookie(&mut one.client());
    let status =
        |service: &Service| service.client().request("GET", "/stats", &[("Cookie", &*cookie)], b"").status;
    assert_eq!([&one, &replica, &changed, &without_page].map(status), [200, 200, 401, 401]);
}

#[test]
fn a_cookie_that_was_changed_is_none() {
    let service = Service::builder().read_token(TOKEN).start();
    let mut client = service.client();
    let cookie = cookie(&mut client);
    let value = cookie.split_once('=').unwrap().1;
    for wrong in [
        "lyftr_session".to_owned(),
        "lyftr_session=".to_owned(),
        format!("lyftr_session={TOKEN}"),
        format!("lyftr_session=9{value}"),
        format!("lyftr_session={value}0"),
        format!("session={value}"),
        value.to_owned(),
    ] {
        let wrong = wrong.replace('ü', "u");
        assert_eq!(client.request("GET", "/stats", &[("Cookie", &*wrong)], b"").status, 401, "{wrong}");
    }
    let both = format!("a=b; lyftr_session=0.0; {cookie}");
    assert_eq!(client.request("GET", "/stats", &[("Cookie", &*both)], b"").status, 200);
}

#[test]
fn a_wrong_token_is_told_and_counted() {
    let service = Service::builder().read_token(TOKEN).start();
    let mut client = service.client();
    let wrong = client.request("POST", "/session", &[], b"token=wrong");
    assert_snapshot!(wrong.line(), @r#"401 {"detail":"wrong read token"}"#);
    assert_eq!(wrong.header("set-cookie"), None);
    for form in [&b""[..], b"token", b"Token=x", b"token=a&token=b"] {
        let reply = client.request("POST", "/session", &[], form);
        let expected = if form == b"token" { 401 } else { 400 };
        assert_eq!(reply.status, expected, "{}", String::from_utf8_lossy(form));
    }
    let large = client.request("POST", "/session", &[], &vec![b'x'; 4097]);
    assert_eq!(large.status, 413);
    assert_eq!(sign_in(&mut service.client(), "localhost").status, 204);
    let metric = |result: &str| {
        let page =
            service.client().request("GET", "/metrics", &[("Cookie", &*cookie(&mut service.client()))], b"");
        let series = format!("sign_ins_total{{result=\"{result}\"}} ");
        page.text().lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned)).unwrap()
    };
    assert_eq!(
        (metric("wrong_token").as_str(), metric("ok").as_str(), metric("refused").as_str()),
        ("2", "3", "0")
    );
}

#[test]
fn no_page_of_another_site_can_use_up_the_turns() {
    let service = Service::builder().read_token(TOKEN).start();
    let mut client = service.client();
    for (site, status) in [("same-origin", 204), ("none", 204), ("cross-site", 403), ("same-site", 403)] {
        let reply = client.request("POST", "/session", &[("Sec-Fetch-Site", site)], FORM);
        assert_eq!(reply.status, status, "{site}");
    }
}

/// Tokens are tried one after the other, also by clients that do not wait for the answer.
#[test]
fn wrong_tokens_are_slowed_down_for_who_does_not_wait_for_the_answer_too() {
    let service = Service::builder().read_token(TOKEN).start();
    let request = request("POST", "/session", &[], b"token=wrong");
    // Each holds the turn of all for half a second, so that the last of them wait in vain.
    let hasty: Vec<_> = (0..30)
        .map(|_| {
            let mut connection = service.connect();
            connection.write(&request);
            connection
        })
        .collect();
    let mut refused = 0;
    for mut connection in hasty.into_iter().skip(5) {
        let reply = connection.reply("POST", "/session");
        if reply.status == 429 {
            assert_eq!(reply.header("retry-after"), Some("5"));
            refused += 1;
        }
    }
    assert!(refused > 0, "all were tried within seconds");
    eventually("the token signs in again", || {
        (sign_in(&mut service.client(), "localhost").status == 204).then_some(())
    });
}

#[test]
fn signing_out_takes_the_cookie_away() {
    let service = Service::builder().read_token(TOKEN).start();
    let reply = at_host(&mut service.client(), "DELETE", "localhost", b"");
    assert_eq!(reply.status, 204);
    let expected = "lyftr_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict";
    assert_eq!(reply.header("set-cookie"), Some(expected));
}

#[test]
fn where_reads_are_open_nobody_has_to_sign_in() {
    let service = Service::start();
    assert_eq!(service.client().request("POST", "/session", &[], b"token=x").status, 404);
    let reply = service.client().request("GET", "/messages", &[("Cookie", "lyftr_session=1.a")], b"");
    assert_eq!((reply.status, reply.header("lyftr-session")), (200, None));
}
