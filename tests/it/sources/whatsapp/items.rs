//! Items that the vectors leave out: what each says, and what stays of its bytes.

use super::*;

/// Kind, type, text and reference of an item of `messages`.
fn said(item: &Value) -> Value {
    let row = row(&event(delivery("messages", item)));
    json!([row["kind"], row["type"], row["text"], row["ref"]])
}

fn message(members: &Value) -> Value {
    let mut item = json!({"from": "12025550123", "id": "wamid.1", "timestamp": "1795000000"});
    item.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    item
}

#[test]
fn a_message_says_what_its_person_typed_or_chose() {
    let listed =
        json!({"type": "list_reply", "list_reply": {"id": "r1", "title": "Red", "description": "A colour"}});
    let moved = json!({"type": "user_changed_number", "body": "moved", "wa_id": "1"});
    let answered = json!({"from": "1", "id": "wamid.0"});
    for (members, expected) in [
        (json!({"type": "sticker", "sticker": {"id": "1"}}), json!(["message", "sticker", null, null])),
        (
            json!({"type": "interactive", "interactive": listed}),
            json!(["message", "interactive.list_reply", "Red", null]),
        ),
        (json!({"type": "interactive", "interactive": {}}), json!(["message", "interactive", null, null])),
        (
            json!({"type": "text", "text": {"body": "yes"}, "context": answered}),
            json!(["message", "text", "yes", "wamid.0"]),
        ),
        (json!({"type": "text", "text": "no object"}), json!(["message", "text", null, null])),
        (
            json!({"type": "hologram", "hologram": {"caption": "look"}}),
            json!(["message", "hologram", "look", null]),
        ),
        (
            json!({"type": "hologram", "text": {"body": "beside"}}),
            json!(["message", "hologram", "beside", null]),
        ),
        (
            json!({"type": "reaction", "reaction": {"message_id": "wamid.0"}}),
            json!(["reaction", "reaction.removed", null, "wamid.0"]),
        ),
        (json!({"type": "revoke", "revoke": {}}), json!(["revoke", "revoke", null, null])),
        (
            json!({"type": "edit", "edit": {"original_message_id": "wamid.0"}}),
            json!(["edit", "edit", null, "wamid.0"]),
        ),
        (
            json!({"type": "system", "system": moved}),
            json!(["system", "system.user_changed_number", "moved", null]),
        ),
        (json!({"type": ""}), json!(["message", "unknown", null, null])),
        (json!({"type": 7}), json!(["message", "unknown", null, null])),
    ] {
        assert_eq!(said(&message(&members)), expected, "{members}");
    }
}

#[test]
fn what_cannot_be_understood_says_why_and_costs_nothing_beside_it() {
    let good = json!({"id": "wamid.2", "timestamp": "1795000000", "type": "text", "text": {"body": "x"}});
    for (array, broken, reason) in [
        ("messages", json!({"type": "text"}), "no_id"),
        ("messages", json!({"id": "", "type": "text"}), "no_id"),
        ("messages", json!({"id": 5}), "no_id"),
        ("messages", json!(null), "not_an_object"),
        ("messages", json!([{"id": "wamid.1"}]), "not_an_object"),
        ("statuses", json!({"status": "sent"}), "no_id"),
        ("statuses", json!({"id": "wamid.1", "status": ""}), "no_status"),
        ("message_echoes", json!({}), "no_id"),
        ("calls", json!({"id": "wacid.1"}), "no_event"),
        ("calls", json!({"event": "connect"}), "no_id"),
        ("errors", json!("error"), "not_an_object"),
        ("groups", json!(1), "not_an_object"),
        ("history", json!("chunk"), "not_an_object"),
    ] {
        let mut members = json!({ array: [broken, broken] });
        let messages = members.as_object_mut().unwrap().entry("messages").or_insert(json!([]));
        messages.as_array_mut().unwrap().push(good.clone());
        let events = events(change("messages", &value(members)).to_string());
        let [one, same, next] = events.as_slice() else { panic!("{array} {broken}: {events:?}") };
        assert_eq!((one, one.kind, row(one)["type"].as_str()), (same, Kind::Malformed, Some(reason)));
        assert!(one.key.as_str().starts_with("malformed/#"));
        assert_eq!((next.key.as_str(), next.kind), ("wamid.2", Kind::Message));
        assert_eq!(data(one)["entry"][0]["changes"][0]["value"][array], json!([broken]));
        assert_eq!((one.ts, row(one)["account"].as_str()), (None, Some("200000000000002")));
    }
}

#[test]
fn what_is_broken_around_items_costs_nothing_beside_it_either() {
    let good = change("messages", &value(json!({"messages": [message(&json!({}))]})))["entry"][0].take();
    let entry = |changes: Value| json!({"id": "1", "changes": changes});
    let of_value = |field: &str, value: Value| entry(json!([{"field": field, "value": value}]));
    for (broken, reasons) in [
        (json!("entry"), json!(["not_an_object"])),
        (json!(null), json!(["not_an_object"])),
        (entry(json!({})), json!(["not_an_array"])),
        (entry(json!([1, null])), json!(["not_an_object", "not_an_object"])),
        (entry(json!([{"field": "messages"}])), json!(["not_an_object"])),
        (of_value("messages", json!(null)), json!(["not_an_object"])),
        (of_value("messages", json!([])), json!(["not_an_object"])),
        (
            of_value("messages", json!({"messages": 1, "statuses": {}})),
            json!(["not_an_array", "not_an_array"]),
        ),
        (of_value("history", json!({"history": {}})), json!(["not_an_array"])),
        (of_value("history", json!({"history": [{"threads": 1}]})), json!(["not_an_array"])),
        (of_value("history", json!({"history": [{"threads": [1]}]})), json!(["not_an_object"])),
        (of_value("history", json!({"history": [{"threads": [{"messages": 1}]}]})), json!(["not_an_array"])),
        // Nothing is broken here, and nothing is said.
        (entry(json!([])), json!([])),
        // Something is said, though not in the way of items.
        (json!({"id": "1", "changes": [], "messaging": [1]}), json!(["entry"])),
        (
            of_value("history", json!({"history": [{"progress": 100}, {"threads": []}]})),
            json!(["history", "history"]),
        ),
        (of_value("history", json!({"history": [{"threads": [{"id": "1"}]}]})), json!(["history"])),
    ] {
        let body = json!({"object": "whatsapp_business_account", "entry": [broken, good]}).to_string();
        let events = events(&body);
        let (next, told) = events.split_last().unwrap();
        assert_eq!(next.key.as_str(), "wamid.1");
        let types: Vec<_> = told.iter().map(|event| row(event)["type"].clone()).collect();
        assert_eq!(json!(types), reasons, "{broken}");
        for event in told {
            assert_eq!(&super::event(event.data.as_ref().unwrap().as_str()), event, "{broken}");
        }
    }
}

/// Nothing of an object with a member twice has one meaning, and all of it is kept.
#[test]
fn a_member_that_is_there_twice_makes_its_object_malformed_and_no_other() {
    let twice = |text: &str| text.replacen('{', "{\"x\":1,\"\\u0078\":2,", 1);
    let good = change("messages", &value(json!({"messages": [message(&json!({}))]})))["entry"][0].take();
    let change = &good["changes"][0];
    let text =
        message(&json!({"type": "text"})).to_string().replacen('{', "{\"text\":{\"body\":1,\"body\":2},", 1);
    for entry in [
        twice(&good.to_string()),
        format!("{{\"id\":\"1\",\"changes\":[{}]}}", twice(&change.to_string())),
        format!(
            "{{\"changes\":[{{\"field\":\"messages\",\"value\":{}}}]}}",
            twice(&change["value"].to_string())
        ),
        format!("{{\"changes\":[{{\"field\":\"messages\",\"value\":{{\"messages\":[{text}]}}}}]}}"),
    ] {
        let events = events(format!("{{\"entry\":[{entry},{good}]}}"));
        assert_eq!((row(&events[0])["type"].as_str(), events.len()), (Some("repeated_member"), 2), "{entry}");
        assert_eq!(events[1].key.as_str(), "wamid.1");
        let kept = events[0].data.as_ref().unwrap().as_str();
        assert!(kept.contains("\"x\":1,\"\\u0078\":2") || kept.contains("\"body\":1,\"body\":2"), "{kept}");
    }
    let whole = row(&event(twice(&format!("{{\"entry\":[{good}]}}"))));
    assert_eq!((whole["type"].as_str(), whole["account"].as_str()), (Some("repeated_member"), None));
}

#[test]
fn the_bytes_of_an_item_and_of_all_around_it_stay_as_they_were() {
    let item = "{ \"id\" :\"wamid.\\u0031\",\n\t\"odd\":[1e400,-0.0,123456789012345678901234567890,\"\\/\\ud800\"], \"\\u0074ype\":\"x\"}";
    let body = format!(
        " {{\"object\":\"whatsapp_business_account\",\"entry\":[{{\"id\":\"1\",\"new\":1.50,\"changes\":[{{\"value\":{{\
         \"messages\":[{item}],\"n\\u0065w\":{{\"deep\":[1E5]}}}},\"field\":\"messages\",\"seen\":true}}]}}],\"more\":null}}\r\n"
    );
    let event = event(&body);
    assert_eq!(
        event.data.as_ref().unwrap().as_str(),
        format!(
            "{{\"object\":\"whatsapp_business_account\",\"more\":null,\"entry\":[{{\"id\":\"1\",\"new\":1.50,\"changes\":[{{\
             \"field\":\"messages\",\"seen\":true,\"value\":{{\"n\\u0065w\":{{\"deep\":[1E5]}},\"messages\":[{item}]}}}}]}}]}}"
        )
    );
    assert_eq!((event.key.as_str(), row(&event)["type"].as_str()), ("wamid.1", Some("x")));
    // What cannot be read is kept as a value of JSON all the same.
    assert_eq!(data(&super::event("a\"\0")), json!("a\"\0"));
    assert_eq!(data(&super::event(b"\xff\xfe")), json!({"base64": "//4="}));
    assert_eq!(super::event(" [1] ").data.unwrap().as_str(), " [1] ");
}

#[test]
fn a_sender_is_found_by_what_the_message_says_and_by_their_contact() {
    let number = json!({"profile": {"name": "Ada"}, "wa_id": "12025550123", "user_id": "US.1"});
    let username = json!({"profile": {"name": "Bia", "username": "bia"}, "user_id": "BR.2"});
    let nameless = json!({"profile": {"name": "Cy"}});
    let strangers = (0..20).map(|n| json!({"wa_id": n, "user_id": format!("X.{n}")}));
    let many: Vec<_> = strangers.chain([username.clone(), number.clone()]).collect();
    for (contacts, members, from, user_id, kept) in [
        // By the number or by the id, whatever the order, however many there are.
        (
            json!([username, number]),
            json!({"from": "12025550123"}),
            Some("+12025550123"),
            Some("US.1"),
            Some(&number),
        ),
        (
            json!([number, username]),
            json!({"from_user_id": "BR.2"}),
            Some("BR.2"),
            Some("BR.2"),
            Some(&username),
        ),
        (
            json!([username, number]),
            json!({"from_user_id": "US.1"}),
            Some("+12025550123"),
            Some("US.1"),
            Some(&number),
        ),
        (json!(many), json!({"from": "+12025550123"}), Some("+12025550123"), Some("US.1"), Some(&number)),
        (json!(many), json!({"from_user_id": "BR.2"}), Some("BR.2"), Some("BR.2"), Some(&username)),
        (json!(many), json!({"from": "447700900456"}), Some("+447700900456"), None, None),
        // The only contact belongs to an item that names nobody, and not to one that names somebody else.
        (json!([number]), json!({}), Some("+12025550123"), Some("US.1"), Some(&number)),
        (json!([username]), json!({"from": ""}), Some("BR.2"), Some("BR.2"), Some(&username)),
        (json!([number]), json!({"from": "447700900456"}), Some("+447700900456"), None, None),
        (json!([nameless]), json!({"from": "447700900456"}), Some("+447700900456"), None, Some(&nameless)),
        (json!([number, username]), json!({}), None, None, None),
        (json!("none"), json!({"from": 447_700_900_456_u64}), Some("+447700900456"), None, None),
        (json!([1, null, {}]), json!({"from": "1234567890123456"}), Some("1234567890123456"), None, None),
    ] {
        let mut item = json!({"id": "wamid.1", "type": "text"});
        item.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let value = value(json!({"contacts": contacts, "messages": [item]}));
        let event = event(change("messages", &value).to_string());
        let row = row(&event);
        assert_eq!((row["from"].as_str(), row["user_id"].as_str()), (from, user_id), "{contacts} {members}");
        let kept_in_data = data(&event)["entry"][0]["changes"][0]["value"]["contacts"].take();
        assert_eq!(kept_in_data, kept.map_or(Value::Null, |kept| json!([kept])), "{contacts} {members}");
    }
}

#[test]
fn a_call_of_ours_an_echo_and_an_old_answer_go_to_the_person_outside() {
    let call = json!({"id": "c1", "from": "15550100100", "to": "12025550123", "event": "connect"});
    let mut nameless = call.clone();
    nameless.as_object_mut().unwrap().remove("from");
    nameless["direction"] = "BUSINESS_INITIATED".into();
    let echo = json!({"id": "wamid.1", "to": "12025550123", "type": "text", "text": {"body": "hi"}});
    let old = json!({"id": "wamid.1", "from": "15550100100", "type": "text"});
    let chunk = json!({"threads": [{"id": "12025550123", "messages": [old]}]});
    for (body, key) in [
        (delivery("calls", &call), "call/c1/connect"),
        (delivery("calls", &nameless), "call/c1/connect"),
        (delivery("message_echoes", &echo), "echo/wamid.1"),
        (change("history", &value(json!({"history": [chunk]}))).to_string(), "history/wamid.1"),
    ] {
        let row = row(&event(body));
        let members = ["key", "from", "to", "thread"].map(|member| row[member].as_str().unwrap());
        assert_eq!(members, [key, "+15550100100", "+12025550123", "+12025550123"]);
    }
}

#[test]
fn a_field_that_is_not_known_shares_no_key_with_messages() {
    let item = message(&json!({"type": "text", "text": {"body": "x"}}));
    let value = value(json!({"messages": [item], "errors": [{"code": 1}]}));
    let events = events(change("messages_of_tomorrow", &value).to_string());
    let told: Vec<_> = events.iter().map(|event| json!([event.kind, row(event)["type"]])).collect();
    assert_eq!(
        json!(told),
        json!([["event", "messages_of_tomorrow"], ["event", "messages_of_tomorrow.error"]])
    );
    assert!(events[0].key.as_str().starts_with("messages_of_tomorrow/#"));
    assert!(events[1].key.as_str().starts_with("messages_of_tomorrow.errors/#"));
    // A notice about an account with errors among its members is one thing.
    let notice = event(change("account_update", &json!({"event": "X", "errors": [1]})).to_string());
    assert_eq!(row(&notice)["type"], "account_update.X");
    // Without a field, arrays mean what their names say.
    let fieldless = json!({"entry": [{"changes": [{"value": {"messages": [item]}}]}]});
    assert_eq!(event(fieldless.to_string()).key.as_str(), "wamid.1");
}

#[test]
fn names_that_are_too_long_or_hold_control_characters_lose_no_event() {
    let (long, other) = (format!("{}1", "x".repeat(300)), format!("{}2", "x".repeat(300)));
    for (array, member) in
        [("messages", "id"), ("messages", "from"), ("statuses", "recipient_id"), ("calls", "event")]
    {
        let item = |name: &str| {
            let mut item = json!({"id": "wamid.1", "status": "sent", "event": "connect"});
            item[member] = name.into();
            delivery(array, &item)
        };
        let (one, next) = (row(&event(item(&long))), row(&event(item(&other))));
        assert_ne!(one, next, "{array} {member}");
        assert_ne!(event(item("a\nb")).kind, Kind::Malformed, "{array} {member}");
    }
    let field = event(change(&long, &json!({})).to_string());
    assert!(field.key.as_str().chars().count() <= 255 && field.kind == Kind::Event);
    let shown =
        json!({"metadata": {"display_phone_number": "+1 (555) 010-0100"}, "messages": [message(&json!({}))]});
    assert_eq!(row(&event(change("messages", &shown).to_string()))["to"], "+15550100100");
}
