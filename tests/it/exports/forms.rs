//! How an export is asked for.

use super::filled;
use crate::support::chunked::Chunked;
use crate::support::client::Connection;
use crate::support::message;
use crate::support::service::Service;

const NDJSON: &str = "application/x-ndjson";
const CSV: &str = "text/csv; charset=utf-8";
const JSON: &str = "application/json";

#[test]
fn a_client_gets_the_form_that_it_prefers() {
    let service = Service::start();
    service.client().store(&message("m1"));
    for (accept, query, media) in [
        ("application/x-ndjson", "", NDJSON),
        ("text/csv", "", CSV),
        ("text/csv;q=0.5, application/x-ndjson;q=0.9", "", NDJSON),
        ("*/*", "?format=csv", CSV),
        ("text/csv", "?format=ndjson", NDJSON),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "?format=ndjson", NDJSON),
    ] {
        for path in ["/messages", "/events"] {
            let target = format!("{path}{query}");
            let reply = Chunked::open(service.address(), &target, &[("Accept", accept)]).whole();
            assert_eq!(reply.header("content-type"), Some(media), "{accept} {target}");
            let extension = if media == CSV { "csv" } else { "ndjson" };
            let file = format!("attachment; filename=\"{}.{extension}\"", &path[1..]);
            assert_eq!(reply.header("content-disposition"), Some(&*file), "{accept} {target}");
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{accept} {target}");
        }
    }
    let mut client = service.client();
    for (accept, query) in [
        ("*/*", ""),
        ("text/csv;q=0", ""),
        ("text/*", ""),
        ("application/json, text/csv", ""),
        ("text/csv", "?format=json"),
        ("text/event-stream", "?format=json"),
    ] {
        for path in ["/messages", "/events"] {
            let reply = client.request("GET", &format!("{path}{query}"), &[("Accept", accept)], b"");
            assert_eq!(reply.header("content-type"), Some(JSON), "{accept} {path}{query}");
            assert_eq!(reply.header("content-disposition"), None);
        }
    }
}

#[test]
fn an_unknown_format_is_one_of_the_errors_of_the_list() {
    let service = Service::start();
    let mut client = service.client();
    for path in ["/messages", "/events"] {
        let reply = client.get(&format!("{path}?format=xlsx&limit=0"));
        assert_eq!(reply.status, 422, "{}", reply.line());
        let detail = &reply.json()["detail"];
        assert_eq!(detail[0]["type"], "literal_error");
        assert_eq!(detail[0]["loc"], serde_json::json!(["query", "format"]));
        assert_eq!(detail[0]["input"], "xlsx");
        assert_eq!(detail[1]["loc"], serde_json::json!(["query", "limit"]));
        assert_eq!(client.get(&format!("{path}?format=&limit=1")).header("content-type"), Some(JSON));
    }
}

#[test]
fn head_gives_the_headers_and_reads_nothing() {
    let service = filled();
    let mut client = service.client();
    let (reads, logs) = (service.faulty().reads.count(), service.faulty().logs.count());
    for path in ["/messages", "/events", "/events?cursor=none"] {
        let separator = if path.contains('?') { '&' } else { '?' };
        let reply = client.head(&format!("{path}{separator}format=csv"));
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(CSV)));
        assert_eq!(reply.header("content-length"), None);
        let reply = client.request("HEAD", path, &[("Accept", NDJSON)], b"");
        assert_eq!((reply.status, reply.header("content-type")), (200, Some(NDJSON)));
        let wrong = client.head(&format!("{path}{separator}format=csv&limit=0"));
        assert_eq!(wrong.status, 422);
    }
    assert_eq!((service.faulty().reads.count(), service.faulty().logs.count()), (reads, logs));
    assert_eq!(client.connections, 1, "each answer has its end");
}

#[test]
fn an_export_needs_the_read_token() {
    let service = Service::builder().read_token("a-token-for-reading").start();
    let mut client = service.client();
    for path in ["/messages", "/events"] {
        for method in ["GET", "HEAD"] {
            for headers in [&[("Accept", NDJSON)][..], &[("Accept", NDJSON), ("Authorization", "Bearer x")]] {
                assert_eq!(client.request(method, path, headers, b"").status, 401, "{method} {path}");
            }
        }
        let right = [("Accept", NDJSON), ("Authorization", "Bearer a-token-for-reading")];
        assert_eq!(Chunked::open(service.address(), path, &right).whole().text(), "");
    }
}

#[test]
fn a_client_that_could_not_see_a_part_from_the_whole_gets_none() {
    let service = Service::start();
    let mut connection = Connection::open(service.address());
    connection.write("GET /messages?format=csv HTTP/1.0\r\nHost: a\r\n\r\n");
    let reply = connection.reply("GET", "/messages?format=csv");
    assert_eq!(reply.status, 505, "{}", reply.line());
    let mut connection = Connection::open(service.address());
    connection.write("GET /messages HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(connection.reply("GET", "/messages").status, 200);
}

#[test]
fn a_connection_goes_on_after_a_whole_export() {
    let service = filled();
    let mut export = Chunked::open(service.address(), "/messages?format=ndjson&limit=5", &[]);
    while export.fill() {}
    assert!(export.is_whole());
    export.connection().write("GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(export.connection().reply("GET", "/health/live").status, 200);
}
