//! The list itself: how its rows look, and how many there are.

use serde_json::{Value, json};

use super::{Visit, event, row};
use crate::support::eventually;

#[test]
fn a_row_shows_who_wrote_what_to_whom_when_and_through_which_source() {
    let fields = json!({"from": "+12025550101", "to": "+12025550100", "ts": "2025-01-15T23:59:30.25Z", "text": "Hello"});
    let whatsapp = |key: &str, kind: &str, text: Value| {
        let fields =
            json!({"from": "a name", "to": null, "ts": "2025-01-15T10:00:00Z", "type": kind, "text": text});
        event("shop-wa", "message", key, &fields)
    };
    let events = [
        event("webhook", "message", "m1", &fields),
        whatsapp("w1", "image", json!(null)),
        whatsapp("w2", "text", json!("")),
        whatsapp("w3", "text", json!(" \u{200b}\n\u{2003}")),
    ];
    let Some(visit) = Visit::start(&events) else { return };
    visit.open("/");
    visit.until_rows(&["m1", "w3", "w2", "w1"]);
    let text = visit.text(&row("m1"));
    for words in
        ["+12025550101", "+12025550100", "Hello", "webhook", "16 Jan 2025, 09:29", "2025-01-15 23:59:30 UTC"]
    {
        assert!(text.contains(words), "{words:?} in {text:?}");
    }
    assert!(visit.text(&row("w1")).contains("a name"));
    // What has nothing to be seen in it is said to be so, and not passed off as what somebody wrote.
    for key in ["w1", "w2", "w3"] {
        let quiet = visit.text(&format!("{} .text", row(key)));
        assert!(!quiet.trim().is_empty(), "{key}");
        let colour = |key: &str| {
            visit.value(&format!("getComputedStyle(document.querySelector(\"{} .text\")).color", row(key)))
        };
        assert_ne!(colour(key), colour("m1"), "{key}");
    }
    visit.choose("#f-kind", "any");
    visit.until_says(&row("w1"), "image");
}

/// Scrolls to an end of the document again and again until a row is there, and notes all keys and most rows seen.
const SCROLL: &str = "
    const [towards, end] = arguments;
    const list = document.querySelector('#list');
    if (!window.seen) {
      window.seen = new Set();
      window.most = 0;
      window.note = () => {
        for (const row of list.children) seen.add(row.dataset.key);
        most = Math.max(most, list.children.length);
      };
      new MutationObserver(note).observe(list, {childList: true});
      note();
    }
    const deadline = Date.now() + 20_000;
    return new Promise(done => {
      const step = () => {
        const found = (towards > 0 ? list.lastElementChild : list.firstElementChild).dataset.key;
        const there = towards > 0 ? found <= end : found >= end;
        if (there || Date.now() > deadline) return done(there);
        scrollTo(0, towards > 0 ? document.documentElement.scrollHeight : 0);
        setTimeout(step, 10);
      };
      step();
    });
";

#[test]
fn ten_thousand_rows_are_scrolled_through_with_five_hundred_of_them_in_the_document() {
    let message = |n: usize| {
        let ts = format!("2025-01-{:02}T{:02}:{:02}:00Z", 1 + n / 1440, n / 60 % 24, n % 60);
        let fields =
            json!({"from": "+12025550101", "to": "+12025550100", "ts": ts, "text": format!("number {n}")});
        event("webhook", "message", &format!("m{n:04}"), &fields)
    };
    let events: Vec<_> = (0..10_000).map(message).collect();
    let Some(visit) = Visit::start(&events) else { return };
    visit.open("/");
    visit.until_visible(&row("m9999"));
    let scroll_to = |towards: i32, end: &str| {
        eventually(&format!("{end} is reached"), || {
            (visit.run(SCROLL, &[towards.into(), end.into()]) == true).then_some(())
        });
    };
    // In stages, so that each has a deadline of its own.
    for thousand in (0..10).rev() {
        scroll_to(1, &format!("m{thousand}000"));
    }
    visit.until_says("#more", "That is all");
    assert_eq!(
        visit.value("[seen.size, most]"),
        json!([10_000, 500]),
        "rows seen, and the most in the document"
    );
    // On the way back they are fetched again.
    scroll_to(-1, "m1499");
    assert_eq!(
        visit.value("[seen.size, most]"),
        json!([10_000, 500]),
        "rows seen, and the most in the document"
    );
    let keys = visit.attributes("#list > li", "data-key");
    let first: usize = keys[0][1..].parse().unwrap();
    let expected: Vec<_> = (0..keys.len()).map(|n| format!("m{:04}", first - n)).collect();
    assert_eq!(keys, expected);
    let elements = visit.value("document.querySelectorAll('*').length").as_u64().unwrap();
    assert!(elements < 500 * 20, "{elements} elements");
}

#[test]
fn what_one_reads_stays_in_its_place_while_rows_come_and_go_at_both_ends() {
    let message = |n: usize| {
        let ts = format!("2025-01-{:02}T{:02}:{:02}:00Z", 1 + n / 1440, n / 60 % 24, n % 60);
        // Of one line and of more.
        let fields =
            json!({"from": "+1", "to": "+2", "ts": ts, "text": "some words ".repeat(1 + n * 7 % 40)});
        event("webhook", "message", &format!("m{n:04}"), &fields)
    };
    let events: Vec<_> = (0..1200).map(message).collect();
    let Some(visit) = Visit::start(&events) else { return };
    visit.open("/");
    visit.until_visible(&row("m1199"));
    // Whenever rows come or go, the one in the middle of the window must be where it was.
    visit.run(
        "const list = document.querySelector('#list'); window.jumps = [];
         window.place = () => {
           const found = document.elementFromPoint(innerWidth / 4, innerHeight / 2)?.closest('#list > li');
           window.kept = found && [found, found.getBoundingClientRect().top];
         };
         addEventListener('scroll', () => window.place());
         new MutationObserver(() => {
           const [row, top] = window.kept ?? [];
           if (row?.isConnected && Math.abs(row.getBoundingClientRect().top - top) > 1) jumps.push([row.dataset.key, top, row.getBoundingClientRect().top]);
         }).observe(list, {childList: true});
         window.place();",
        &[],
    );
    for towards in [1, -1] {
        let script = "
            const [towards] = arguments;
            const end = towards > 0 ? 'm0000' : 'm1199';
            return new Promise(done => {
              let steps = 0;
              const step = () => {
                if (document.querySelector(`#list > li[data-key=${end}]`) || (steps += 1) > 2000) return done(steps);
                scrollBy(0, towards * 600);
                place();
                setTimeout(step, 8);
              };
              step();
            });";
        let steps = visit.run(script, &[towards.into()]);
        assert!(steps.as_u64().is_some_and(|steps| steps <= 2000), "it comes to no end");
    }
    assert_eq!(visit.value("jumps"), json!([]));
}
