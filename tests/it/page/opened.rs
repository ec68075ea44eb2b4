//! An event that is opened: its fields, what was sent, what refers to it, and the conversation.

use std::process::Command;

use lyftr::event::Event;
use serde_json::{Value, json};

use super::{Visit, event, row};
use crate::support::browser::key;

/// What a provider may send: numbers that no `f64` holds, a key twice, escapes, and blanks.
const DATA: &str = r#"{ "id":12345678901234567890123, "rate":1.50e3,"nested":{"list":[1,2.0,{"deep":-0}]}, "text":"a\u0041\n\"b\"", "big":9007199254740993,"twice":1,"twice":2,"none":null,"yes":true,"empty":{}, "":[] }"#;

fn said(key: &str, from: &str, to: &str, ts: &str, text: &str) -> Event {
    event("shop-wa", "message", key, &json!({"from": from, "to": to, "ts": ts, "text": text, "type": "text"}))
}

#[test]
fn a_row_opens_beside_the_list_with_every_field_and_what_was_sent_as_it_was_sent() {
    let fields = json!({
        "type": "image", "from": "+12025550101", "to": "+12025550100", "user_id": "user.1", "thread": "thread 1",
        "ref": "wamid.0", "account": "1055", "ts": "2025-01-15T10:00:00.5Z", "received_at": "2025-01-15T10:00:01.250Z",
        "text": "line one\nline two", "data": DATA,
    });
    let Some(visit) = Visit::start(&[event("shop-wa", "message", "wamid.1", &fields)]) else { return };
    visit.open("/");
    visit.click(&row("wamid.1"));
    visit.until_visible("#detail");
    visit.until_place("/?open=shop-wa%2Fwamid.1");
    for (field, value) in fields.as_object().unwrap() {
        if field != "data" {
            let shown = visit.content(&format!("#fields [data-field='{field}']"));
            assert!(shown.contains(value.as_str().unwrap()), "{field}: {shown:?}");
        }
    }
    for (field, value) in [("source", "shop-wa"), ("kind", "message"), ("key", "wamid.1")] {
        assert_eq!(visit.content(&format!("#fields [data-field='{field}']")), value);
    }
    assert_eq!(visit.content("#raw"), DATA);
    visit.run("document.querySelectorAll('#tree details').forEach(branch => branch.open = true)", &[]);
    for number in ["12345678901234567890123", "9007199254740993", "1.50e3", "2.0", "-0"] {
        visit.until(&format!("document.querySelector('#tree').textContent.includes('{number}')"));
    }
    visit.until("document.querySelector('#tree').textContent.includes('aA\\n\"b\"')");
    assert!(visit.is_visible("#list"), "the list stays beside it");
    visit.click("#close");
    visit.until_hidden("#detail");
    visit.until_place("/");
}

#[test]
fn what_refers_to_a_message_stands_below_it_in_the_order_of_arrival() {
    let about = |kind: &str, key: &str, r#type: &str, text: Value| {
        event(
            "shop-wa",
            kind,
            key,
            &json!({"ref": "wamid.1", "type": r#type, "ts": "2025-01-15T11:00:00Z", "text": text}),
        )
    };
    let events = [
        said("wamid.1", "+12025550100", "+12025550101", "2025-01-15T10:00:00Z", "We open at nine"),
        about("status", "s1", "sent", json!(null)),
        about("status", "s2", "delivered", json!(null)),
        about("edit", "e1", "edit", json!("We open at ten")),
        about("reaction", "r1", "reaction", json!("👍")),
        about("status", "s3", "read", json!(null)),
        event("other", "status", "s4", &json!({"ref": "wamid.1", "type": "failed"})),
        event("shop-wa", "status", "s5", &json!({"ref": "wamid.2", "type": "failed"})),
    ];
    let Some(visit) = Visit::start(&events) else { return };
    visit.open("/?open=shop-wa%2Fwamid.1");
    let keys = "Array.from(document.querySelectorAll('#related > li'), each => each.dataset.key)";
    visit.until_equal(keys, vec!["s1", "s2", "e1", "r1", "s3"]);
    let related = visit.contents("#related > li");
    for (text, words) in related.iter().zip(["sent", "delivered", "We open at ten", "👍", "read"]) {
        assert!(text.contains(words), "{text}");
    }
    // From what refers to it the others are found, too, and the message by its key.
    visit.click("#related > li[data-key='r1'] a");
    visit.until_says("#fields [data-field='key']", "r1");
    visit.until_place("/?open=shop-wa%2Fr1");
    visit.until("document.querySelectorAll('#related > li').length >= 4");
    visit.click("#fields [data-field='ref'] a");
    visit.until_says("#fields [data-field='text']", "We open at nine");
}

#[test]
fn the_conversation_has_both_directions_oldest_first_around_the_message_that_is_open() {
    let (shop, guest) = ("+12025550100", "+12025550101");
    let line = |n: usize| {
        let (from, to) = if n.is_multiple_of(3) { (shop, guest) } else { (guest, shop) };
        said(
            &format!("c{n:03}"),
            from,
            to,
            &format!("2025-01-15T{:02}:{:02}:00Z", n / 60, n % 60),
            &format!("line {n}"),
        )
    };
    let mut events: Vec<_> = (0..200).map(line).collect();
    events.push(said("else", guest, "+12025550109", "2025-01-15T00:30:00Z", "to somebody else"));
    events.push(event(
        "webhook",
        "message",
        "c010",
        &json!({"from": guest, "to": shop, "ts": "2025-01-15T00:30:00Z"}),
    ));
    let Some(visit) = Visit::start(&events) else { return };
    visit.open("/?open=shop-wa%2Fc100");
    let opened = "#conversation > li[data-key='c100']";
    visit.until_says(opened, "line 100");
    let in_order = || {
        let keys = visit.attributes("#conversation > li", "data-key");
        let first: usize = keys[0][1..].parse().unwrap();
        let expected: Vec<_> = (first..first + keys.len()).map(|n| format!("c{n:03}")).collect();
        assert_eq!(keys, expected);
        first
    };
    assert!((1..=100).contains(&in_order()));
    assert_eq!(visit.attributes("#conversation > li:has([aria-current])", "data-key"), ["c100"]);
    // It is to be seen in its box, and the detail is still at its top.
    visit.until(&format!(
        "(() => {{ const line = document.querySelector(\"{opened}\").getBoundingClientRect(); \
         let box = document.querySelector('#conversation'); \
         while (box.scrollHeight <= box.clientHeight) box = box.parentElement; box = box.getBoundingClientRect(); \
         return box.height < innerHeight && line.top >= box.top - 1 && line.bottom <= box.bottom + 1; }})()"
    ));
    while visit.is_visible("#earlier") {
        let before = visit.count("#conversation > li");
        visit.click("#earlier");
        visit.until(&format!(
            "document.querySelectorAll('#conversation > li').length > {before} || document.querySelector('#earlier').hidden"
        ));
    }
    assert_eq!(in_order(), 0);
    visit.until_says("#conversation > li[data-key='c000']", "line 0");
}

#[test]
fn copying_gives_the_event_as_it_is_and_a_command_that_a_shell_takes_to_the_same() {
    let key = "it's \"$(date)\" `id` & a/b?c=d#e \\ %41";
    let fields = json!({"from": "+1", "to": "+2", "ts": "2025-01-15T10:00:00Z", "text": "'x'", "data": DATA});
    let Some(visit) = Visit::start(&[event("shop-wa", "message", key, &fields)]) else { return };
    let permissions =
        json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": visit.origin()});
    visit.devtools("Browser.grantPermissions", &permissions);
    visit.open("/");
    visit.click("#list > li a");
    visit.until_says("#fields [data-field='key']", "it's");
    let copied = |button: &str| {
        visit.run("document.querySelector('#announce').textContent = ''", &[]);
        visit.click(button);
        visit.until("document.querySelector('#announce').textContent.includes('opied')");
        visit.value("navigator.clipboard.readText()").as_str().unwrap().to_owned()
    };
    let json = copied("#copy-json");
    let command = copied("#copy-curl");
    let arguments = as_the_shell_has_it(&command);
    let url = arguments.iter().find(|argument| argument.starts_with("http")).expect("a URL");
    let target = url.strip_prefix(&visit.origin()).expect("this server");
    let answer = visit.client().get(target);
    assert_eq!(answer.status, 200, "{command}");
    assert!(answer.text().contains(&json) && json.contains(DATA), "{json} in {}", answer.text());
    assert_eq!(answer.json()["data"].as_array().map(Vec::len), Some(1));
    assert!(!command.contains("Authorization"), "no token is needed: {command}");
}

/// The arguments of a command `curl …`, as a shell hands them over.
#[track_caller]
fn as_the_shell_has_it(command: &str) -> Vec<String> {
    let script = format!("curl() {{ for each; do printf '%s\\0' \"$each\"; done; }}\n{command}");
    let output = Command::new("sh").args(["-euc", &script]).env_clear().output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_terminator('\0').map(ToOwned::to_owned).collect()
}

#[test]
fn a_link_to_an_event_opens_it_and_one_to_an_event_that_is_not_there_says_so() {
    let events = [said("wamid.1", "+1", "+2", "2025-01-15T10:00:00Z", "here")];
    let Some(visit) = Visit::start(&events) else { return };
    visit.open("/?q=here");
    visit.click(&row("wamid.1"));
    visit.until_says("#fields [data-field='text']", "here");
    visit.click("#link");
    visit.until_place("/?open=shop-wa%2Fwamid.1");
    visit.until_says("#fields [data-field='text']", "here");
    visit.open("/?open=shop-wa%2Fnowhere");
    visit.until_says("#detail", "No event has this key");
    visit.keys(key::ESCAPE);
    visit.until_hidden("#detail");
    visit.until_rows(&["wamid.1"]);
}
