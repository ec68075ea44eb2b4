//! `GET /messages`: order, pages and filters.

use insta::assert_snapshot;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::support::client::Client;
use crate::support::message_with;
use crate::support::service::Service;

/// The ids on a page, in order, and the total.
#[track_caller]
fn ids(client: &mut Client, query: &str) -> (Vec<String>, u64) {
    let listing = client.json(&format!("/messages?{query}"));
    let id = |m: &Value| m["message_id"].as_str().unwrap().to_owned();
    (listing["data"].as_array().unwrap().iter().map(id).collect(), listing["total"].as_u64().unwrap())
}

/// The ids of the messages that `q` finds.
#[track_caller]
fn found(client: &mut Client, q: &str) -> String {
    ids(client, &format!("q={}", encode(q))).0.join(" ")
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn store_texts(client: &mut Client, texts: &[(&str, &str)]) {
    for (id, text) in texts {
        client.store(&message_with(id, "+1", "2025-01-15T10:00:00Z", Some(text)));
    }
}

#[test]
fn an_empty_store_has_an_empty_page() {
    let service = Service::start();
    let mut client = service.client();
    assert_snapshot!(client.get("/messages").line(), @r#"200 {"data":[],"total":0,"limit":50,"offset":0,"next":null,"prev":null}"#);
    assert_snapshot!(client.get("/messages?limit=7&offset=9").line(), @r#"200 {"data":[],"total":0,"limit":7,"offset":9,"next":null,"prev":null}"#);
}

#[test]
fn a_page_is_written_as_the_contract_writes_it() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message_with("m1", "+919876543210", "2025-01-15T10:00:00.50Z", None));
    client.store(&message_with("m2", "+919876543210", "2025-01-15T09:00:00Z", Some("Earlier")));
    client.store(&message_with("m3", "+919876543210", "2025-01-15T11:00:00Z", Some("\"\\\u{1}/é")));
    assert_snapshot!(client.get("/messages?limit=2").line(), @r#"200 {"data":[{"message_id":"m2","from":"+919876543210","to":"+14155550100","ts":"2025-01-15T09:00:00Z","text":"Earlier"},{"message_id":"m1","from":"+919876543210","to":"+14155550100","ts":"2025-01-15T10:00:00.50Z","text":null}],"total":3,"limit":2,"offset":0,"next":"0100000000678787201dcd65006d31","prev":null}"#);
    assert_snapshot!(client.get("/messages?offset=2").line(), @r#"200 {"data":[{"message_id":"m3","from":"+919876543210","to":"+14155550100","ts":"2025-01-15T11:00:00Z","text":"\"\\\u0001/é"}],"total":3,"limit":50,"offset":2,"next":null,"prev":"020000000067879530000000006d33"}"#);
}

#[test]
fn the_order_is_by_instant_and_then_by_the_bytes_of_the_id() {
    let service = Service::start();
    let mut client = service.client();
    // In the order that they must come back in.
    let expected = [
        ("e", "0001-01-01T00:00:00Z"),
        ("d", "1969-12-31T23:59:59.999999999Z"),
        ("c", "1970-01-01T00:00:00Z"),
        ("z", "2025-01-15T10:00:00Z"),
        ("m-Z", "2025-01-15T10:00:00.1Z"),
        ("m-a", "2025-01-15T10:00:00.100Z"),
        ("m-é", "2025-01-15T10:00:00.1Z"),
        ("m-\u{ff5e}", "2025-01-15T10:00:00.10Z"),
        ("m-😀", "2025-01-15T10:00:00.1Z"),
        ("y", "2025-01-15T10:00:00.100000001Z"),
        ("x", "2025-01-15T10:00:00.5Z"),
        ("B", "2025-01-15T10:00:01Z"),
        ("a", "2025-01-15T10:00:01Z"),
        ("a0", "2025-01-15T10:00:01.000Z"),
        ("aa", "2025-01-15T10:00:01Z"),
        ("b", "9999-12-31T23:59:59Z"),
    ];
    for n in 0..expected.len() {
        // 7 has no divisor in common with 16, so this meets each once, in another order.
        let (id, ts) = expected[(n * 7 + 3) % expected.len()];
        client.store(&message_with(id, "+1", ts, None));
    }
    let (got, total) = ids(&mut client, "");
    assert_eq!(got, expected.map(|(id, _)| id));
    assert_eq!(total, 16);
}

#[test]
fn pages_of_any_size_give_each_row_once() {
    let service = Service::start();
    let mut client = service.client();
    for n in 0..120 {
        client.store(&message_with(
            &format!("m{n:03}"),
            "+1",
            &format!("2025-01-15T10:00:{:02}Z", n % 7),
            None,
        ));
    }
    let (first, _) = ids(&mut client, "limit=100");
    let (second, _) = ids(&mut client, "limit=100&offset=100");
    let all = [first, second].concat();
    assert_eq!(all.len(), 120);
    for limit in [1, 7, 50, 99, 100] {
        let mut rows = Vec::new();
        while rows.len() < 120 {
            let (page, total) = ids(&mut client, &format!("limit={limit}&offset={}", rows.len()));
            assert_eq!(total, 120);
            assert!(!page.is_empty() && page.len() <= limit);
            rows.extend(page);
        }
        assert_eq!(rows, all, "limit={limit}");
    }
    assert_eq!(ids(&mut client, "").0.len(), 50, "the default");
    for offset in ["120", "121", "9223372036854775807", "9223372036854775808", "18446744073709551615"] {
        assert_eq!(ids(&mut client, &format!("offset={offset}")), (Vec::new(), 120), "{offset}");
    }
}

#[test]
fn filters_combine_with_and() {
    let service = Service::start();
    let mut client = service.client();
    let froms = ["+1", "+12", "+919876543210"];
    let times = ["2025-01-15T09:59:59.999999999Z", "2025-01-15T10:00:00Z", "2025-01-15T10:00:00.5Z"];
    let texts = [None, Some("Hello"), Some("say HELLO, world"), Some("help")];
    let mut rows = Vec::new();
    for (f, from) in froms.iter().enumerate() {
        for (t, ts) in times.iter().enumerate() {
            for (x, text) in texts.iter().enumerate() {
                client.store(&message_with(&format!("{f}{t}{x}"), from, ts, *text));
                rows.push((t, f, x, format!("{f}{t}{x}")));
            }
        }
    }
    rows.sort();
    let since = [
        ("", 0),
        ("since=2025-01-15T10:00:00Z", 1),
        ("since=2025-01-15T10:00:00.500Z", 2),
        ("since=2025-01-15T10:00:01Z", 3),
    ];
    for (from_query, from) in
        [("", None), ("from=%2B1", Some(0)), ("from=%2B919876543210", Some(2)), ("from=%2B9", Some(9))]
    {
        for (since_query, earliest) in since {
            for (q_query, contains) in [
                ("", None),
                ("q=hello", Some([1, 2].as_slice())),
                ("q=HEL", Some(&[1, 2, 3])),
                ("q=zz", Some(&[])),
            ] {
                let matches: Vec<String> = rows
                    .iter()
                    .filter(|(t, f, x, _)| {
                        from.is_none_or(|from| from == *f)
                            && *t >= earliest
                            && contains.is_none_or(|texts| texts.contains(x))
                    })
                    .map(|(.., id)| id.clone())
                    .collect();
                let query = format!("{from_query}&{since_query}&{q_query}");
                let expected = (matches.clone(), matches.len() as u64);
                assert_eq!(ids(&mut client, &query), expected, "{query}");
                let page = matches.iter().skip(1).take(2).cloned().collect();
                assert_eq!(
                    ids(&mut client, &format!("{query}&offset=1&limit=2")),
                    (page, matches.len() as u64),
                    "{query}"
                );
            }
        }
    }
}

#[test]
fn a_plus_in_from_may_be_sent_as_it_is() {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message_with("m1", "+919876543210", "2025-01-15T10:00:00Z", None));
    client.store(&message_with("m2", "+91987654321", "2025-01-15T10:00:00Z", None));
    for from in
        ["+919876543210", "%2B919876543210", "%2b919876543210", "%20919876543210", "%2B9198765432%31%30"]
    {
        assert_eq!(ids(&mut client, &format!("from={from}")), (vec!["m1".to_owned()], 1), "{from}");
    }
    for none in [
        "919876543210",
        "++919876543210",
        "%2B%2B919876543210",
        "+919876543210+",
        "%2B9198765432100",
        "x",
        "+",
        "%00",
        "%25",
        "%ff",
    ] {
        assert_eq!(ids(&mut client, &format!("from={none}")), (Vec::new(), 0), "{none}");
    }
}

#[test]
fn since_is_compared_as_an_instant() {
    let service = Service::start();
    let mut client = service.client();
    for (id, ts) in [
        ("a", "2025-01-15T10:00:00Z"),
        ("b", "2025-01-15T10:00:00.000000001Z"),
        ("c", "2025-01-15T10:00:00.5Z"),
    ] {
        client.store(&message_with(id, "+1", ts, None));
    }
    let mut since = |ts: &str| ids(&mut client, &format!("since={ts}")).0.join("");
    assert_eq!(since("0000-01-01T00:00:00Z"), "abc");
    assert_eq!(since("2025-01-15T10:00:00Z"), "abc");
    assert_eq!(since("2025-01-15T10:00:00.000Z"), "abc");
    assert_eq!(since("2025-01-15T10:00:00.000000001Z"), "bc");
    assert_eq!(since("2025-01-15T10:00:00.000000002Z"), "c");
    assert_eq!(since("2025-01-15T10:00:00.500000Z"), "c");
    assert_eq!(since("2025-01-15T10%3A00%3A00.500000001Z"), "");
    assert_eq!(since("9999-12-31T23:59:59Z"), "");
}

#[test]
fn q_is_a_literal() {
    let service = Service::start();
    let mut client = service.client();
    store_texts(
        &mut client,
        &[
            ("percent", "100% sure"),
            ("under", "a_b"),
            ("plain", "axb 100"),
            ("star", "a*b?[c]"),
            ("quote", "it's \"so\" \\ here"),
            ("space", "two  spaces "),
        ],
    );
    client.store(&message_with("none", "+1", "2025-01-15T10:00:00Z", None));
    assert_eq!(found(&mut client, "%"), "percent");
    assert_eq!(found(&mut client, "0%"), "percent");
    assert_eq!(found(&mut client, "_"), "under");
    assert_eq!(found(&mut client, "a_b"), "under");
    assert_eq!(found(&mut client, "*"), "star");
    assert_eq!(found(&mut client, "?[c]"), "star");
    assert_eq!(found(&mut client, "'s \"so\" \\"), "quote");
    assert_eq!(found(&mut client, "  "), "space");
    assert_eq!(found(&mut client, "' OR 1=1 --"), "");
    assert_eq!(found(&mut client, "null"), "", "a message without text never matches");
    assert_eq!(ids(&mut client, "q=two++s").0, ["space"], "a plus is a space");
    assert_eq!(
        ids(&mut client, "q=100%").0,
        ["percent"],
        "a percent that begins no escape stands for itself"
    );
}

#[test]
fn q_ignores_the_case_of_every_script() {
    let service = Service::start();
    let mut client = service.client();
    store_texts(
        &mut client,
        &[
            ("ascii", "Hello World"),
            ("german", "Die Straße"),
            ("russian", "Привет, мир"),
            ("greek", "Ο Σίσυφος"),
            ("french", "Crème Brûlée"),
            ("kelvin", "273 \u{212a}"),
            ("ligature", "ﬁnd"),
            ("emoji", "👍🏽 ok"),
        ],
    );
    for (q, expected) in [
        ("HELLO", "ascii"),
        ("o w", "ascii"),
        ("STRASSE", "german"),
        ("strasse", "german"),
        ("straẞe", "german"),
        ("ПРИВЕТ", "russian"),
        ("привет", "russian"),
        ("ΣΊΣΥΦΟΣ", "greek"),
        ("σίσυφος", "greek"),
        ("BRÛLÉE", "french"),
        ("brulee", ""),
        ("273 k", "kelvin"),
        ("FIND", "ligature"),
        ("👍🏽", "emoji"),
    ] {
        assert_eq!(found(&mut client, q), expected, "{q}");
    }
}

#[test]
fn a_text_of_full_length_is_found_by_all_of_it() {
    let service = Service::start();
    let mut client = service.client();
    let text = "x".repeat(4096);
    store_texts(&mut client, &[("long", &text), ("short", &text[1..])]);
    assert_eq!(found(&mut client, &text), "long");
}

#[test]
fn an_acknowledged_message_is_found_by_the_very_next_read_on_any_connection() {
    let service = Service::start();
    let (mut writer, mut reader) = (service.client(), service.client());
    for n in 1..=50_u64 {
        writer.store(&message_with(
            &format!("m{n}"),
            "+1",
            "2025-01-15T10:00:00Z",
            Some(&format!("text {n};")),
        ));
        assert_eq!(reader.json("/messages?limit=1")["total"], n);
        assert_eq!(reader.json("/stats")["total_messages"], n);
        assert_eq!(found(&mut reader, &format!(" {n};")), format!("m{n}"));
    }
}

#[test]
fn answers_with_data_are_not_to_be_kept() {
    let service = Service::start();
    let mut client = service.client();
    for target in ["/messages", "/stats", "/metrics"] {
        assert_eq!(client.get(target).header("cache-control"), Some("no-store"), "{target}");
    }
}
