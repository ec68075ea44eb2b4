//! Comma-separated values: read back, they are what the pages say.

use lyftr::event::{Data, Event, Kind};
use lyftr::message::{Message, Name, Timestamp};
use serde_json::{Value, json};

use super::{event, exported, filled, store_mixed};
use crate::support::chunked::Chunked;
use crate::support::service::Service;
use crate::support::{message_with, parsed};

/// What a field may not begin with in a spreadsheet.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// The records of a text in the form of RFC 4180: each field as a reader sees it; `None` where it is empty without quotes.
#[track_caller]
fn records(text: &str) -> Vec<Vec<Option<String>>> {
    let mut records = Vec::new();
    let mut record = Vec::new();
    let mut chars = text.chars().peekable();
    while chars.peek().is_some() {
        let mut field = String::new();
        let is_quoted = chars.next_if_eq(&'"').is_some();
        if is_quoted {
            loop {
                match chars.next().expect("a quote at the end of a field") {
                    '"' if chars.next_if_eq(&'"').is_none() => break,
                    character => field.push(character),
                }
            }
        } else {
            while let Some(character) = chars.next_if(|next| ![',', '\r'].contains(next)) {
                assert!(!['"', '\n'].contains(&character), "{field}{character}");
                field.push(character);
            }
        }
        record.push((is_quoted || !field.is_empty()).then_some(field));
        match chars.next() {
            Some(',') => assert!(chars.peek().is_some(), "a field after the comma"),
            Some('\r') => {
                assert_eq!(chars.next(), Some('\n'));
                records.push(std::mem::take(&mut record));
            }
            other => panic!("{other:?} after a field"),
        }
    }
    assert!(record.is_empty(), "the last record has an end");
    records
}

/// An export as objects: each apostrophe that guards a field taken away, the names of the columns as keys.
#[track_caller]
fn read(service: &Service, target: &str) -> Vec<Value> {
    let reply = Chunked::open(service.address(), target, &[("Accept", "text/csv")]).whole();
    let mut records = records(reply.text().strip_prefix('\u{feff}').expect("a byte-order mark"));
    let columns = records.remove(0);
    let object = |record: Vec<Option<String>>| -> Value {
        assert_eq!(record.len(), columns.len(), "{record:?}");
        let value = |field: Option<String>| -> Value {
            assert!(!field.as_ref().is_some_and(|field| field.starts_with(FORMULA)), "{field:?}");
            field.map(|field| field.strip_prefix('\'').unwrap_or(&field).to_owned()).into()
        };
        columns.iter().zip(record).map(|(name, field)| (name.clone().unwrap(), value(field))).collect()
    };
    records.into_iter().map(object).collect()
}

/// Messages as NDJSON has them, each with its source.
#[track_caller]
fn with_sources(service: &Service, target: &str) -> Vec<Value> {
    let mut messages = exported(service, target);
    for message in &mut messages {
        if message.get("source").is_none() {
            message["source"] = "webhook".into();
        }
    }
    messages
}

#[test]
fn messages_read_back_are_those_of_the_other_lines() {
    let service = filled();
    for query in ["", "?order=desc&from=%2B49173", "?q=secret", "?source=none"] {
        let target = format!("/messages{query}");
        assert!(read(&service, &target) == with_sources(&service, &target), "{query}");
    }
}

#[test]
fn the_columns_are_those_of_the_document() {
    let service = Service::start();
    let columns = |target: &str| {
        Chunked::open(service.address(), target, &[("Accept", "text/csv")]).whole().text().to_owned()
    };
    assert_eq!(columns("/messages"), "\u{feff}message_id,source,from,to,ts,text\r\n");
    assert_eq!(
        columns("/events"),
        "\u{feff}position,source,kind,type,key,from,to,user_id,thread,ref,account,ts,received_at,text,data\r\n"
    );
    assert_eq!(exported(&service, "/messages"), [] as [Value; 0]);
    let mut client = service.client();
    client.store(&message_with("m1", "+919876543210", "2025-01-15T10:00:00Z", Some("Hello, \"you\"")));
    client.store(&message_with("m2", "+919876543210", "2025-01-15T10:00:00.50Z", None));
    assert!(columns("/messages").ends_with(
        "\r\nm1,webhook,'+919876543210,'+14155550100,2025-01-15T10:00:00Z,\"Hello, \"\"you\"\"\"\
         \r\nm2,webhook,'+919876543210,'+14155550100,2025-01-15T10:00:00.50Z,\r\n"
    ));
}

#[test]
fn hostile_texts_come_back_as_they_were_and_are_no_formulas() {
    let service = Service::start();
    let mut client = service.client();
    let texts = [
        "",
        " ",
        "=1+1",
        "=cmd|' /C calc'!A0",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1",
        "＋1",
        "－1",
        "＠x",
        " =1",
        "\u{2003}=1",
        "'",
        "''",
        "'=1",
        "'a",
        "a'b",
        "\"",
        "\"\"",
        "\"=1\"",
        "a,b",
        ",",
        "a\r\nb",
        "a\rb",
        "a\nb",
        "\r\n",
        "a\u{feff}b",
        "\u{feff}=1",
        "\u{202e}abc",
        "\u{1}\u{1f}\u{7f}\u{85}\u{2028}",
        "👩‍👩‍👧‍👦 é",
        "0012",
        "1e5",
        "12,5",
        "123456789012345678",
        "1/2",
        "TRUE",
        "=HYPERLINK(\"http://a\",\"b\")",
        ";",
        "|",
        "\\",
        "%s",
    ];
    for (n, text) in texts.iter().enumerate() {
        client.store(&message_with(&format!("m{n:03}"), "+1", "2025-01-15T10:00:00Z", Some(text)));
    }
    for (n, id) in ["=1", "'", "@a,\"b\"", "000", "\u{a0}-1"].iter().enumerate() {
        client.store(&message_with(id, "+2", &format!("2025-01-16T10:00:0{n}Z"), None));
    }
    let seen = read(&service, "/messages");
    assert_eq!(seen, with_sources(&service, "/messages"));
    let found: Vec<_> = seen.iter().filter_map(|message| message["text"].as_str()).collect();
    assert_eq!(found, texts);
}

#[test]
fn events_read_back_are_those_of_the_other_lines_with_data_as_text() {
    let service = Service::start();
    store_mixed(&service, 1_500);
    let name = |text: &str| Name::new(text).ok();
    let whole = Event {
        r#type: name("=image"),
        from: name("a, \"person\""),
        to: name("'quoted'"),
        user_id: name("-1"),
        thread: name("@thread"),
        r#ref: name("0001"),
        account: name("+1"),
        ts: Timestamp::parse("2025-01-15T10:00:00.5Z").ok(),
        received_at: Timestamp::parse("2025-01-15T10:00:01.250Z").ok(),
        text: Some("=1\r\n".into()),
        data: Some(Data::from_json("{\"a\" :\n1.50e3}")),
        ..event("shop", "k")
    };
    let number = Event { data: Some(Data::from_json("-5")), kind: Kind::Event, ..event("shop", "n") };
    service.store().insert(&[whole, number]).unwrap();
    let seen = read(&service, "/events");
    let lines = exported(&service, "/events");
    assert_eq!(seen.len(), 1_502);
    for (mut row, mut line) in seen.into_iter().zip(lines) {
        let data = row["data"].take();
        let of_text = data.as_str().map(|text| serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(of_text.unwrap_or_default(), line["data"].take());
        assert_eq!(row, line);
    }
}

#[test]
fn an_absent_text_is_told_from_an_empty_one() {
    let service = Service::start();
    let absent = parsed(&message_with("a", "+1", "2025-01-15T10:00:00Z", None));
    let empty = Message { message_id: Name::new("b").unwrap(), text: Some("".into()), ..absent.clone() };
    let events = [absent, empty].map(|message| Event::of_message(message, None, None));
    service.store().insert(&events).unwrap();
    let texts: Vec<_> = read(&service, "/messages").iter().map(|message| message["text"].clone()).collect();
    assert_eq!(texts, [Value::Null, json!("")]);
}
