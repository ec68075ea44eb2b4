//! What arrives while one looks, and what becomes of the page while nobody serves it.

use lyftr::event::Event;
use serde_json::{Value, json};

use super::{NO_SERVER, Visit, event, row};
use crate::support::eventually;

/// So many messages, a minute apart, the newest with the highest number.
fn messages(numbers: std::ops::Range<usize>) -> Vec<Event> {
    let nth = |n: usize| event("webhook", "message", &format!("m{n:03}"), &fields(n));
    numbers.map(nth).collect()
}

fn fields(n: usize) -> Value {
    let ts = format!("2025-01-15T{:02}:{:02}:00Z", n / 60, n % 60);
    json!({"from": "+12025550101", "to": "+12025550100", "ts": ts, "text": format!("number {n}")})
}

/// Sends the message of this number to the service that runs.
#[track_caller]
fn send(visit: &Visit, n: usize) {
    let mut message = fields(n);
    message["message_id"] = format!("m{n:03}").into();
    visit.client().store(&message);
}

/// Where the rows are that can be seen.
fn visible_rows(visit: &Visit) -> Value {
    visit.value(
        "Array.from(document.querySelectorAll('#list > li'), row => [row.dataset.key, row.getBoundingClientRect().top])\
         .filter(([, top]) => top >= 0 && top < innerHeight)",
    )
}

#[test]
fn what_arrives_is_counted_and_nothing_that_one_reads_moves_until_it_is_asked_for() {
    let Some(visit) = Visit::start(&messages(0..200)) else { return };
    visit.open("/");
    visit.until_says("#connection", "Live");
    visit.run("document.querySelector('#list > li:nth-child(40)').scrollIntoView({block: 'start'})", &[]);
    visit.until("document.querySelectorAll('#list > li').length >= 100");
    visit.run("document.querySelector('#list > li:nth-child(60)').scrollIntoView({block: 'center'})", &[]);
    let before = visible_rows(&visit);
    assert!(before.as_array().is_some_and(|rows| rows.len() > 5), "{before}");
    assert!(!visit.is_visible("#new"));
    for (nth, n) in (200..203).enumerate() {
        send(&visit, n);
        visit.until_says("#new", &format!("{} new", nth + 1));
    }
    assert_eq!(visible_rows(&visit), before);
    visit.click("#new");
    visit.until_equal("document.querySelector('#list > li').dataset.key", "m202");
    visit.until_hidden("#new");
    visit.until_equal("scrollY", 0);
    // It goes on from there.
    visit.until_says("#connection", "Live");
    send(&visit, 203);
    visit.until_says("#new", "1 new");
}

#[test]
fn only_what_passes_the_filters_counts_as_new() {
    let Some(visit) = Visit::start(&messages(0..3)) else { return };
    // Each lets one of these pass, of which the last one is the last to come.
    let filters = [
        "q=NUMBER 21",
        "from=%2B12025550101&q=22",
        "since=2025-01-15T03:50:00Z&until=2025-01-15T03:59:59.5Z",
    ];
    for (filter, numbers) in filters.iter().zip([[300, 31, 210], [301, 32, 220], [302, 33, 230]]) {
        visit.open(&format!("/?{filter}"));
        visit.until_visible("#empty");
        visit.until_says("#connection", "Live");
        // An empty list takes what passes at once, and a list that one reads counts it.
        send(&visit, numbers[2] + 1);
        visit.until_rows(&[&format!("m{}", numbers[2] + 1)]);
        visit.until_says("#connection", "Live");
        for n in numbers {
            send(&visit, n);
        }
        visit.until_says("#new", "1 new");
        visit.click("#new");
        visit.until_rows(&[&format!("m{}", numbers[2] + 1), &format!("m{}", numbers[2])]);
    }
}

#[test]
fn a_restart_is_told_and_survived_without_loading_the_page_again() {
    let Some(mut visit) = Visit::start(&messages(0..3)) else { return };
    visit.allow(NO_SERVER);
    visit.open("/?open=webhook%2Fm001");
    visit.until_says("#connection", "Live");
    visit.until_says("#fields [data-field='text']", "number 1");
    visit.mark();
    visit.go_down();
    visit.until_says("#connection", "Not connected since");
    visit.until("/since \\d\\d:\\d\\d:\\d\\d/.test(document.querySelector('#connection').textContent)");
    visit.until_rows(&["m002", "m001", "m000"]);
    // In between, so that no stream can have told it.
    visit.store(&messages(3..5));
    visit.come_up();
    visit.until_says("#connection", "Live");
    visit.until_says("#new", "2 new");
    visit.until_rows(&["m002", "m001", "m000"]);
    visit.until_says("#fields [data-field='text']", "number 1");
    visit.click("#new");
    visit.until_rows(&["m004", "m003", "m002", "m001", "m000"]);
    visit.expect_mark();
}

#[test]
fn a_service_that_was_killed_is_found_again_by_a_page_that_was_opened_meanwhile() {
    let Some(mut visit) = Visit::start(&messages(0..3)) else { return };
    visit.allow(NO_SERVER);
    visit.open("/");
    visit.until_says("#connection", "Live");
    visit.mark();
    visit.kill();
    visit.until_says("#connection", "Not connected since");
    // A view that cannot be read is not passed off as an empty one.
    visit.fill("#f-q", "number 2");
    visit.until_visible("#error");
    assert!(!visit.is_visible("#empty"));
    visit.come_up();
    visit.until_rows(&["m002"]);
    visit.until_says("#connection", "Live");
    visit.until_hidden("#error");
    visit.expect_mark();
}

#[test]
fn a_log_that_was_replaced_is_read_anew() {
    let Some(mut visit) = Visit::start(&messages(0..3)) else { return };
    visit.allow(NO_SERVER);
    visit.allow(["410 (Gone)"]);
    visit.open("/");
    visit.until_says("#connection", "Live");
    visit.mark();
    visit.go_down();
    for entry in std::fs::read_dir(visit.folder.path()).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    visit.store(&messages(7..9));
    visit.come_up();
    visit.until_rows(&["m008", "m007"]);
    visit.until_says("#connection", "Live");
    visit.expect_mark();
}

#[test]
fn a_page_that_nobody_sees_holds_no_stream_and_goes_on_where_it_was() {
    let Some(visit) = Visit::start(&messages(0..3)) else { return };
    let followers = |expected: f64| {
        eventually(&format!("{expected} followers"), || {
            (visit.client().metric("followers_open") == expected).then_some(())
        });
    };
    visit.open("/");
    visit.until_says("#connection", "Live");
    followers(1.0);
    visit.in_another_tab(|| {
        followers(0.0);
        send(&visit, 3);
        send(&visit, 4);
    });
    visit.until_says("#new", "2 new");
    visit.until_says("#connection", "Live");
    followers(1.0);
    visit.click("#new");
    visit.until_visible(&row("m004"));
}
