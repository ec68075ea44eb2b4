//! The picture of the whole: bars, senders, kinds and sources, and how the service is.

use lyftr::clock;
use lyftr::event::Event;
use serde_json::{Value, json};

use super::{Visit, event};
use crate::support::eventually;

/// An instant so many minutes ago.
fn ago(minutes: i64) -> String {
    let second = clock::now().as_second() - 60 * minutes;
    jiff::Timestamp::from_second(second).unwrap().to_string()
}

/// A day's messages of three senders through two sources, a status, and some from long ago.
fn events() -> Vec<Event> {
    let message = |n: i64| {
        let minutes = if n < 5 { 60 * 24 * 90 + n } else { 3 + n * n % 1300 };
        let from = format!("+1202555010{}", [1, 1, 1, 2, 2, 3][usize::try_from(n).unwrap() % 6]);
        let source = if n % 4 == 0 { "shop-wa" } else { "webhook" };
        let fields =
            json!({"from": from, "to": "+12025550100", "ts": ago(minutes), "text": format!("number {n}")});
        event(source, "message", &format!("m{n:03}"), &fields)
    };
    let mut events: Vec<_> = (0..120).map(message).collect();
    events.push(event("shop-wa", "status", "s1", &json!({"ref": "m000", "type": "read", "ts": ago(1)})));
    events
}

/// When each bar begins, and what it counts.
fn bars(visit: &Visit) -> Vec<(String, u64)> {
    let bars = visit.value("Array.from(document.querySelectorAll('#bars rect[data-ts]'), bar => [bar.dataset.ts, Number(bar.dataset.count)])");
    serde_json::from_value(bars).unwrap()
}

/// What the service says, with the parameters that the page asked with last.
#[track_caller]
fn volume(visit: &Visit) -> (Vec<(String, u64)>, u64) {
    let asked = visit.value(
        "performance.getEntriesByType('resource').map(({name}) => name).filter(name => name.includes('/stats/volume')).at(-1)",
    );
    let target =
        asked.as_str().expect("the page has asked").strip_prefix(&visit.origin()).unwrap().to_owned();
    let answer = visit.client().json(&target);
    let step = |step: &Value| (step["ts"].as_str().unwrap().to_owned(), step["count"].as_u64().unwrap());
    (answer["data"].as_array().unwrap().iter().map(step).collect(), answer["total"].as_u64().unwrap())
}

#[test]
fn the_bars_say_what_the_table_and_the_service_say_in_every_range() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.open("/?view=overview");
    for range in ["hour", "day", "week", "month", "year", "all"] {
        visit.click(&format!("#ranges [data-range='{range}']"));
        visit.until(&format!(
            "document.querySelector(\"#ranges [data-range='{range}']\").getAttribute('aria-current') !== null"
        ));
        visit.until("document.querySelectorAll('#bars rect[data-ts]').length > 0");
        eventually(&format!("the bars of {range}"), || {
            let ((expected, total), bars) = (volume(&visit), bars(&visit));
            let sum: u64 = bars.iter().map(|(_, count)| count).sum();
            let longest = if range == "all" || range == "year" { 120 } else { 115 };
            (bars == expected && sum == total && sum <= longest && (sum == longest || range == "hour"))
                .then_some(())
        });
        let table: Vec<u64> = visit
            .contents("#bars-table tbody td")
            .iter()
            .map(|count| count.replace(',', "").parse().unwrap())
            .collect();
        assert_eq!(table, bars(&visit).into_iter().map(|(_, count)| count).collect::<Vec<_>>(), "{range}");
        let heights = visit.value(
            "Array.from(document.querySelectorAll('#bars rect[data-ts]'), bar => [Number(bar.dataset.count), bar.getBBox().height])\
             .sort(([a], [b]) => a - b).every(([, height], i, all) => i === 0 || height >= all[i - 1][1])",
        );
        assert_eq!(heights, true, "more messages are no lower a bar in {range}");
    }
}

#[test]
fn a_click_or_a_drag_on_the_bars_narrows_the_time() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.open("/?view=overview");
    visit.until("document.querySelectorAll('#bars rect[data-ts]').length > 3");
    let all = bars(&visit);
    let bar = |(ts, _): &(String, u64)| format!("#bars rect[data-ts='{ts}']");
    visit.drag(&bar(&all[1]), &bar(&all[2]));
    visit.until("new URLSearchParams(location.search).has('since') && new URLSearchParams(location.search).has('until')");
    let sum = |part: &[(String, u64)]| part.iter().map(|(_, count)| count).sum::<u64>();
    let shown = |expected: u64| {
        visit.until_equal("Array.from(document.querySelectorAll('#bars rect[data-ts]'), bar => Number(bar.dataset.count)).reduce((a, b) => a + b, 0)", expected);
    };
    shown(sum(&all[1..3]));
    visit.back();
    shown(sum(&all));
    visit.click(&bar(&all[1]));
    shown(all[1].1);
    visit.until_equal(
        "Date.parse(new URLSearchParams(location.search).get('since'))",
        visit.value(&format!("Date.parse('{}')", all[1].0)),
    );
    // The same time in the inbox.
    visit.click("#tab-inbox");
    visit.until_equal("document.querySelectorAll('#list > li').length", all[1].1);
}

#[test]
fn senders_kinds_and_sources_are_counted_and_lead_to_the_inbox() {
    let Some(visit) = Visit::start(&events()) else { return };
    visit.open("/?view=overview");
    let expect = |css: &str, rows: &[(&str, u64)]| {
        eventually(css, || {
            let shown = visit.contents(&format!("{css} > li"));
            let is_so = shown.len() == rows.len()
                && shown
                    .iter()
                    .zip(rows)
                    .all(|(text, (name, count))| text.contains(name) && text.contains(&count.to_string()));
            if is_so { Ok(()) } else { Err(format!("{shown:?}")) }
        });
    };
    expect("#senders", &[("+12025550101", 60), ("+12025550102", 40), ("+12025550103", 20)]);
    expect("#kinds", &[("message", 120), ("status", 1)]);
    expect("#sources", &[("webhook", 90), ("shop-wa", 31)]);
    visit.mark();
    visit.click("#senders > li:nth-child(3) a");
    visit.until_place("/?from=%2B12025550103");
    visit.until_equal("document.querySelectorAll('#list > li').length", 20);
    visit.back();
    visit.click("#kinds > li:nth-child(2) a");
    visit.until_rows(&["s1"]);
    visit.back();
    visit.click("#sources > li:nth-child(2) a");
    visit.until_equal("document.querySelectorAll('#list > li').length", 31);
    visit.expect_mark();
}

#[test]
fn the_state_of_the_service_is_that_of_its_probes_and_metrics() {
    let Some(visit) = Visit::start_with(&events(), &[("QUEUE_MAX", "777")]) else { return };
    let mut client = visit.client();
    assert_eq!(client.post(b"{}", &[&"0".repeat(64)]).status, 401);
    assert_eq!(client.post(b"{}", &["none"]).status, 401);
    let position = client.json("/events?limit=100")["next"].clone();
    let body = json!({"position": position}).to_string();
    let made = client.request("PUT", "/cursors/billing", &[("If-None-Match", "*")], body.as_bytes());
    assert_eq!(made.status, 200, "{}", made.line());
    visit.open("/?view=overview");
    visit.until_says("#service [data-state='ready']", "Ready");
    visit.until_says("#service [data-state='queue']", "777");
    visit.until("/^\\D*2\\b/.test(document.querySelector(\"#service [data-state='refused']\").textContent)");
    visit.until_says("#service [data-state='lag']", "billing");
    visit.until_says("#service [data-state='lag']", "21");
    visit.until(
        "/[\\d.]+ [KMGT]B/.test(document.querySelector(\"#service [data-state='disk']\").textContent)",
    );
}
