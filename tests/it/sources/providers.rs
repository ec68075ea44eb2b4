//! What is stored of a verified request where the vectors say nothing: the edges of each provider.

use lyftr::event::Event;
use lyftr::message::Timestamp;
use lyftr::source::Verified;
use serde_json::{Value, json};

use super::{Captured, source, vectors};

const RECEIVED_AT: &str = "2026-11-18T11:06:40.123Z";
const FORM: &str = "application/x-www-form-urlencoded";

/// The one event of a request.
fn event(keys: &str, headers: &[(&str, &str)], body: &[u8]) -> Event {
    let settings = source(keys, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX");
    let verified =
        Verified { secret: 0, signed_at: Some(1_794_999_998), signed_id: Some("msg_1".to_owned()) };
    let request = Captured::new("/webhook/a", headers, body);
    let events = settings.events(&request.lent(), &verified, Timestamp::parse(RECEIVED_AT).unwrap());
    let [event] = &events[..] else { panic!("{events:?}") };
    event.clone()
}

/// Holds the event to the members that are not null, in the words of the vectors.
#[track_caller]
fn holds(keys: &str, headers: &[(&str, &str)], body: &str, expected: &Value) {
    let mut found = vectors::row(&event(keys, headers, body.as_bytes()));
    found.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    assert_eq!(&found, expected, "{body}");
}

fn hash(body: &str) -> String {
    use sha2::Digest;
    base16ct::lower::encode_string(&sha2::Sha256::digest(body))[..32].to_owned()
}

#[track_caller]
fn is_malformed(keys: &str, headers: &[(&str, &str)], body: &str, why: &str) {
    let key = format!("malformed/#{}", hash(body));
    holds(keys, headers, body, &json!({"key": key, "kind": "malformed", "type": why}));
}

#[test]
fn what_cannot_be_understood_is_kept_whole() {
    for kind in ["stripe", "github", "slack", "shopify", "standard-webhooks"] {
        let keys = format!("kind = \"{kind}\"");
        for body in ["", "hello", "{\"id\":\"1\"", "{} {}", "\u{feff}{}"] {
            is_malformed(&keys, &[], body, "not_json");
            let data = event(&keys, &[], body.as_bytes()).data.unwrap();
            assert_eq!(serde_json::from_str::<Value>(data.as_str()).unwrap(), json!(body));
        }
        let broken = event(&keys, &[], b"{\"id\":\"\xff\"}");
        assert_eq!(
            (broken.r#type.unwrap().as_str(), broken.data.unwrap().as_str()),
            ("not_utf8", "{\"base64\":\"eyJpZCI6Iv8ifQ==\"}")
        );
    }
    for kind in ["stripe", "github", "slack", "shopify"] {
        for body in ["[]", "[{\"id\":1}]", "1", "null"] {
            is_malformed(&format!("kind = \"{kind}\""), &[], body, "not_an_object");
        }
    }
    is_malformed("kind = \"stripe\"", &[], r#"{"id":"evt_1","\u0069d":"evt_2"}"#, "repeated_member");
    is_malformed("kind = \"stripe\"", &[], r#"{"id":""}"#, "no_id");
    is_malformed("kind = \"stripe\"", &[], r#"{"id":null}"#, "no_id");
}

#[test]
fn github_without_a_delivery_is_known_by_its_body() {
    let body = r#"{"action":"created","sender":"x","repository":{"full_name":"a/b"}}"#;
    let key = format!("body/#{}", hash(body));
    let expected = json!({"key": key, "kind": "event", "to": "a/b", "thread": "a/b"});
    holds("kind = \"github\"", &[], body, &expected);
    // Which of two counts must not be guessed.
    holds("kind = \"github\"", &[("x-github-delivery", "1"), ("x-github-delivery", "2")], body, &expected);
    holds("kind = \"github\"", &[("x-github-delivery", "")], body, &expected);
    is_malformed("kind = \"github\"", &[("content-type", FORM)], "other=1", "not_json");
    is_malformed(
        "kind = \"github\"",
        &[("content-type", FORM)],
        "payload=%7B%7D&payload=%7B%7D",
        "repeated_member",
    );
    let data =
        event("kind = \"github\"", &[("content-type", FORM)], b"payload=%7B%22a%22%3A1.0%7D").data.unwrap();
    assert_eq!(data.as_str(), r#"{"payload":"{\"a\":1.0}"}"#);
}

#[test]
fn stripe_knows_the_customer_and_the_object() {
    let body = r#"{"id":"evt_1","type":"x","created":"soon","data":{"object":{"id":"ch_1","customer":{"id":"cus_1"}}}}"#;
    let expected = json!({"key": "event/evt_1", "kind": "event", "type": "x", "thread": "ch_1", "ref": "ch_1", "user_id": "cus_1"});
    holds("kind = \"stripe\"", &[], body, &expected);
    let body = r#"{"id":"evt_1","data":[],"related_object":1,"account":7}"#;
    holds(
        "kind = \"stripe\"",
        &[],
        body,
        &json!({"key": "event/evt_1", "kind": "event", "to": "7", "account": "7"}),
    );
}

#[test]
fn shopify_knows_the_shop_and_the_object() {
    let headers = [
        ("X-Shopify-Topic", "orders/create"),
        ("X-Shopify-Shop-Domain", "s.example.test"),
        ("X-Shopify-Webhook-Id", "w-1"),
        ("X-Shopify-Triggered-At", "2026-11-18T11:06:36.877041743Z"),
    ];
    let body = r#"{"id":820982911946154508,"customer":{"id":115310627314723954}}"#;
    let expected = json!({
        "key": "webhook/w-1", "kind": "event", "type": "orders/create", "to": "s.example.test", "account": "s.example.test",
        "thread": "820982911946154508", "ref": "820982911946154508", "user_id": "115310627314723954",
        "ts": "2026-11-18T11:06:36.877041743Z",
    });
    holds("kind = \"shopify\"", &headers, body, &expected);
    holds("kind = \"shopify\"", &[], "{}", &json!({"key": format!("body/#{}", hash("{}")), "kind": "event"}));
}

#[test]
fn slack_tells_what_people_write_from_notices() {
    for (subtype, kind, text) in [
        ("bot_message", "message", Some("x")),
        ("file_share", "message", Some("x")),
        ("thread_broadcast", "message", Some("x")),
        ("channel_join", "system", None),
        ("channel_topic", "system", None),
        ("unheard_of", "system", None),
    ] {
        let body = json!({"event_id": "E1", "event_time": 1_794_999_997, "event":
            {"type": "message", "subtype": subtype, "bot_id": "B1", "channel": {"id": "C1"}, "text": "x", "ts": "1794999997.0002"}});
        let mut expected = json!({"key": "event/E1", "kind": kind, "type": format!("message.{subtype}"), "from": "B1",
            "to": "C1", "thread": "C1", "ref": "C1/1794999997.0002", "ts": "2026-11-18T11:06:37Z"});
        if let Some(text) = text {
            expected["text"] = json!(text);
        }
        holds("kind = \"slack\"", &[], &body.to_string(), &expected);
    }
    let body = r#"{"event_id":"E1","event":{"type":"message","user":"U1","text":""}}"#;
    let expected = json!({"key": "event/E1", "kind": "message", "type": "message", "from": "U1", "user_id": "U1", "ts": RECEIVED_AT});
    holds("kind = \"slack\"", &[], body, &expected);
    let body = r#"{"type":"app_rate_limited","team_id":"T1"}"#;
    let key = format!("body/#{}", hash(body));
    holds(
        "kind = \"slack\"",
        &[],
        body,
        &json!({"key": key, "kind": "event", "type": "app_rate_limited", "account": "T1"}),
    );
    let body = r#"{"event_id":"E1","event":{"type":"team_join","user":{"id":"U1"}}}"#;
    let expected =
        json!({"key": "event/E1", "kind": "event", "type": "team_join", "from": "U1", "user_id": "U1"});
    holds("kind = \"slack\"", &[], body, &expected);
}

#[test]
fn slack_commands_and_interactions_are_events() {
    let body = "command=%2Fdeploy&text=now+please&user_id=U1&channel_id=C1&team_id=T1&trigger_id=1.2";
    let expected = json!({"key": format!("body/#{}", hash(body)), "kind": "event", "type": "/deploy", "from": "U1", "user_id": "U1",
        "to": "C1", "thread": "C1", "account": "T1", "text": "now please"});
    holds("kind = \"slack\"", &[("content-type", FORM)], body, &expected);
    let body = "payload=%7B%22type%22%3A%22block_actions%22%2C%22user%22%3A%7B%22id%22%3A%22U1%22%7D%2C%22team%22%3A%7B%22id%22%3A%22T1%22%7D%7D";
    let expected = json!({"key": format!("body/#{}", hash(body)), "kind": "event", "type": "block_actions", "from": "U1",
        "user_id": "U1", "account": "T1"});
    holds("kind = \"slack\"", &[("content-type", FORM)], body, &expected);
    is_malformed("kind = \"slack\"", &[("content-type", FORM)], "payload=%7B", "not_json");
    is_malformed("kind = \"slack\"", &[("content-type", FORM)], "text=1&text=2", "repeated_member");
}

#[test]
fn slacks_challenge_is_a_handshake_only_where_it_is_a_plain_word() {
    let settings = source("kind = \"slack\"", "s");
    let challenge = |body: &str| settings.challenge(&Captured::new("/", &[], body.as_bytes()).lent());
    assert_eq!(challenge(r#"{"type":"url_verification","challenge":"aB-_.9"}"#).as_deref(), Some("aB-_.9"));
    for body in [
        r#"{"type":"url_verification"}"#,
        r#"{"type":"url_verification","challenge":"<b>"}"#,
        r#"{"type":"url_verification","challenge":""}"#,
        r#"{"type":"event_callback","challenge":"a"}"#,
        r#"{"type":"url_verification","challenge":"a","challenge":"b"}"#,
        "",
    ] {
        assert_eq!(challenge(body), None, "{body}");
    }
    let github = source("kind = \"github\"", "s");
    let request = Captured::new("/", &[], br#"{"type":"url_verification","challenge":"a"}"#);
    assert_eq!(github.challenge(&request.lent()), None);
}

#[test]
fn twilio_tells_messages_statuses_calls_and_the_rest() {
    let keys = "kind = \"twilio\"\npublic_url = \"https://a.test\"";
    let form = [("content-type", FORM)];
    for (body, expected) in [
        (
            "SmsSid=SM1&SmsStatus=delivered&To=%2B1",
            json!({"key": "status/SM1/delivered", "kind": "status", "type": "delivered", "to": "+1", "thread": "+1", "ref": "SM1"}),
        ),
        (
            "MessageSid=SM1&From=rcs%3A%2B1&To=messenger%3A2&Body=a%00",
            json!({"key": "SM1", "kind": "message", "from": "+1", "to": "messenger:2", "thread": "+1", "ts": RECEIVED_AT, "text": "a\u{fffd}"}),
        ),
        (
            "CallSid=CA1&CallStatus=completed&From=%2B1&To=%2B2&Direction=outbound-api&Body=x",
            json!({"key": "call/CA1/completed", "kind": "call", "type": "completed", "from": "+1", "to": "+2", "thread": "+2", "ref": "CA1"}),
        ),
    ] {
        holds(keys, &form, body, &expected);
    }
    for (body, more) in [
        ("EventType=onMessageUpdated&MessageSid=IM1", json!({"type": "onMessageUpdated"})),
        ("CallSid=CA1&RecordingSid=RE1", json!({"ref": "CA1"})),
        ("", json!({})),
        ("AccountSid=AC1", json!({"account": "AC1"})),
    ] {
        let mut expected = json!({"key": format!("body/#{}", hash(body)), "kind": "event"});
        expected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        holds(keys, &form, body, &expected);
    }
    let body = "[{\"a\":1}]";
    holds(keys, &[], body, &json!({"key": format!("body/#{}", hash(body)), "kind": "event"}));
    is_malformed(keys, &[], "hello", "not_json");
    is_malformed(keys, &form, "MessageSid=1&MessageSid=2", "repeated_member");
}

#[test]
fn a_source_of_its_own_says_where_its_fields_stand() {
    let keys = "kind = \"hmac\"\nheader = \"x-s\"\nkey = \"/o/id\"\ntype = \"/t\"\nfrom = \"/p/0\"\nto = \"/p/1\"\nts = \"/at\"\ntext = \"/x\"\nthread = \"/th~1r\"";
    let body = r#"{"o":{"id":12345678901234567890},"t":"a.b","p":["+1","B"],"at":1795000000123,"x":"h\ud800\u0000i","th/r":"T"}"#;
    let expected = json!({"key": "12345678901234567890", "kind": "event", "type": "a.b", "from": "+1", "to": "B",
        "ts": "2026-11-18T11:06:40.123Z", "text": "h\u{fffd}\u{fffd}i", "thread": "T"});
    holds(keys, &[], body, &expected);
    holds(
        keys,
        &[("content-type", FORM)],
        "t=x&x=a+b",
        &json!({"key": format!("body/#{}", hash("t=x&x=a+b")), "kind": "event", "type": "x", "text": "a b"}),
    );
    for nothing in
        ["{}", "[]", "1", r#"{"o":{"id":{"a":1}},"at":"soon","p":[true,{}]}"#, r#"{"o":{"id":""}}"#]
    {
        holds(keys, &[], nothing, &json!({"key": format!("body/#{}", hash(nothing)), "kind": "event"}));
    }
    is_malformed(keys, &[], "hello", "not_json");
    is_malformed(keys, &[], r#"{"o":1,"o":{"id":2}}"#, "repeated_member");
    let plain = "kind = \"hmac\"\nheader = \"x-s\"";
    holds(plain, &[], "hello", &json!({"key": format!("body/#{}", hash("hello")), "kind": "event"}));
    assert_eq!(event(plain, &[], b"\xff").data.unwrap().as_str(), "{\"base64\":\"/w==\"}");
}

#[test]
fn standard_webhooks_have_the_time_of_their_body_and_a_key_that_stays() {
    let plain = "kind = \"standard-webhooks\"";
    let body = r#"{"type":"a.b","timestamp":"2022-11-03T20:26:10.344522Z","data":{}}"#;
    holds(
        plain,
        &[],
        body,
        &json!({"key": "msg_1", "kind": "event", "type": "a.b", "ts": "2022-11-03T20:26:10.344522Z"}),
    );
    holds(plain, &[], "[]", &json!({"key": "msg_1", "kind": "event", "ts": "2026-11-18T11:06:38Z"}));
    let by_body = "kind = \"standard-webhooks\"\nkey = \"/event_id\"";
    let key = format!("body/#{}", hash("{}"));
    holds(by_body, &[], "{}", &json!({"key": key, "kind": "event", "ts": "2026-11-18T11:06:38Z"}));
}

#[test]
fn a_name_that_fits_nowhere_is_mended_and_nothing_is_lost() {
    let long = "x".repeat(300);
    let body = json!({"id": long, "type": "a\u{0}\n", "account": "\u{85}"}).to_string();
    let event = event("kind = \"stripe\"", &[], body.as_bytes());
    let key = event.key.as_str();
    assert!(key.starts_with("event/xxx") && key.len() == 233, "{key}");
    assert_eq!(event.r#type.unwrap().as_str(), "a\u{fffd}\u{fffd}");
    assert_eq!(event.account.unwrap().as_str(), "\u{fffd}");
    assert_eq!(event.data.unwrap().as_str(), body);
}
