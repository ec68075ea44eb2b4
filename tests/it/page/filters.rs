//! Filters, which live in the address, and the way back.

use lyftr::event::Event;
use serde_json::{Value, json};

use super::{Visit, event, row};
use crate::support::browser::{Browser, key};

/// Eight events, of which five are messages. The order of arrival is not that of time.
fn events() -> Vec<Event> {
    let webhook = |key: &str, from: &str, to: &str, ts: &str, text: Value| {
        event("webhook", "message", key, &json!({"from": from, "to": to, "ts": ts, "text": text}))
    };
    let shop = |kind: &str, key: &str, fields: Value| {
        let mut fields = fields;
        fields["ts"] = fields["ts"].as_str().unwrap_or("2025-01-15T12:00:00Z").into();
        event("shop-wa", kind, key, &fields)
    };
    vec![
        webhook("m1", "+12025550101", "+12025550100", "2025-01-15T10:00:00Z", json!("Two loaves, please")),
        webhook("m2", "+12025550100", "+12025550101", "2025-01-15T10:05:00.5Z", json!("STRASSE 5?")),
        webhook("m3", "+12025550102", "+12025550100", "2025-01-14T09:00:00Z", json!(null)),
        shop(
            "message",
            "w1",
            json!({"from": "+491515550103", "to": "+12025550100", "text": "Eine Straße weiter", "type": "text"}),
        ),
        shop("status", "w1:read", json!({"ref": "w1", "type": "read", "to": "+491515550103"})),
        shop(
            "reaction",
            "w2",
            json!({"ref": "w1", "from": "+491515550103", "to": "+12025550100", "text": "👍"}),
        ),
        webhook("m4", "+12025550101", "+12025550103", "2025-01-16T00:00:00Z", json!("loaves again")),
        shop("edit", "w3", json!({"ref": "w1", "from": "+491515550103", "text": "Eine Straße näher"})),
    ]
}

/// Every message, newest first.
const ALL: [&str; 5] = ["m4", "w1", "m2", "m1", "m3"];

/// A query, the keys that it finds, and the inputs that show it with their values.
type Case = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

/// Types an instant into a `datetime-local`: month, day, year, hour, minute, second and half of the day, as in America.
#[track_caller]
fn fill_instant(browser: &Browser, css: &str, typed: &str) {
    browser.run("document.querySelector(arguments[0]).focus()", &[css.into()]);
    // Each part goes on to the next by itself.
    browser.keys(&typed.replace(' ', ""));
}

#[test]
fn every_filter_narrows_the_list_as_one_types_and_stands_in_the_address() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.open("/");
    visit.until_rows(&ALL);
    visit.mark();
    let cases: [(&str, &str, &[&str], &str); 6] = [
        ("#f-q", "straße", &["w1", "m2"], "q=stra%C3%9Fe"),
        ("#f-from", "+12025550101", &["m4", "m1"], "from=%2B12025550101"),
        ("#f-to", "+12025550100", &["w1", "m1", "m3"], "to=%2B12025550100"),
        ("#f-source", "shop-wa", &["w1"], "source=shop-wa"),
        ("#f-q", "loaves & <milk>", &[], "q=loaves+%26+%3Cmilk%3E"),
        ("#f-from", "nobody", &[], "from=nobody"),
    ];
    for (input, typed, keys, query) in cases {
        visit.fill(input, typed);
        visit.until_rows(keys);
        visit.until_place(&format!("/?{query}"));
        visit.click("#clear");
        visit.until_rows(&ALL);
        visit.until_place("/");
        visit.until_equal(&format!("document.querySelector('{input}').value"), "");
    }
    visit.expect_mark();
}

#[test]
fn a_range_of_time_is_in_the_readers_zone_and_in_utc_in_the_address() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.open("/");
    visit.until_rows(&ALL);
    // Half past nine hours ahead of UTC.
    fill_instant(&visit, "#f-since", "01 15 2025 07 30 00 PM");
    visit.until_rows(&["m4", "w1", "m2", "m1"]);
    visit.until_place("/?since=2025-01-15T10%3A00%3A00Z");
    fill_instant(&visit, "#f-until", "01 16 2025 09 30 00 AM");
    visit.until_rows(&["w1", "m2", "m1"]);
    visit.until_place("/?since=2025-01-15T10%3A00%3A00Z&until=2025-01-16T00%3A00%3A00Z");
    let text = visit.text(&row("m1"));
    assert!(text.contains("15 Jan 2025, 19:30") && text.contains("2025-01-15 10:00:00 UTC"), "{text}");
}

#[test]
fn a_link_shows_what_it_names_and_fills_the_filters() {
    let Some(visit) = Visit::start(&events()) else { return };
    let cases: [Case; 6] = [
        ("q=LOAVES", &["m4", "m1"], &[("q", "LOAVES")]),
        (
            "from=%2B12025550101&to=%2B12025550103",
            &["m4"],
            &[("from", "+12025550101"), ("to", "+12025550103")],
        ),
        ("source=shop-wa&q=weiter", &["w1"], &[("source", "shop-wa"), ("q", "weiter")]),
        (
            "since=2025-01-15T10:05:00Z&until=2025-01-16T00:00:00Z",
            &["w1", "m2"],
            &[("since", "2025-01-15T19:35"), ("until", "2025-01-16T09:30")],
        ),
        ("kind=message&from=%2B12025550102", &["m3"], &[("from", "+12025550102"), ("kind", "")]),
        ("kind=status&nothing=known&view=other", &["w1:read"], &[("kind", "status")]),
    ];
    for (query, keys, filled) in cases {
        visit.open(&format!("/?{query}"));
        visit.until_rows(keys);
        for (input, value) in filled {
            // A time without seconds is written with them, or not.
            visit.until(&format!(
                "document.querySelector('#f-{input}').value.replace(/(T..:..):00$/, '$1') === '{value}'"
            ));
        }
    }
}

#[test]
fn everything_that_arrived_is_listed_by_kind_where_text_and_time_do_not_filter() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.open("/?q=loaves");
    visit.until_rows(&["m4", "m1"]);
    visit.choose("#f-kind", "any");
    // In the order of arrival, the newest first.
    visit.until_rows(&["w3", "m4", "w2", "w1:read", "w1", "m3", "m2", "m1"]);
    visit.until_visible("#kind-note");
    for input in ["#f-q", "#f-since", "#f-until"] {
        visit.until(&format!("document.querySelector('{input}').disabled"));
    }
    visit.fill("#f-source", "shop-wa");
    visit.until_rows(&["w3", "w2", "w1:read", "w1"]);
    for (kind, keys) in
        [("status", &["w1:read"][..]), ("reaction", &["w2"]), ("edit", &["w3"]), ("call", &[])]
    {
        visit.choose("#f-kind", kind);
        visit.until_rows(keys);
    }
    visit.until_visible("#empty");
    visit.choose("#f-kind", "");
    visit.fill("#f-source", "");
    visit.until_rows(&["m4", "m1"]);
    visit.until_hidden("#kind-note");
}

#[test]
fn back_and_forward_walk_through_what_was_shown_without_loading_the_page_again() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.open("/");
    visit.until_rows(&ALL);
    visit.mark();
    visit.fill("#f-q", "loaves");
    visit.until_place("/?q=loaves");
    visit.until_rows(&["m4", "m1"]);
    visit.keys(key::ENTER);
    visit.click(&row("m1"));
    visit.until_says("#fields [data-field='text']", "Two loaves, please");
    visit.click(&row("m4"));
    visit.until_says("#fields [data-field='text']", "loaves again");
    visit.click("#tab-overview");
    visit.until_visible("#overview");
    let places = ["/", "/?q=loaves", "/?q=loaves&open=webhook%2Fm1", "/?q=loaves&open=webhook%2Fm4"];
    let expect = |nth: usize| {
        visit.until_place(places[nth]);
        visit.until_rows(if nth == 0 { &ALL } else { &["m4", "m1"] });
        visit.until_equal("document.querySelector('#f-q').value", if nth == 0 { "" } else { "loaves" });
        match nth {
            2 => visit.until_says("#fields [data-field='text']", "Two loaves, please"),
            3 => visit.until_says("#fields [data-field='text']", "loaves again"),
            _ => visit.until_hidden("#detail"),
        }
    };
    for nth in (0..4).rev() {
        visit.back();
        expect(nth);
    }
    for nth in 1..4 {
        visit.forward();
        expect(nth);
    }
    visit.forward();
    visit.until_visible("#overview");
    visit.until_hidden("#list");
    visit.expect_mark();
}

#[test]
fn a_filter_that_the_service_refuses_is_told_in_its_words() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.allow(["422 (Unprocessable"]);
    visit.open("/?since=yesterday");
    visit.until_says("#error", "since");
    assert_eq!(visit.count("#list > li"), 0);
    visit.click("#clear");
    visit.until_rows(&ALL);
    visit.until_hidden("#error");
}
