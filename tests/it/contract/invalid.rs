//! 422: everything that is signed and no message, and what the answer says of it.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::message;
use crate::support::service::Service;

const GOOD: &str = r#"{"message_id":"m1","from":"+919876543210","to":"+14155550100","ts":"2025-01-15T10:00:00Z","text":"Hello"}"#;

/// Sends a body that must be refused; `type` and `loc` of every error.
#[track_caller]
fn errors(client: &mut Client, body: impl AsRef<[u8]>) -> Vec<String> {
    let body = body.as_ref();
    let reply = client.send_bytes(body);
    assert_eq!(reply.status, 422, "{}: {}", String::from_utf8_lossy(body), reply.line());
    let detail = reply.json()["detail"].clone();
    detail
        .as_array()
        .unwrap()
        .iter()
        .map(|item| format!("{} {}", item["type"].as_str().unwrap(), item["loc"]))
        .collect()
}

/// Tries values of one field: the good ones must be stored and come back, the bad ones be complained about.
fn field(name: &str, good: &[Value], bad: &[(Value, &str)]) {
    let service = Service::start();
    let mut client = service.client();
    for (n, value) in good.iter().enumerate() {
        let mut sent = message(&format!("good{n}"));
        sent[name] = value.clone();
        client.store(&sent);
        let data = client.json("/messages?limit=100")["data"].clone();
        let id = &sent["message_id"];
        let back = data.as_array().unwrap().iter().find(|m| m["message_id"] == *id).unwrap();
        assert_eq!(*back, sent);
    }
    for (value, kind) in bad {
        let mut sent = message("bad");
        sent[name] = value.clone();
        let expected = format!(r#"{kind} ["body","{name}"]"#);
        assert_eq!(errors(&mut client, sent.to_string()), [expected], "{sent}");
    }
    assert_eq!(client.json("/messages")["total"], good.len());
}

#[test]
fn message_id_has_1_to_255_characters_and_no_control_characters() {
    let good: Vec<Value> =
        ["a", " ", &"x".repeat(255), &"é".repeat(255), &"😀".repeat(255)].map(Value::from).to_vec();
    let mut bad = vec![
        (json!(""), "string_too_short"),
        (json!("x".repeat(256)), "string_too_long"),
        (json!("é".repeat(256)), "string_too_long"),
        (json!(null), "string_type"),
        (json!(1), "string_type"),
        (json!(["m1"]), "string_type"),
    ];
    let control = ["\0", "a\n", "\t", "\u{1f}", "\u{7f}", "\u{80}", "\u{85}", "\u{9f}b"];
    bad.extend(control.map(|id| (json!(id), "string_pattern_mismatch")));
    field("message_id", &good, &bad);
}

#[test]
fn from_and_to_are_a_plus_and_1_to_15_ascii_digits() {
    let good = ["+1", "+0", "+919876543210", "+000000000000000", "+123456789012345"].map(Value::from);
    let wrong = [
        "",
        "+",
        "1",
        "919876543210",
        "+1234567890123456",
        "+1\n",
        "\n+1",
        " +1",
        "+1 ",
        "++1",
        "+-1",
        "+1a",
        "+1 2",
        "+1-2",
        "00919876543210",
        "+١٢٣",
        "+１２３",
        "+१२",
        "+²",
        "＋1",
        "+1\0",
        "tel:+1",
    ];
    let mut bad: Vec<_> = wrong.map(|phone| (json!(phone), "string_pattern_mismatch")).to_vec();
    bad.extend(
        [json!(null), json!(919_876_543_210_u64), json!(1.5), json!({}), json!(true)]
            .map(|v| (v, "string_type")),
    );
    for name in ["from", "to"] {
        field(name, &good, &bad);
    }
}

#[test]
fn ts_is_a_real_instant_in_utc_and_comes_back_as_it_was_sent() {
    let good = [
        "2025-01-15T10:00:00Z",
        "2025-01-15T10:00:00.0Z",
        "2025-01-15T10:00:00.5Z",
        "2025-01-15T10:00:00.50Z",
        "2025-01-15T10:00:00.000000000Z",
        "2025-01-15T10:00:00.123456789Z",
        "2024-02-29T23:59:59.999999999Z",
        "2000-02-29T00:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ];
    let wrong = [
        "",
        "2025-01-15",
        "2025-01-15T10:00:00",
        "2025-01-15T10:00Z",
        "2025-01-15T10:00:00+00:00",
        "2025-01-15T10:00:00-00:00",
        "2025-01-15T10:00:00+05:30",
        "2025-01-15t10:00:00Z",
        "2025-01-15T10:00:00z",
        "2025-01-15 10:00:00Z",
        "2025-01-15T10:00:00.Z",
        "2025-01-15T10:00:00.1234567890Z",
        "2025-01-15T10:00:00,5Z",
        "2025-02-29T10:00:00Z",
        "1900-02-29T10:00:00Z",
        "2025-04-31T10:00:00Z",
        "2025-13-01T10:00:00Z",
        "2025-00-01T10:00:00Z",
        "2025-01-00T10:00:00Z",
        "2025-01-32T10:00:00Z",
        "2025-01-15T24:00:00Z",
        "2025-01-15T10:60:00Z",
        "2025-01-15T10:00:60Z",
        "2016-12-31T23:59:60Z",
        "2025-1-15T10:00:00Z",
        "25-01-15T10:00:00Z",
        "+2025-01-15T10:00:00Z",
        "-2025-01-15T10:00:00Z",
        "12025-01-15T10:00:00Z",
        " 2025-01-15T10:00:00Z",
        "2025-01-15T10:00:00Z\n",
        "2025-01-15T10:00:00Z ",
        "２025-01-15T10:00:00Z",
        "2025-01-15T10:00:00.٥Z",
        "2025-W03-3T10:00:00Z",
        "2025-015T10:00:00Z",
        "1736935200",
        "now",
        "2025-01-15T10:00:00ZZ",
        "2025-01-15T10:00:00\0Z",
        "2025-01-15T10:00:00Z[UTC]",
    ];
    let mut bad: Vec<_> = wrong.map(|ts| (json!(ts), "value_error")).to_vec();
    bad.extend([json!(null), json!(1_736_935_200), json!(0.5), json!([2025])].map(|ts| (ts, "string_type")));
    field("ts", &good.map(Value::from), &bad);
}

#[test]
fn text_has_at_most_4096_characters_and_no_nul() {
    let good =
        [json!(null), json!(""), json!("x".repeat(4096)), json!("é".repeat(4096)), json!("😀".repeat(4096))];
    let bad = [
        (json!("x".repeat(4097)), "string_too_long"),
        (json!("😀".repeat(4097)), "string_too_long"),
        (json!("\0"), "string_pattern_mismatch"),
        (json!("a\0b"), "string_pattern_mismatch"),
        (json!(1), "string_type"),
        (json!(false), "string_type"),
        (json!([]), "string_type"),
        (json!({"text": "x"}), "string_type"),
    ];
    field("text", &good, &bad);
}

#[test]
fn a_missing_field_is_named() {
    let service = Service::start();
    let mut client = service.client();
    for name in ["message_id", "from", "to", "ts"] {
        let mut sent = message("m1");
        sent.as_object_mut().unwrap().shift_remove(name);
        assert_eq!(errors(&mut client, sent.to_string()), [format!(r#"missing ["body","{name}"]"#)]);
    }
}

#[test]
fn every_wrong_field_is_in_the_one_answer() {
    let service = Service::start();
    let mut client = service.client();
    let body = r#"{"text":["x"],"ts":"yesterday","from":"12","message_id":""}"#;
    assert_snapshot!(client.send_bytes(body.as_bytes()).line(), @r#"422 {"detail":[{"type":"string_too_short","loc":["body","message_id"],"msg":"String should have at least 1 character","input":""},{"type":"string_pattern_mismatch","loc":["body","from"],"msg":"String should be a plus sign and 1 to 15 digits, e.g. +14155550100","input":"12"},{"type":"missing","loc":["body","to"],"msg":"Field required","input":{"text":["x"],"ts":"yesterday","from":"12","message_id":""}},{"type":"value_error","loc":["body","ts"],"msg":"Value error, should be a real date and time in UTC like 2025-01-15T10:00:00Z, with up to 9 digits of a second's fraction","input":"yesterday"},{"type":"string_type","loc":["body","text"],"msg":"Input should be a valid string","input":["x"]}]}"#);
    assert_snapshot!(client.send_bytes(b"{}").line(), @r#"422 {"detail":[{"type":"missing","loc":["body","message_id"],"msg":"Field required","input":{}},{"type":"missing","loc":["body","from"],"msg":"Field required","input":{}},{"type":"missing","loc":["body","to"],"msg":"Field required","input":{}},{"type":"missing","loc":["body","ts"],"msg":"Field required","input":{}}]}"#);
}

#[test]
fn a_body_that_is_not_json_is_refused_as_such() {
    let service = Service::start();
    let mut client = service.client();
    let reply = client.send_bytes(b"{\"text\": nope}");
    let mut detail = reply.json()["detail"].clone();
    let reason = detail[0]["msg"].take();
    assert!(reason.as_str().unwrap().starts_with("JSON decode error: "), "{reason}");
    // The byte at which reading stopped; the reason is the parser's.
    let expected = json!([{"type": "json_invalid", "loc": ["body", 10], "msg": null, "input": {}}]);
    assert_eq!((reply.status, detail), (422, expected));
    let bodies: [&[u8]; 22] = [
        b"",
        b" ",
        b"{",
        b"}",
        b"{}}",
        b"{} {}",
        b"{'message_id':'m1'}",
        b"{message_id:\"m1\"}",
        b"{\"a\":1,}",
        b"// {}\n{}",
        b"NaN",
        b"Infinity",
        b"{\"text\":undefined}",
        b"{\"text\":\"\t\"}",
        b"{\"text\":\"\\x41\"}",
        b"{\"ts\":1e999999}",
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b"{\"text\":\"\xff\"}",
        b"{\"text\":\"\xc0\x80\"}",
        b"{\"text\":\"\xed\xa0\x80\"}",
        b"message_id=m1&from=%2B1",
    ];
    for body in bodies {
        let found = errors(&mut client, body);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with("json_invalid [\"body\","),
            "{:?}: {found:?}",
            String::from_utf8_lossy(body)
        );
    }
    let with_mark = [b"\xef\xbb\xbf".as_slice(), GOOD.as_bytes()].concat();
    assert_eq!(errors(&mut client, with_mark), [r#"json_invalid ["body",0]"#]);
}

#[test]
fn a_lone_surrogate_is_refused_and_a_pair_is_one_character() {
    let service = Service::start();
    let mut client = service.client();
    for text in [r"\ud800", r"\udc00", r"a\ud83d", r"\ud83dx", r"\ud83d\u0041", r"\ude00\ud83d"] {
        let found = errors(&mut client, GOOD.replace("Hello", text));
        assert!(found.len() == 1 && found[0].starts_with("json_invalid"), "{text}: {found:?}");
        let found = errors(&mut client, GOOD.replace("m1", text));
        assert!(found.len() == 1 && found[0].starts_with("json_invalid"), "{text}: {found:?}");
    }
    assert_eq!(client.send_bytes(GOOD.replace("Hello", r"\ud83d\ude00").as_bytes()).status, 200);
    assert_eq!(client.json("/messages")["data"][0]["text"], "😀");
}

#[test]
fn a_body_that_is_no_object_is_refused_as_such() {
    let service = Service::start();
    let mut client = service.client();
    for body in ["[]", "null", "true", "1", "-1.5", "\"x\"", "[1,\"2\",{\"a\":null}]", &format!("[{GOOD}]")] {
        let reply = client.send_bytes(body.as_bytes());
        let input: Value = serde_json::from_str(body).unwrap();
        let expected = format!(
            r#"422 {{"detail":[{{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":{input}}}]}}"#
        );
        assert_eq!(reply.line(), expected);
    }
}

#[test]
fn a_repeated_key_is_refused() {
    let service = Service::start();
    let mut client = service.client();
    let twice = GOOD.replace('}', r#","from":"+2"}"#);
    assert_snapshot!(client.send_bytes(twice.as_bytes()).line(), @r#"422 {"detail":[{"type":"repeated_key","loc":["body","from"],"msg":"Key appears more than once","input":null}]}"#);
    for (more, key) in [
        (r#","text":"Hello""#, "text"),
        (r#","message_id":"m1""#, "message_id"),
        (r#","\u0074s":"2025-01-15T10:00:00Z""#, "ts"),
        (r#","x":1,"x":1"#, "x"),
        (r#","":1,"":2"#, ""),
        (r#","text":null,"text":null"#, "text"),
    ] {
        let found = errors(&mut client, GOOD.replace('}', &format!("{more}}}")));
        assert_eq!(found, [format!(r#"repeated_key ["body","{key}"]"#)]);
    }
    let inside = GOOD.replace('}', r#","x":{"a":1,"a":2}}"#);
    assert_eq!(client.send_bytes(inside.as_bytes()).status, 200, "only the message's own keys count");
}

#[test]
fn deep_nesting_and_floods_of_keys_are_answered_like_anything_else() {
    let service = Service::start();
    let mut client = service.client();
    let (open, close) = ("[".repeat(100_000), "]".repeat(100_000));
    let found = errors(&mut client, &open);
    assert!(found[0].starts_with("json_invalid"), "{found:?}");
    let found = errors(&mut client, format!("{open}{close}"));
    assert!(found[0].starts_with("json_invalid"), "{found:?}");
    let objects = format!("{}1{}", r#"{"a":"#.repeat(40_000), "}".repeat(40_000));
    errors(&mut client, GOOD.replace(r#""Hello""#, &objects));
    errors(&mut client, objects);
    let unknown = GOOD.replace('}', &format!(r#","x":{open}{close}}}"#));
    assert_eq!(
        client.send_bytes(unknown.as_bytes()).status,
        200,
        "the value of an unknown field is passed over"
    );
    let keys: Vec<_> = (0..10_000).map(|n| format!(r#""k{}":0"#, n / 2)).collect();
    let found = errors(&mut client, format!("{{{}}}", keys.join(",")));
    assert_eq!(found.len(), 32, "the answer is bounded");
}

#[test]
fn numbers_of_any_size_are_no_trouble() {
    let service = Service::start();
    let mut client = service.client();
    let digits = "9".repeat(10_000);
    for (n, number) in
        [&*digits, "-0", "1e308", "0.1", "18446744073709551616", "-9223372036854775809"].iter().enumerate()
    {
        let body = GOOD.replace("m1", &format!("m{n}")).replace('}', &format!(r#","x":{number}}}"#));
        assert_eq!(client.send_bytes(body.as_bytes()).status, 200, "{number}");
        let as_text = GOOD.replace(r#""Hello""#, number);
        let status = client.send_bytes(as_text.as_bytes()).status;
        assert_eq!(status, 422, "{number}");
        let missing = format!(r#"{{"x":{number}}}"#);
        assert_eq!(errors(&mut client, missing).len(), 4, "{number}");
    }
}
