//! How sources are served: their routes, limits, metrics, log lines and reloads.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use lyftr::clock;
use lyftr::event::Source;
use lyftr::source::{Config, Settings};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Captured, source};
use crate::support::client::{Connection, Reply, request};
use crate::support::process::Process;
use crate::support::service::{Fault, Service};
use crate::support::{DEADLINE, eventually};

const SECRET: &str = "a secret that signs for a source";

/// A source of this kind.
fn of_kind(name: &str, kind: &str, more: &str) -> Settings {
    let settings = source(&format!("kind = \"{kind}\"\n{more}"), SECRET);
    Settings { name: Source::new(name).unwrap(), ..settings }
}

fn config<const N: usize>(sources: [Settings; N]) -> Config {
    Config { sources: Vec::from(sources), warnings: Vec::new() }
}

/// The headers that sign a body, and these others.
fn headers(settings: &Settings, others: &[(&str, &str)], body: &[u8]) -> Vec<(String, String)> {
    let request = Captured::new("/webhook/x", others, body);
    let now = clock::now().as_second();
    let signed = settings.sign(&request.lent(), "msg_1", now).unwrap();
    let signed = signed.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    signed.chain(others.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).collect()
}

/// A request with these headers, over a connection of its own.
fn ask(service: &Service, method: &str, target: &str, headers: &[(String, String)], body: &[u8]) -> Reply {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut connection = Connection::open(service.address());
    drop(connection.try_write(request(method, target, &headers, body)));
    connection.reply(method, target)
}

fn post(service: &Service, settings: &Settings, others: &[(&str, &str)], body: &[u8]) -> Reply {
    let target = format!("/webhook/{}", settings.name.as_str());
    ask(service, "POST", &target, &headers(settings, others, body), body)
}

/// A text message as WhatsApp sends it.
fn whatsapp(id: &str, text: &str) -> Vec<u8> {
    let message = json!({"from": "12025550123", "id": id, "timestamp": "1763463600", "type": "text", "text": {"body": text}});
    let value = json!({"messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "15550100100", "phone_number_id": "2"}, "messages": [message]});
    let entry = json!({"id": "1", "changes": [{"value": value, "field": "messages"}]});
    json!({"object": "whatsapp_business_account", "entry": [entry]}).to_string().into_bytes()
}

#[test]
fn a_name_that_is_no_source_is_not_found_and_other_methods_are_not_allowed() {
    let service = Service::builder()
        .sources(config([of_kind("wa", "whatsapp", ""), of_kind("hub", "github", "")]))
        .start();
    for (method, target, status, allow) in [
        ("POST", "/webhook/none", 404, None),
        ("GET", "/webhook/none", 404, None),
        ("PUT", "/webhook/none", 404, None),
        ("POST", "/webhook/webhook", 404, None),
        ("POST", "/webhook/", 404, None),
        ("POST", "/webhook/wa/", 404, None),
        ("POST", "/webhook/wa/x", 404, None),
        ("POST", "/webhook/WA", 404, None),
        ("GET", "/webhook/hub", 405, Some("POST")),
        ("HEAD", "/webhook/hub", 405, Some("POST")),
        ("DELETE", "/webhook/hub", 405, Some("POST")),
        ("PUT", "/webhook/wa", 405, Some("GET,HEAD,POST")),
        ("GET", "/webhook/wa", 403, None),
        ("POST", "/webhook/wa", 401, None),
        ("POST", "/webhook/%77a", 401, None),
    ] {
        let reply = ask(&service, method, target, &[], b"");
        assert_eq!((reply.status, reply.header("allow")), (status, allow), "{method} {target}");
    }
    // A scan of names adds no series.
    let page = service.client().metrics();
    assert!(!page.contains("\"none\"") && !page.contains("/none"), "{page}");
    assert!(
        page.contains(r#"http_requests_total{method="POST",path="/webhook/{name}",status="404"} 3"#),
        "{page}"
    );
}

#[test]
fn metrics_and_log_lines_know_the_source_and_no_key() {
    let (wa, hub) =
        (of_kind("wa", "whatsapp", "verify_token = { env = \"SECRET\" }"), of_kind("hub", "github", ""));
    let service = Service::builder().sources(config([wa.clone(), hub.clone()])).start();
    let body = whatsapp("wamid.1", "hello");
    for body in [&body, &body, &whatsapp("wamid.1", "other"), &b"no JSON".to_vec()] {
        assert_eq!(post(&service, &wa, &[], body).line(), r#"200 {"status":"ok"}"#);
    }
    let mut wrong = headers(&wa, &[], &body);
    wrong[0].1 = format!("sha256={}", "0".repeat(64));
    assert_eq!(
        ask(&service, "POST", "/webhook/wa", &wrong, &body).line(),
        r#"401 {"detail":"invalid signature"}"#
    );
    assert_eq!(ask(&service, "POST", "/webhook/wa", &[], &body).status, 401);
    let token = SECRET.replace(' ', "+");
    for (given, status) in [(token.as_str(), 200), ("other", 403)] {
        let target = format!("/webhook/wa?hub.mode=subscribe&hub.challenge=c-1&hub.verify_token={given}");
        assert_eq!(ask(&service, "GET", &target, &[], b"").status, status);
    }
    // GitHub's id is not signed.
    for id in ["1", "1", "2", "3"] {
        assert_eq!(
            post(&service, &hub, &[("x-github-delivery", id), ("x-github-event", "ping")], b"{}").status,
            200
        );
    }
    let page = service.client().metrics();
    for line in [
        r#"webhook_requests_total{result="created"} 0"#,
        r#"webhook_requests_total{source="wa",result="created"} 2"#,
        r#"webhook_requests_total{source="wa",result="duplicate"} 1"#,
        r#"webhook_requests_total{source="wa",result="conflict"} 1"#,
        r#"webhook_requests_total{source="wa",result="invalid_signature"} 3"#,
        r#"webhook_requests_total{source="wa",result="handshake"} 1"#,
        r#"webhook_requests_total{source="hub",result="created"} 3"#,
        r#"webhook_verified_total{source="webhook",key="current"} 0"#,
        r#"webhook_verified_total{source="wa",key="current"} 4"#,
        r#"webhook_refused_total{source="wa",reason="no_match"} 1"#,
        r#"webhook_refused_total{source="wa",reason="missing_header"} 1"#,
        r#"webhook_events_total{source="wa",result="created"} 2"#,
        r#"webhook_events_total{source="wa",result="conflict"} 1"#,
        r#"webhook_malformed_events_total{source="wa"} 1"#,
        r#"webhook_malformed_events_total{source="hub"} 0"#,
        r#"webhook_repeated_bodies_total{source="hub"} 2"#,
        r#"webhook_repeated_bodies_total{source="wa"} 0"#,
    ] {
        assert!(page.lines().any(|other| other == line), "{line} is missing:\n{page}");
    }
    let lines = eventually("the last request is in the log", || {
        let lines = service.log().values();
        (lines.iter().filter(|line| line["source"] == "hub").count() == 4).then_some(lines)
    });
    let log = service.log().text();
    let of = |source: &str| -> Vec<String> {
        let fields = ["level", "status", "events", "dup", "result", "reason"];
        let lines = lines.iter().filter(|line| line["source"] == source && line["path"] == "/webhook/{name}");
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        lines.map(|line| fields.map(|field| word(&line[field])).join(" ")).collect()
    };
    let expected = [
        "INFO 200 1 false created null",
        "INFO 200 1 true duplicate null",
        "WARN 200 1 true conflict null",
        "INFO 200 1 false created null",
        "ERROR 401 null false invalid_signature no_match",
        "ERROR 401 null false invalid_signature missing_header",
        "INFO 200 null false handshake null",
        "ERROR 403 null false invalid_signature null",
    ];
    assert_eq!(of("wa"), expected);
    assert_eq!(of("hub").len(), 4);
    for secret in ["wamid", "hello", "12025550123", SECRET, "message_id"] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[test]
fn a_body_may_have_exactly_its_limit_and_the_built_in_source_has_a_limit_of_its_own() {
    let (small, large) = (of_kind("small", "github", "max_body_bytes = 100"), of_kind("large", "github", ""));
    let service =
        Service::builder().sources(config([small.clone(), large.clone()])).max_body_bytes(10).start();
    for (settings, length, status) in
        [(&small, 100, 200), (&small, 101, 413), (&large, 4 << 20, 200), (&large, (4 << 20) + 1, 413)]
    {
        let mut body = vec![b' '; length];
        body[length - 2..].copy_from_slice(b"{}");
        let id = length.to_string();
        assert_eq!(post(&service, settings, &[("x-github-delivery", &id)], &body).status, status, "{length}");
        let mut chunked = headers(settings, &[("x-github-delivery", &id)], &body);
        chunked.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
        let target = format!("/webhook/{}", settings.name.as_str());
        let mut connection = Connection::open(service.address());
        let names: Vec<_> = chunked.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut sent = request("POST", &target, &names, b"");
        for piece in body.chunks(1 << 20) {
            sent.extend(
                format!("{:x}\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"),
            );
        }
        sent.extend(b"0\r\n\r\n");
        drop(connection.try_write(sent));
        assert_eq!(connection.reply("POST", &target).status, status, "{length} in chunks");
    }
}

/// Whoever knows no secret can fill the memory for bodies, and no more than that.
#[test]
fn large_bodies_in_flight_are_bounded_and_small_deliveries_are_received_beside_them() {
    let hub = of_kind("hub", "github", "max_body_bytes = 20971520");
    let service = Service::builder().sources(config([hub.clone()])).start();
    let length = 20 << 20;
    let body = vec![b' '; length];
    let names = headers(&hub, &[], &body);
    let names: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let sent = request("POST", "/webhook/hub", &names, &body);
    // All but the end.
    let begin = || {
        let mut connection = Connection::open(service.address());
        drop(connection.try_write(&sent[..sent.len() - 1]));
        connection
    };
    // Of 64 MiB they take 60, one after the other.
    let mut three = Vec::new();
    for number in 1..=3 {
        three.push(begin());
        let taken = f64::from(number * (20 << 20)) - 1e6;
        eventually("it is received but for its end", || {
            (service.client().metric("source_bodies_bytes") >= taken).then_some(())
        });
    }
    let refused = eventually("there is no room for a fourth", || {
        let reply = begin().reply_or_end("POST", "/webhook/hub")?;
        (reply.status == 503).then_some(reply)
    });
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(post(&service, &hub, &[("x-github-delivery", "1")], b"{}").status, 200);
    assert!(service.client().metric(r#"webhook_requests_total{source="hub",result="overloaded"}"#) >= 1.0);
    assert!(
        service.client().metric("source_bodies_bytes") <= service.client().metric("source_bodies_bytes_max")
    );
    for connection in &mut three {
        drop(connection.try_write(b" "));
        let status = connection.reply("POST", "/webhook/hub").status;
        // On a busy machine it has come too slowly.
        assert!([200, 408].contains(&status), "{status}");
    }
    assert_eq!(post(&service, &hub, &[("x-github-delivery", "2")], &body).status, 200);
    assert_eq!(service.client().metric("source_bodies_bytes"), 0.0);
}

/// Sends a body, the begin of it at once and then a piece every tenth of a second, until it is answered; the status.
fn post_slowly(
    service: &Service,
    settings: &Settings,
    id: &str,
    lengths: (usize, usize),
    piece: usize,
) -> u16 {
    let (begin, length) = lengths;
    let body = [b"{}".to_vec(), vec![b' '; length - 2]].concat();
    let names = headers(settings, &[("x-github-delivery", id)], &body);
    let names: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let target = format!("/webhook/{}", settings.name.as_str());
    let sent = request("POST", &target, &names, &body);
    let (first, rest) = sent.split_at(sent.len() - length + begin);
    let mut connection = Connection::open(service.address());
    connection.write(first);
    for piece in rest.chunks(piece) {
        if connection.has_arrived() || connection.try_write(piece).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    connection.reply("POST", &target).status
}

#[test]
fn a_body_that_takes_room_must_come_faster_than_64_kb_a_second() {
    let hub = of_kind("hub", "github", "max_body_bytes = 8388608");
    let service = Service::builder().sources(config([hub.clone()])).start();
    let statuses = std::thread::scope(|scope| {
        [
            // 12 KB a second with room, and without.
            (1, (100_000, 240_000), 1_200),
            (2, (0, 60_000), 1_200),
            // Half a megabyte a second for eight seconds.
            (3, (100_000, 4_000_000), 50_000),
        ]
        .map(|(id, lengths, piece)| {
            let (service, hub) = (&service, &hub);
            scope.spawn(move || post_slowly(service, hub, &id.to_string(), lengths, piece))
        })
        .map(|thread| thread.join().unwrap())
    });
    assert_eq!(statuses, [408, 200, 200]);
    assert_eq!(service.client().metric("source_bodies_bytes"), 0.0);
}

#[test]
fn a_delivery_is_acknowledged_as_a_whole_or_not_at_all() {
    let wa = of_kind("wa", "whatsapp", "");
    let service = Service::builder().sources(config([wa.clone()])).start();
    service.faulty().inserts.all(Fault::Unavailable);
    let reply = post(&service, &wa, &[], &whatsapp("wamid.1", "hello"));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    service.faulty().heal();
    assert_eq!(service.client().metric(r#"webhook_requests_total{source="wa",result="error"}"#), 1.0);
    assert_eq!(service.client().metric(r#"webhook_events_total{source="wa",result="created"}"#), 0.0);
    assert_eq!(post(&service, &wa, &[], &whatsapp("wamid.1", "hello")).status, 200);
    assert_eq!(service.client().json("/events?source=wa")["data"].as_array().unwrap().len(), 1);
}

#[test]
fn reloaded_sources_are_served_in_the_place_of_the_others() {
    let (one, two) = (of_kind("one", "github", ""), of_kind("two", "github", ""));
    let service = Service::builder().sources(config([one.clone(), two.clone()])).start();
    let send =
        |settings: &Settings, id: &str| post(&service, settings, &[("x-github-delivery", id)], b"{}").status;
    assert_eq!((send(&one, "1"), send(&two, "1")), (200, 200));
    let changed = source("kind = \"github\"", "another secret");
    let changed = Settings { name: Source::new("one").unwrap(), ..changed };
    let three = of_kind("three", "github", "");
    service.reload(config([changed.clone(), three.clone()]));
    eventually("the sources are reloaded", || (send(&three, "1") == 200).then_some(()));
    assert_eq!((send(&one, "2"), send(&two, "2"), send(&changed, "2")), (401, 404, 200));
    let page = service.client().metrics();
    assert!(page.contains("webhook_requests_total{source=\"one\",result=\"created\"} 2\n"), "{page}");
    assert!(!page.contains("\"two\""), "{page}");
    // Their events stay.
    assert_eq!(service.client().json("/events?source=two")["data"].as_array().unwrap().len(), 1);
}

/// Standard Webhooks signs each attempt with another time, which is the event's where the body names none.
#[test]
fn a_retry_with_another_signed_time_is_no_conflict() {
    let any = source("kind = \"standard-webhooks\"", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX");
    let service = Service::builder().sources(config([any.clone()])).start();
    let body = br#"{"type":"x"}"#;
    for behind in [0, 5] {
        let request = Captured::new("/webhook/a", &[], body);
        let signed = any.sign(&request.lent(), "msg_1", clock::now().as_second() - behind).unwrap();
        let signed: Vec<_> = signed
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        assert_eq!(ask(&service, "POST", "/webhook/a", &signed, body).status, 200);
    }
    let of = |result| {
        service.client().metric(&format!("webhook_events_total{{source=\"a\",result=\"{result}\"}}"))
    };
    assert_eq!((of("created"), of("duplicate"), of("conflict")), (1.0, 1.0, 0.0));
}

/// The whole program, its file and its signal.
#[test]
fn sighup_reads_the_sources_again_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let one = |name: &str| {
        format!(
            "[[source]]\nname = \"{name}\"\nkind = \"github\"\nsecrets = [{{ name = \"s\", file = \"secret\" }}]\n"
        )
    };
    write("sources.toml", &one("first"));
    write("secret", &format!("{SECRET}\n"));
    let process = Process::builder().folder(folder.path()).env("SOURCES_FILE", "sources.toml").start();
    let send = |name: &str, settings: &Settings| {
        let names = headers(settings, &[("x-github-delivery", "1")], b"{}");
        let names: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let target = format!("/webhook/{name}");
        process.client().raw("POST", &target, &request("POST", &target, &names, b"{}")).status
    };
    let hub = of_kind("first", "github", "");
    assert_eq!((send("first", &hub), send("second", &hub)), (200, 404));
    let reload = |says: &str| {
        process.signal(Signal::HUP);
        eventually(says, || process.log_values().into_iter().rev().find(|line| line["message"] == says))
    };
    write("sources.toml", &format!("{}{}nonsense = 1\n", one("first"), one("second")));
    let said = reload("the sources stay as they were; what was read has mistakes");
    assert_eq!(said["level"], "ERROR");
    assert!(said["error"].as_str().unwrap().starts_with("SOURCES_FILE, line 9: "), "{said}");
    assert_eq!((send("first", &hub), send("second", &hub)), (200, 404));
    write("sources.toml", &format!("{}{}", one("first"), one("second")));
    write("secret", "another secret\n");
    let said = reload("the sources were read again");
    assert_eq!((said["level"].as_str(), &said["sources"]), (Some("INFO"), &json!(2)));
    let changed = source("kind = \"github\"", "another secret");
    assert_eq!((send("second", &changed), send("first", &hub)), (200, 401));
    assert!(!process.log_lines().concat().contains(SECRET));
}

#[test]
fn wrong_sources_keep_the_service_from_starting_and_all_mistakes_are_told() {
    let toml = "[[source]]\nname = \"a\"\nkind = \"git\"\nsecrets = []\n";
    let finished = Process::builder().env("SOURCES", toml).env("PORT", "x").run();
    assert_eq!(finished.code(), Some(2), "{}", finished.stderr);
    for told in ["PORT should be", "SOURCES, line 3: ", "SOURCES, line 4: "] {
        assert!(finished.stderr.contains(told), "{told}: {}", finished.stderr);
    }
}

/// A client that leaves in the middle of its body is counted for its source.
#[test]
fn a_client_that_leaves_is_counted() {
    let hub = of_kind("hub", "github", "");
    let service = Service::builder().sources(config([hub.clone()])).start();
    let names = headers(&hub, &[], b"{}");
    let names: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut sent = request("POST", "/webhook/hub", &names, b"{}");
    sent.pop();
    let mut stream = TcpStream::connect(service.address()).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(&sent).unwrap();
    drop(stream);
    let counts = || -> BTreeMap<String, f64> {
        let of = |result: &str| {
            service.client().metric(&format!("webhook_requests_total{{source=\"hub\",result=\"{result}\"}}"))
        };
        ["error", "validation_error"].map(|result| (result.to_owned(), of(result))).into()
    };
    eventually("it is counted", || (counts().values().sum::<f64>() == 1.0).then_some(()));
}
