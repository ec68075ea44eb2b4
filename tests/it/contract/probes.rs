//! The probes and the metrics page, as a monitoring system meets them first.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::service::{Fault, Service};
use crate::support::{eventually, message, on_sqlite};

/// Asks until `/health/ready` says no; its words.
#[track_caller]
fn not_ready(service: &Service) -> String {
    let mut client = service.client();
    let reply =
        eventually("not ready", || Some(client.get("/health/ready")).filter(|reply| reply.status != 200));
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["status"], "not_ready");
    assert_eq!(client.get("/health/live").status, 200, "live all the same");
    reply.json()["detail"].as_str().unwrap().to_owned()
}

#[test]
fn a_service_in_good_order_is_live_and_ready() {
    let service = Service::start();
    let mut client = service.client();
    assert_snapshot!(client.get("/health/live").line(), @r#"200 {"status":"ok"}"#);
    assert_snapshot!(client.get("/health/ready").line(), @r#"200 {"status":"ready"}"#);
}

#[test]
fn a_removed_database_file_shows() {
    if !on_sqlite() {
        return;
    }
    let service = Service::start();
    service.client().store(&message("m1"));
    std::fs::remove_file(service.database()).unwrap();
    assert_snapshot!(not_ready(&service), @"the database file was removed or replaced");
}

#[test]
fn a_removed_table_shows() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message("m1"));
    service.run_sql(if on_sqlite() { "DROP TABLE event" } else { "DROP TABLE event CASCADE" });
    assert_snapshot!(not_ready(&service), @"unexpected schema in the database");
    assert_eq!(client.send(&message("m2")).status, 503);
    assert_eq!(client.get("/messages").status, 503);
    assert_eq!(client.get("/stats").status, 503);
}

#[test]
fn a_database_that_another_program_has_locked_shows_until_it_is_let_go() {
    if !on_sqlite() {
        return;
    }
    let service = Service::start();
    let mut client = service.client();
    let mut other = rusqlite::Connection::open(service.database()).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    assert_snapshot!(not_ready(&service), @"the database is locked by another process");
    let reply = client.send(&message("m1"));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    assert_eq!(client.json("/messages")["total"], 0, "reads go on");
    drop(lock);
    eventually("ready again", || (client.get("/health/ready").status == 200).then_some(()));
    client.store(&message("m1"));
}

#[test]
fn a_store_that_hangs_is_not_ready_and_probes_do_not_pile_up_behind_it() {
    let service = Service::start();
    service.faulty().checks.all(Fault::Block);
    let mut first = service.connect();
    first.write("GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n");
    service.faulty().checks.wait_blocked(1);
    let mut others: Vec<_> = (0..5).map(|_| service.connect()).collect();
    for other in &mut others {
        other.write("GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    for connection in others.iter_mut().chain([&mut first]) {
        let reply = connection.reply("GET", "/health/ready");
        let expected = r#"503 {"status":"not_ready","detail":"the database did not answer in 2 seconds"}"#;
        assert_eq!(reply.line(), expected);
    }
    assert_eq!(service.faulty().checks.count(), 1, "one check at a time");
    service.faulty().heal();
    let mut client = service.client();
    eventually("ready again", || (client.get("/health/ready").status == 200).then_some(()));
}

#[test]
fn the_details_of_a_store_error_are_not_told() {
    let service = Service::start();
    let mut client = service.client();
    service.faulty().checks.all(Fault::Failed);
    assert_snapshot!(client.get("/health/ready").line(), @r#"503 {"status":"not_ready","detail":"the database failed"}"#);
    service.faulty().reads.all(Fault::Failed);
    assert_snapshot!(client.get("/messages").line(), @r#"503 {"detail":"the database failed"}"#);
    assert_snapshot!(client.get("/stats").line(), @r#"503 {"detail":"the database failed"}"#);
    service.faulty().inserts.all(Fault::Failed);
    assert_snapshot!(client.send(&message("m1")).line(), @r#"503 {"detail":"the database failed"}"#);
    assert_eq!(client.send(&message("m1")).header("retry-after"), Some("1"));
}

#[test]
fn a_store_that_panics_costs_one_503_and_no_more() {
    let service = Service::start();
    let mut client = service.client();
    service.faulty().inserts.nth(1, Fault::Panic);
    service.faulty().reads.nth(1, Fault::Panic);
    service.faulty().checks.nth(1, Fault::Panic);
    assert_eq!(client.send(&message("m1")).status, 503);
    assert_eq!(client.get("/messages").status, 503);
    assert_eq!(client.get("/health/ready").status, 503);
    assert_eq!(client.get("/health/ready").status, 200);
    client.store(&message("m1"));
    assert_eq!(client.json("/messages")["total"], 1);
}

#[test]
fn a_service_that_drains_is_not_ready() {
    let mut service = Service::start();
    let mut connection = service.connect();
    connection.write("GET /health/ready HTTP/1.1\r\n");
    service.begin_stop();
    let address = service.address();
    eventually("no new connections", || std::net::TcpStream::connect(address).err());
    connection.write("Host: a\r\n\r\n");
    let reply = connection.reply("GET", "/health/ready");
    assert_snapshot!(reply.line(), @r#"503 {"status":"not_ready","detail":"the service is stopping"}"#);
}

#[test]
fn the_metrics_page_has_its_series_from_the_first_scrape_on() {
    let service = Service::start();
    let reply = service.client().get("/metrics");
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let page = reply.text();
    let mut expected = vec![
        "# TYPE http_requests_total counter".to_owned(),
        "# TYPE webhook_requests_total counter".to_owned(),
        "# TYPE request_latency_ms histogram".to_owned(),
        r#"request_latency_ms_bucket{le="100"} 0"#.to_owned(),
        r#"request_latency_ms_bucket{le="500"} 0"#.to_owned(),
        r#"request_latency_ms_bucket{le="+Inf"} 0"#.to_owned(),
        "request_latency_ms_count 0".to_owned(),
    ];
    for result in [
        "created",
        "duplicate",
        "conflict",
        "invalid_signature",
        "validation_error",
        "too_large",
        "overloaded",
        "error",
    ] {
        expected.push(format!(r#"webhook_requests_total{{result="{result}"}} 0"#));
    }
    for status in [200, 401, 413, 422, 503] {
        expected.push(format!(r#"http_requests_total{{method="POST",path="/webhook",status="{status}"}} 0"#));
    }
    for line in expected {
        assert!(page.lines().any(|known| known == line), "{line} is missing:\n{page}");
    }
}

#[test]
fn requests_are_counted_by_method_template_and_status() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message("m1"));
    client.post(b"{}", &[]);
    client.get("/messages?limit=1");
    client.get("/messages?limit=x");
    client.head("/stats");
    client.get("/nowhere/at/all");
    client.request("BREW", "/webhook", &[], b"");
    let page = client.metrics();
    let counted: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("http_requests_total"))
        .filter(|line| !line.ends_with(" 0"))
        .collect();
    assert_snapshot!(counted.join("\n"), @r#"
    {method="GET",path="/messages",status="200"} 1
    {method="GET",path="/messages",status="422"} 1
    {method="GET",path="other",status="404"} 1
    {method="HEAD",path="/stats",status="200"} 1
    {method="POST",path="/webhook",status="200"} 1
    {method="POST",path="/webhook",status="401"} 1
    {method="other",path="/webhook",status="405"} 1
    "#);
    assert_eq!(client.metric("request_latency_ms_count"), 8.0, "the scrape before this one included");
}

#[test]
fn the_metrics_page_does_not_ask_the_store() {
    let service = Service::start();
    service.faulty().reads.all(Fault::Block);
    service.faulty().checks.all(Fault::Block);
    service.faulty().inserts.all(Fault::Block);
    let mut blocked = service.connect();
    blocked.write(crate::support::client::signed(message("m1").to_string().as_bytes()));
    service.faulty().inserts.wait_blocked(1);
    assert_eq!(service.client().metric("inbox_queue_messages"), 0.0, "it has left the queue");
    let values: Value = service.client().get("/health/live").json();
    assert_eq!(values["status"], "ok");
}
