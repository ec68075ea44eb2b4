//! Everything without a mouse.

use serde_json::json;

use super::{NOT_LET_IN, Visit, event};
use crate::support::browser::key;

const TOKEN: &str = "the read token of these tests";

/// The key of the row that has the focus.
const FOCUSED_ROW: &str = "document.activeElement.closest('#list > li')?.dataset.key ?? null";

#[test]
fn one_signs_in_searches_opens_reads_and_closes_without_a_mouse() {
    let message = |n: u32| {
        let fields = json!({"from": "+1", "to": "+2", "ts": format!("2025-01-15T10:0{n}:00Z"), "text": format!("word {n}")});
        event("webhook", "message", &format!("m{n}"), &fields)
    };
    let events: Vec<_> = (0..6).map(message).collect();
    let Some(visit) = Visit::start_with(&events, &[("READ_TOKEN", TOKEN)]) else { return };
    visit.allow([NOT_LET_IN]);
    visit.open("/");
    visit.until_equal("document.activeElement.id", "token");
    // A key that means something elsewhere is a letter here.
    visit.keys(&format!("j/?n{}{TOKEN}{}", key::BACKSPACE.repeat(4), key::ENTER));
    visit.until_rows(&["m5", "m4", "m3", "m2", "m1", "m0"]);

    visit.keys("j");
    visit.until_equal(FOCUSED_ROW, "m5");
    visit.keys(&format!("jj{}{}k", key::DOWN, key::UP));
    visit.until_equal(FOCUSED_ROW, "m4");
    visit.keys(key::ENTER);
    visit.until_says("#fields [data-field='text']", "word 4");
    visit.until("document.activeElement.closest('#detail') !== null");
    visit.keys(key::ESCAPE);
    visit.until_hidden("#detail");
    visit.until_equal(FOCUSED_ROW, "m4");

    visit.keys("/");
    visit.until_equal("document.activeElement.id", "f-q");
    visit.keys("word 2");
    visit.until_rows(&["m2"]);
    visit.keys(key::ENTER);
    visit.until("document.activeElement.id !== 'f-q'");
    visit.until_place("/?q=word+2");
    visit.keys("/");
    visit.until_equal("document.activeElement.id", "f-q");
    visit.keys(key::ESCAPE);
    visit.until("document.activeElement.id !== 'f-q'");
    visit.keys("j");
    visit.until_equal(FOCUSED_ROW, "m2");
    visit.keys(key::ENTER);
    visit.until_says("#fields [data-field='text']", "word 2");
    visit.until_place("/?q=word+2&open=webhook%2Fm2");
    visit.keys(key::ESCAPE);

    visit.keys("?");
    visit.until_visible("#help");
    visit.keys(key::ESCAPE);
    visit.until_hidden("#help");
    visit.until_place("/?q=word+2");
}

#[test]
fn n_shows_what_is_new_and_every_control_is_reached_by_tab_and_shows_its_focus() {
    let fields = json!({"from": "+1", "to": "+2", "ts": "2025-01-15T10:00:00Z", "text": "first"});
    let Some(visit) = Visit::start(&[event("webhook", "message", "m0", &fields)]) else { return };
    visit.open("/?open=webhook%2Fm0");
    visit.until_says("#connection", "Live");
    visit.until_says("#fields [data-field='text']", "first");
    visit
        .client()
        .store(&json!({"message_id": "m1", "from": "+1", "to": "+2", "ts": "2025-01-15T11:00:00Z"}));
    visit.until_says("#new", "1 new");
    visit.keys("n");
    visit.until_rows(&["m1", "m0"]);

    visit.run("document.activeElement.blur(); getSelection().removeAllRanges()", &[]);
    visit.keys(key::TAB);
    visit.until("document.activeElement.getAttribute('href')?.startsWith('#') === true");
    visit.until_visible("a[href^='#']");
    let mut reached = Vec::new();
    let begin = visit.value("document.activeElement.outerHTML");
    loop {
        visit.keys(key::TAB);
        let (element, name, is_shown) = {
            let state = visit.value(
                // An input for a time marks the part of it that has the focus.
                "(e => [e.outerHTML, e.id || e.localName, e === document.body || e.type === 'datetime-local' || \
                 (style => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1)(getComputedStyle(e))])\
                 (document.activeElement)",
            );
            (state[0].clone(), state[1].as_str().unwrap().to_owned(), state[2].clone())
        };
        if element == begin || reached.len() > 100 {
            break;
        }
        assert_eq!(is_shown, true, "the focus is not to be seen on {element}");
        reached.push(name);
    }
    for id in [
        "tab-inbox",
        "tab-overview",
        "f-q",
        "f-from",
        "f-to",
        "f-source",
        "f-kind",
        "f-since",
        "f-until",
        "download-ndjson",
        "download-csv",
        "close",
        "copy-json",
        "copy-curl",
        "link",
    ] {
        assert!(reached.iter().any(|name| name == id), "{id} is not among {reached:?}");
    }
}
