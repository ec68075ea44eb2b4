//! The parameters of `GET /messages`: what they may be, and what is answered when they are not.

use insta::assert_snapshot;

use crate::support::client::Client;
use crate::support::message;
use crate::support::service::Service;

/// Asks what must be refused; `type`, `loc` and `input` of every error.
#[track_caller]
fn errors(client: &mut Client, query: &str) -> String {
    let reply = client.get(&format!("/messages?{query}"));
    assert_eq!(reply.status, 422, "{query}: {}", reply.line());
    let detail = reply.json()["detail"].clone();
    let items = detail.as_array().unwrap().iter();
    items
        .map(|i| format!("{} {} {}", i["type"].as_str().unwrap(), i["loc"], i["input"]))
        .collect::<Vec<_>>()
        .join("; ")
}

/// `limit` and `offset` of the answer.
#[track_caller]
fn page(client: &mut Client, query: &str) -> (u64, u64) {
    let listing = client.json(&format!("/messages?{query}"));
    (listing["limit"].as_u64().unwrap(), listing["offset"].as_u64().unwrap())
}

#[test]
fn a_wrong_parameter_is_reported_in_the_list_form() {
    let service = Service::start();
    let mut client = service.client();
    let mut line = |query: &str| client.get(&format!("/messages?{query}")).line();
    assert_snapshot!(line("limit=0"), @r#"422 {"detail":[{"type":"greater_than_equal","loc":["query","limit"],"msg":"Input should be greater than or equal to 1","input":"0"}]}"#);
    assert_snapshot!(line("limit=101"), @r#"422 {"detail":[{"type":"less_than_equal","loc":["query","limit"],"msg":"Input should be less than or equal to 100","input":"101"}]}"#);
    assert_snapshot!(line("offset=-1"), @r#"422 {"detail":[{"type":"greater_than_equal","loc":["query","offset"],"msg":"Input should be greater than or equal to 0","input":"-1"}]}"#);
    assert_snapshot!(line("limit=ten"), @r#"422 {"detail":[{"type":"int_parsing","loc":["query","limit"],"msg":"Input should be a valid integer, unable to parse string as an integer","input":"ten"}]}"#);
    assert_snapshot!(line("since=yesterday"), @r#"422 {"detail":[{"type":"datetime_parsing","loc":["query","since"],"msg":"Input should be a real date and time in UTC like 2025-01-15T10:00:00Z, with up to 9 digits of a second's fraction","input":"yesterday"}]}"#);
}

#[test]
fn every_wrong_parameter_is_in_the_one_answer() {
    let service = Service::start();
    let query = format!("q={}&since=x&offset=y&limit=z&from=", "a".repeat(4097));
    let found = errors(&mut service.client(), &query);
    let long = "a".repeat(4097);
    assert_eq!(
        found,
        format!(
            r#"int_parsing ["query","limit"] "z"; int_parsing ["query","offset"] "y"; datetime_parsing ["query","since"] "x"; string_too_long ["query","q"] "{long}""#
        )
    );
}

#[test]
fn limit_is_1_to_100_and_offset_0_to_the_end_of_64_bits() {
    let service = Service::start();
    let mut client = service.client();
    for (query, expected) in [
        ("", (50, 0)),
        ("limit=1", (1, 0)),
        ("limit=100", (100, 0)),
        ("limit=007", (7, 0)),
        ("limit=&offset=", (50, 0)),
        ("limit&offset", (50, 0)),
        ("offset=18446744073709551615", (50, u64::MAX)),
        ("limit=5&limit=7", (7, 0)),
        ("limit=x&limit=7", (7, 0)),
        ("limit=7&limit=", (50, 0)),
        ("offset=9&offset=1", (50, 1)),
        ("unknown=1&limit=3&page=x&Limit=9&LIMIT=0", (3, 0)),
        ("%6cimit=3", (3, 0)),
        ("&&limit=3&&", (3, 0)),
        ("=&==&limit=3", (3, 0)),
        ("limit=%35", (5, 0)),
    ] {
        assert_eq!(page(&mut client, query), expected, "{query}");
    }
    let wide = "9".repeat(5000);
    for (name, value, kind) in [
        ("limit", "0", "greater_than_equal"),
        ("limit", "-1", "greater_than_equal"),
        ("limit", "101", "less_than_equal"),
        ("limit", "4294967297", "less_than_equal"),
        ("limit", "18446744073709551617", "less_than_equal"),
        ("limit", &wide, "less_than_equal"),
        ("offset", "-1", "greater_than_equal"),
        ("offset", "-99999999999999999999999", "greater_than_equal"),
        ("offset", "18446744073709551616", "less_than_equal"),
        ("offset", &wide, "less_than_equal"),
    ] {
        assert_eq!(
            errors(&mut client, &format!("{name}={value}")),
            format!(r#"{kind} ["query","{name}"] "{value}""#)
        );
    }
    for name in ["limit", "offset"] {
        for (sent, read) in [
            ("x", "x"),
            ("1x", "1x"),
            ("1.0", "1.0"),
            ("1e1", "1e1"),
            ("0x1", "0x1"),
            ("%2B5", "+5"),
            ("+5", " 5"),
            ("5+", "5 "),
            ("1_0", "1_0"),
            ("-", "-"),
            ("--1", "--1"),
            ("%D9%A5", "٥"),
            ("null", "null"),
            ("true", "true"),
            ("1,2", "1,2"),
        ] {
            assert_eq!(
                errors(&mut client, &format!("{name}={sent}")),
                format!(r#"int_parsing ["query","{name}"] "{read}""#)
            );
        }
    }
}

#[test]
fn since_takes_the_form_of_ts_only() {
    let service = Service::start();
    let mut client = service.client();
    for (sent, read) in [
        ("2025-01-15", "2025-01-15"),
        ("2025-01-15T10:00:00", "2025-01-15T10:00:00"),
        ("2025-01-15T10:00:00%2B00:00", "2025-01-15T10:00:00+00:00"),
        ("2025-02-29T10:00:00Z", "2025-02-29T10:00:00Z"),
        ("2025-01-15t10:00:00z", "2025-01-15t10:00:00z"),
        ("2025-01-15+10:00:00Z", "2025-01-15 10:00:00Z"),
        ("1736935200", "1736935200"),
        ("2025-01-15T10:00:00Z%00", "2025-01-15T10:00:00Z\\u0000"),
        ("2025-01-15T10:00:00Z%0A", "2025-01-15T10:00:00Z\\n"),
    ] {
        let found = errors(&mut client, &format!("since={sent}"));
        assert_eq!(found, format!(r#"datetime_parsing ["query","since"] "{read}""#));
    }
}

#[test]
fn an_empty_parameter_is_no_filter() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message("m1"));
    for query in [
        "from=",
        "since=",
        "q=",
        "from=&since=&q=&limit=&offset=",
        "from&since&q",
        "q=Hello&q=",
        "from=x&from=",
    ] {
        assert_eq!(client.json(&format!("/messages?{query}"))["total"], 1, "{query}");
    }
}

#[test]
fn of_a_repeated_parameter_the_last_one_wins() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message("m1"));
    for (query, total) in [
        ("q=nope&q=hello", 1),
        ("q=hello&q=nope", 0),
        ("from=%2B1&from=%2B919876543210", 1),
        ("since=x&since=2025-01-15T10:00:00Z", 1),
        ("since=2025-01-15T10:00:00Z&since=2025-01-15T10:00:01Z", 0),
    ] {
        assert_eq!(client.json(&format!("/messages?{query}"))["total"], total, "{query}");
    }
    assert_eq!(errors(&mut client, "limit=1&limit=x"), r#"int_parsing ["query","limit"] "x""#);
}

#[test]
fn q_is_bounded_in_characters() {
    let service = Service::start();
    let mut client = service.client();
    assert_eq!(client.get(&format!("/messages?q={}", "a".repeat(4096))).status, 200);
    let found = errors(&mut client, &format!("q={}", "a".repeat(4097)));
    assert!(found.starts_with(r#"string_too_long ["query","q"]"#), "{found}");
    assert_eq!(
        client.get(&format!("/messages?q={}", "%C3%A9".repeat(1300))).status,
        200,
        "2600 bytes, 1300 characters"
    );
}

#[test]
fn no_query_gives_a_500() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message("m1"));
    for query in [
        "%",
        "%%",
        "%G0",
        "%2",
        "%00",
        "%ff%fe",
        "q=%",
        "q=%ff",
        "q=%00",
        "q=%ed%a0%80",
        "from=%00",
        "from=%ff",
        "q=%F0%9F%98%80",
        "q[]=1",
        "limit[]=1",
        "q=a;b",
        "?q=1",
        "q=1?q=2",
        "q=a=b",
        "&",
        "=",
        "?",
        "q=%E2%80%AE",
        "from='%20OR%201=1",
        "q=`{|}^",
    ] {
        let reply = client.get(&format!("/messages?{query}"));
        assert!([200, 422].contains(&reply.status), "{query}: {}", reply.line());
    }
    assert_eq!(client.get("/messages?q=<b>").status, 400, "not a target by RFC 3986");
    assert_eq!(client.get("/messages?q=\"b\"").status, 400, "nor this");
}
