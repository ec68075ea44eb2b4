//! Lyftr behind nginx and behind HAProxy, which share a few connections to it among all their clients: what goes
//! through comes out unchanged, and no request hides in another.

use crate::support::certificates::Certificates;
use crate::support::client::request;
use crate::support::service::Service;
use crate::support::{message, message_with, sign};

mod attacks;
mod followers;
mod program;
mod smuggling;

use program::Program;
pub(crate) use program::Proxy;

/// Does something with each kind of proxy in front of a service of its own.
fn behind_each(visit: impl Fn(Program, &Service, &Proxy)) {
    for program in Program::ALL {
        let service = Service::start();
        let Some(proxy) = Proxy::start(program, service.address()) else { return };
        visit(program, &service, &proxy);
    }
}

#[test]
fn a_signed_message_is_stored_once_and_read_back_through_a_proxy() {
    behind_each(|program, service, proxy| {
        let mut client = proxy.client();
        let first = message("m1");
        let second = message_with("m2", "+14155550123", "2025-01-15T11:00:00Z", Some("a b+c&d%20é😀 \"q\""));
        for message in [&first, &second, &first] {
            client.store(message);
        }
        let mut conflict = first.clone();
        conflict["text"] = "Another".into();
        client.store(&conflict);
        for (query, ids) in [
            ("", vec!["m1", "m2"]),
            ("?limit=1&offset=1", vec!["m2"]),
            ("?from=%2B14155550123", vec!["m2"]),
            ("?since=2025-01-15T10:30:00Z", vec!["m2"]),
            ("?q=a%20b%2Bc%26d%2520%C3%A9%F0%9F%98%80+%22Q%22", vec!["m2"]),
            ("?q=b%252Bc", vec![]),
        ] {
            let listing = client.json(&format!("/messages{query}"));
            let data = listing["data"].as_array().unwrap();
            let found: Vec<_> = data.iter().map(|row| row["message_id"].as_str().unwrap()).collect();
            assert_eq!(found, ids, "{program:?} {query}");
        }
        let listing = client.json("/messages?limit=1");
        for (key, value) in first.as_object().unwrap() {
            assert_eq!(&listing["data"][0][key], value, "{program:?} {key}");
        }
        assert_eq!(client.json("/stats")["total_messages"], 2);
        assert_eq!(client.head("/stats").status, 200);
        assert_eq!(client.get("/health/live").status, 200);
        assert_eq!(client.get("/health/ready").status, 200);
        let mut direct = service.client();
        for (result, count) in [("created", 2.0), ("duplicate", 1.0), ("conflict", 1.0)] {
            let series = format!("webhook_requests_total{{result=\"{result}\"}}");
            assert_eq!(direct.metric(&series), count, "{program:?}");
        }
    });
}

#[test]
fn refusals_come_through_a_proxy_as_they_are() {
    behind_each(|program, service, proxy| {
        let mut client = proxy.client();
        let body = message("m1").to_string();
        assert_eq!(client.post(body.as_bytes(), &[]).status, 401, "{program:?}");
        assert_eq!(client.post(body.as_bytes(), &[&sign(b"another")]).status, 401, "{program:?}");
        assert_eq!(client.send_bytes(b"{}").status, 422, "{program:?}");
        assert_eq!(client.get("/nowhere").status, 404, "{program:?}");
        assert_eq!(client.get("/webhook").status, 405, "{program:?}");
        assert_eq!(client.get("/messages?limit=x").status, 422, "{program:?}");
        let reply = client.request("GET", "/stats", &[("X-Request-ID", "mine")], b"");
        assert_eq!((reply.status, reply.request_id()), (200, "mine"), "{program:?}");
        // Refused while the proxy still sends, which must not be taken for a broken server.
        for size in [262_145, 1_000_000] {
            let lines = format!("Host: a\r\nX-Signature: {}\r\n", sign(b"another"));
            let statuses = statuses_of_post(proxy, &lines, &" ".repeat(size));
            assert_eq!(statuses, [413], "{program:?} {size}");
        }
        assert_eq!(service.client().json("/messages")["total"], 0, "{program:?}");
    });
}

#[test]
fn large_bodies_and_bodies_in_chunks_come_through_a_proxy_unchanged() {
    behind_each(|program, service, proxy| {
        let mut client = proxy.client();
        let text = "é😀\\".repeat(1000);
        client.store(&message_with("large", "+1", "2025-01-15T10:00:00Z", Some(&text)));
        let mut padded = message("padded").to_string().into_bytes();
        padded.resize(262_144, b' ');
        assert_eq!(client.send_bytes(&padded).status, 200, "{program:?}");
        let body = message("chunked").to_string();
        let headers = [("X-Signature", &*sign(body.as_bytes())), ("Transfer-Encoding", "chunked")];
        let mut bytes = request("POST", "/webhook", &headers, b"");
        for piece in body.as_bytes().chunks(7) {
            bytes.extend_from_slice(format!("{:x};a=b\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(&[piece, b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"0\r\nX-Trailer: y\r\n\r\n");
        assert_eq!(client.raw("POST", "/webhook", &bytes).status, 200, "{program:?}");
        let listing = service.client().json("/messages?q=%C3%A9");
        assert_eq!((&listing["total"], &listing["data"][0]["text"]), (&1.into(), &text.into()));
        assert_eq!(service.client().json("/messages")["total"], 3, "{program:?}");
    });
}

#[test]
fn the_requests_of_many_clients_share_few_connections_and_are_stored_once() {
    const CLIENTS: usize = 8;
    const MESSAGES: usize = 50;
    behind_each(|program, service, proxy| {
        let post_all = |one_connection: bool| {
            let mut client = proxy.client();
            for n in 0..MESSAGES {
                client.store(&message(&format!("m{n}")));
                if !one_connection {
                    client = proxy.client();
                }
            }
        };
        std::thread::scope(|scope| {
            for n in 0..CLIENTS {
                scope.spawn(move || post_all(n % 2 == 0));
            }
        });
        let mut direct = service.client();
        assert_eq!(direct.json("/messages?limit=1")["total"], MESSAGES);
        assert_eq!(direct.metric(r#"webhook_requests_total{result="created"}"#), MESSAGES as f64);
        let duplicates = (CLIENTS - 1) * MESSAGES;
        assert_eq!(direct.metric(r#"webhook_requests_total{result="duplicate"}"#), duplicates as f64);
        // One for each client at most, and ours. Without reuse there would be 401.
        let connections = direct.metric("connections_total");
        assert!(connections <= (CLIENTS + 1) as f64, "{program:?}: {connections} connections");
    });
}

/// Posts a body with these lines in the header; the statuses of the answers.
fn statuses_of_post(proxy: &Proxy, lines: &str, body: &str) -> Vec<u16> {
    let length = body.len();
    let mut connection = proxy.connect();
    // A refusal may come, and the connection be closed, before everything is sent.
    drop(connection.try_write(format!(
        "POST /webhook HTTP/1.1\r\n{lines}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )));
    statuses(&connection.read_all())
}

#[test]
fn a_doubled_host_or_signature_stores_nothing_through_a_proxy() {
    behind_each(|program, service, proxy| {
        let body = message("m1").to_string();
        let good = sign(body.as_bytes());
        let bad = sign(b"another");
        for hosts in ["Host: a\r\nHost: b\r\n", "Host: b\r\nX: y\r\nhOST: a\r\n", ""] {
            let lines = format!("{hosts}X-Signature: {good}\r\n");
            assert_eq!(statuses_of_post(proxy, &lines, &body), [400], "{program:?} {hosts:?}");
        }
        for (one, two) in [(&good, &bad), (&bad, &good), (&good, &good)] {
            let lines = format!("Host: a\r\nX-Signature: {one}\r\nX-Signature: {two}\r\n");
            assert_eq!(statuses_of_post(proxy, &lines, &body), [401], "{program:?} {one} {two}");
        }
        assert_eq!(service.client().json("/messages")["total"], 0, "{program:?}");
        assert_eq!(statuses_of_post(proxy, &format!("Host: a\r\nX-Signature: {good}\r\n"), &body), [200]);
    });
}

#[test]
fn a_path_that_a_proxy_keeps_to_itself_has_no_second_spelling() {
    behind_each(|program, _service, proxy| {
        for target in [
            "/metrics",
            "/metrics?a=b",
            "/metrics/",
            "//metrics",
            "/./metrics",
            "/messages/../metrics",
            "/%6detrics",
            "/%6Detrics?a=b",
            "/metrics%2f",
            "/metrics%3fa",
            "/metrics;a=b",
            "/METRICS",
            "\\metrics",
            "/metrics%00",
            "/metrics#a",
            "http://lyftr.test/metrics",
            "http://lyftr.test/%6detrics",
            "http://lyftr.test//metrics",
            "http://another.test/metrics",
        ] {
            let mut connection = proxy.connect();
            connection
                .write(format!("GET {target} HTTP/1.1\r\nHost: lyftr.test\r\nConnection: close\r\n\r\n"));
            let answer = connection.read_all();
            let statuses = statuses(&answer);
            let refused = matches!(statuses.as_slice(), [400 | 403 | 404]);
            assert!(refused, "{program:?} {target}: {}", String::from_utf8_lossy(&answer));
        }
    });
}

/// The statuses of all the answers in these bytes, `100 Continue` left out.
#[track_caller]
fn statuses(answers: &[u8]) -> Vec<u16> {
    crate::support::client::statuses(answers).into_iter().filter(|status| *status != 100).collect()
}

#[test]
fn tls_ends_at_the_proxy() {
    let service = Service::start();
    let certificates = Certificates::make();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (certificate, key) = (file("certificate", &certificates.certificate), file("key", &certificates.key));
    let Some(proxy) = Proxy::with_tls(service.address(), &certificate, &key) else { return };
    let url = format!("https://localhost:{}", proxy.address().port());
    let agent = |certificates: &Certificates| -> ureq::Agent {
        let authority = ureq::tls::Certificate::from_pem(certificates.authority.as_bytes()).unwrap();
        let roots = ureq::tls::RootCerts::new_with_certs(&[authority]);
        let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
        ureq::Agent::config_builder().proxy(None).tls_config(tls).http_status_as_error(false).build().into()
    };
    let ours = agent(&certificates);
    let body = message("m1").to_string();
    let post = ours.post(format!("{url}/webhook")).header("X-Signature", sign(body.as_bytes()));
    assert_eq!(post.send(&body).unwrap().status(), 200);
    let listing = ours.get(format!("{url}/messages")).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(listing.contains(r#""message_id":"m1""#), "{listing}");
    assert_eq!(ours.get(format!("{url}/metrics")).call().unwrap().status(), 403);
    assert!(agent(&Certificates::make()).get(&url).call().is_err(), "a certificate of somebody else's");
}
