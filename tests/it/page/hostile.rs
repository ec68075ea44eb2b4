//! What somebody may write to harm who reads it, or to be read as something else. It is shown as what it is: text.

use lyftr::event::Event;
use serde_json::{Value, json};

use super::{Visit, event};
use crate::support::eventually;

/// Texts, by the key of the message that holds each.
fn texts() -> Vec<(&'static str, String)> {
    vec![
        ("image", "<img src=x onerror=\"window.hit = 1\">".to_owned()),
        ("script", "</script><script>window.hit = 1</script>".to_owned()),
        ("template", "${window.hit = 1} {{window.hit = 1}} javascript:window.hit=1".to_owned()),
        ("entities", "&lt;b&gt; &amp;amp; &#0; %3Cb%3E".to_owned()),
        ("escapes", r"\u0000 \x00 \0 %00 \u202e \n".to_owned()),
        ("controls", "a\u{1}\u{8}\u{b}\u{1b}[31mred\u{7f}\u{85}z".to_owned()),
        ("override", "user\u{202e}gpj.exe\u{2066}\u{2067}\u{202b}".to_owned()),
        ("pops", "\u{2069}\u{2069}\u{202c}\u{202c} out of here \u{200f}\u{061c}".to_owned()),
        ("arabic", "مرحبا، أريد رغيفين 123 abc!".to_owned()),
        ("hebrew", "שלום, שתי כיכרות לחם (בבקשה)".to_owned()),
        ("emoji", "😀".repeat(4096)),
        ("families", "👨‍👩‍👧‍👦🏳️‍🌈👍🏽🇮🇳".repeat(50)),
        ("zalgo", format!("z{}", "\u{0348}\u{0349}\u{034a}\u{035b}".repeat(500))),
        ("lines", "\r\n\n\u{2028}\u{2029}one\n\n\ntwo\r".to_owned()),
        ("wide", "W".repeat(4096)),
        ("separators", "\u{feff}\u{200b}\u{ad}\u{3164}\u{fff9}x\u{fffb}".to_owned()),
    ]
}

/// Names, keys and data that are no better.
const NAME: &str = "<b>\u{202e}x</b>\"'&<svg onload=window.hit=1>";
const KEY: &str = "k\"'><img src=x onerror=window.hit=1>/?&#%2e%";
const DATA: &str = "{\"<img src=x onerror=window.hit=1>\":\"</script><script>window.hit=1</script>\",\
                    \"__proto__\":{\"constructor\":[]},\"toString\":\"\u{202e}abc\",\"\\u0000\":\"\\ud800 \\u2028\"}";

fn events() -> Vec<Event> {
    let message = |(nth, (key, text)): (usize, (&str, String))| {
        let ts = format!("2025-01-15T10:{nth:02}:00Z");
        event(
            "shop-wa",
            "message",
            key,
            &json!({"from": "+1", "to": "+2", "ts": ts, "type": "text", "text": text}),
        )
    };
    let mut events: Vec<_> = texts().into_iter().enumerate().map(message).collect();
    let worst = json!({
        "from": NAME, "to": NAME, "type": NAME, "user_id": NAME, "thread": NAME, "ref": NAME, "account": NAME,
        "ts": "2025-01-15T09:00:00Z", "text": "worst", "data": DATA,
    });
    events.push(event("shop-wa", "message", KEY, &worst));
    events
}

/// Nothing of it has become anything but text.
#[track_caller]
fn expect_harmless(visit: &Visit) {
    let found = visit.value(
        "[window.hit ?? null, document.querySelectorAll('img, iframe, object, embed, b, main script, [onerror], [onload]').length, \
         document.scripts.length, document.documentElement.scrollWidth <= innerWidth]",
    );
    assert_eq!(found, json!([null, 0, 1, true]), "hit, elements, scripts, no wider than the window");
}

#[test]
fn what_people_write_is_text_in_rows_fields_and_conversations() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.open("/");
    visit.until_equal("document.querySelectorAll('#list > li').length", texts().len() + 1);
    expect_harmless(&visit);
    for (key, text) in texts() {
        let has_it = |css: &str| {
            let script = "return document.querySelector(arguments[0])?.textContent.includes(arguments[1]) ? true : \
                 document.querySelector(arguments[0])?.textContent ?? null";
            eventually(&format!("{key} in {css}"), || {
                let found = visit.run(script, &[css.into(), text.as_str().into()]);
                if found == true { Ok(()) } else { Err(found.to_string()) }
            });
        };
        has_it(&format!("#list > li[data-key='{key}']"));
        visit.open(&format!("/?open=shop-wa%2F{key}"));
        has_it("#fields [data-field='text']");
        has_it(&format!("#conversation > li[data-key='{key}']"));
        expect_harmless(&visit);
    }
}

#[test]
fn names_keys_and_data_are_text_and_lead_where_they_should() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.open("/");
    visit.until_equal("document.querySelectorAll('#list > li').length", texts().len() + 1);
    visit.click("#list > li:last-child a");
    visit.until_says("#fields [data-field='text']", "worst");
    for field in ["from", "to", "type", "user_id", "thread", "ref", "account"] {
        assert!(visit.content(&format!("#fields [data-field='{field}']")).contains(NAME), "{field}");
    }
    assert_eq!(
        (visit.content("#fields [data-field='key']"), visit.content("#raw")),
        (KEY.to_owned(), DATA.to_owned())
    );
    visit.run("document.querySelectorAll('#tree details').forEach(branch => branch.open = true)", &[]);
    visit.until("document.querySelector('#tree').textContent.includes('__proto__')");
    expect_harmless(&visit);
    // The address of it leads back to it.
    let place = visit.place();
    visit.open(&place);
    visit.until_equal("document.querySelector('#fields [data-field=\"key\"]').textContent", KEY);
    visit.click("#fields [data-field='from'] a");
    visit.until_rows(&[KEY]);
    visit.until_equal("document.querySelector('#f-from').value", NAME);
    visit.open("/?view=overview");
    visit.until("document.querySelector('#senders').textContent.includes('<svg')");
    expect_harmless(&visit);
}

#[test]
fn an_address_that_somebody_made_up_does_no_harm() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.allow(["422 (Unprocessable"]);
    let made_up = "%3Cimg%20src=x%20onerror=window.hit=1%3E%E2%80%AE";
    for query in ["q", "from", "to", "source", "kind", "since", "until", "open", "view", "range"] {
        for value in [
            made_up,
            "shop-wa%2F%22%3E%3Cscript%3Ewindow.hit=1%3C/script%3E",
            "%00",
            "__proto__",
            "javascript:window.hit=1",
        ] {
            visit.open(&format!("/?{query}={value}"));
            visit.until(
                "['#list > li', '#empty:not([hidden])', '#error:not([hidden])', '#detail:not([hidden])', '#bars rect']\
                 .some(css => document.querySelector(css))",
            );
            expect_harmless(&visit);
        }
    }
}

#[test]
fn an_override_of_direction_stays_within_its_text() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.open("/");
    visit.until_equal("document.querySelectorAll('#list > li').length", texts().len() + 1);
    // The time and the source of each row begin where those of all others begin.
    let places = visit.value(
        "['.time', '.kind'].map(css => new Set(Array.from(document.querySelectorAll(`#list > li ${css}`), \
         each => Math.round(each.getBoundingClientRect().left))).size)",
    );
    assert_eq!(places, json!([1, 1]));
    let direction = |key: &str| {
        visit.value(&format!(
            "getComputedStyle(document.querySelector('#list > li[data-key={key}] .text')).direction"
        ))
    };
    assert_eq!(
        (direction("arabic"), direction("hebrew"), direction("wide")),
        ("rtl".into(), "rtl".into(), Value::from("ltr"))
    );
    // An isolate cannot be left: every element that people write into is one.
    let isolated = visit.value(
        "Array.from(document.querySelectorAll('#list .text[dir], #list bdi'), each => getComputedStyle(each).unicodeBidi)\
         .every(value => value === 'isolate' || value === 'plaintext' || value === 'isolate-override')",
    );
    assert_eq!(isolated, true);
}
