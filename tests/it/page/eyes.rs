//! Eyes of every kind: narrow windows, large letters, light and dark, and those who hear the page instead.

use std::path::Path;

use lyftr::event::Event;
use serde_json::{Value, json};

use super::{NOT_LET_IN, Visit, event, row};
use crate::support::skip;

/// Four messages, of which one is long, and what refers to one of them.
fn events() -> Vec<Event> {
    let message = |key: &str, text: Value| {
        let fields = json!({
            "from": "+12025550101", "to": "+12025550100", "type": "text", "ts": "2025-01-15T10:00:00Z", "text": text,
            "data": "{\"list\":[1,{\"deep\":\"and here is a text that is rather long\"}],\"a-name-that-is-far-too-long-to-fit\":null}",
        });
        event("shop-wa", "message", key, &fields)
    };
    vec![
        message("w1", json!("Two loaves, please")),
        message("w2", json!(format!("{} {}", "unbroken".repeat(80), "many words ".repeat(80)))),
        message("w3", json!(null)),
        message(
            "a-key-that-is-as-long-as-those-of-providers-are.HBgLMTIwMjU1NTAxMDEVAgASGBQzQTdCNEMwRTdCNEMwRTdC",
            json!("مرحبا"),
        ),
        event("shop-wa", "status", "s1", &json!({"ref": "w1", "type": "read", "ts": "2025-01-15T10:01:00Z"})),
    ]
}

/// Each view, by its address and what shows that it is there.
const VIEWS: [(&str, &str); 7] = [
    ("/", "#list > li"),
    ("/?open=shop-wa%2Fw1", "#related > li"),
    ("/?open=shop-wa%2Fw2", "#conversation > li"),
    ("/?kind=any", "#list > li"),
    ("/?q=nothing", "#empty"),
    ("/?view=overview&range=all", "#bars rect[data-ts]"),
    ("/?open=shop-wa%2Fnowhere", "#detail-state:not(:empty)"),
];

/// Shows each view in turn, then the help, the form and an empty store, and has a look at each.
#[track_caller]
fn visit_each(look: impl Fn(&Visit, &str)) {
    let Some(visit) = Visit::start(&events()) else { return };
    for (target, css) in VIEWS {
        visit.open(target);
        visit.until(&format!("document.querySelector(\"{css}\") !== null"));
        visit.until("document.querySelector('#connection').textContent !== 'Connecting…'");
        look(&visit, target);
    }
    visit.open("/");
    visit.click(&row("w1"));
    visit.until_visible("#detail");
    visit.keys("?");
    visit.until_visible("#help");
    look(&visit, "the help");
    drop(visit);
    let Some(visit) = Visit::start_with(&[], &[("READ_TOKEN", "a token")]) else { return };
    visit.allow([NOT_LET_IN]);
    visit.open("/");
    visit.until_visible("#sign-in");
    look(&visit, "the form");
    visit.fill("#token", "a wrong one");
    visit.click("#sign-in button");
    visit.until_says("#sign-in-error", "wrong");
    look(&visit, "the form with an error");
    visit.fill("#token", "a token");
    visit.click("#sign-in button");
    visit.until_visible("#empty");
    look(&visit, "an empty store");
}

#[test]
fn no_view_is_wider_than_a_phone_of_320_pixels() {
    visit_each(|visit, view| {
        visit.resize(320, 640);
        expect_fits(visit, view);
        // What is opened lies over the list.
        if visit.is_visible("#filters-toggle") && !visit.is_visible("#detail") {
            visit.click("#filters-toggle");
            expect_fits(visit, &format!("{view} with all filters"));
        }
        visit.resize(1280, 800);
    });
}

#[test]
fn nothing_is_cut_off_in_letters_of_twice_the_size() {
    visit_each(|visit, view| {
        for width in [1280, 640] {
            visit.resize(width, 800);
            visit.run("document.documentElement.style.fontSize = '200%'", &[]);
            expect_fits(visit, &format!("{view} at {width}"));
        }
        visit.run("document.documentElement.style.fontSize = ''", &[]);
        visit.resize(1280, 800);
    });
}

/// Nothing reaches out of the window at its side, and no text out of what it stands in.
#[track_caller]
fn expect_fits(visit: &Visit, view: &str) {
    let too_wide = visit.value(
        "(wide => wide <= innerWidth ? [] : [wide, ...Array.from(document.querySelectorAll('body *'))\
         .filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML.slice(0, 120))])\
         (document.documentElement.scrollWidth)",
    );
    assert_eq!(too_wide, json!([]), "{view}: wider than the window");
    // A text of several lines may end after a few of them.
    let cut = visit.value(
        "Array.from(document.querySelectorAll('body *')).filter(each => each.checkVisibility() && !each.closest('.unseen, svg'))\
         .filter(each => !['INPUT', 'SELECT'].includes(each.localName.toUpperCase()))\
         .filter(each => each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0 && getComputedStyle(each).overflowX !== 'auto' \
           && getComputedStyle(each).display !== 'inline')\
         .map(each => [each.scrollWidth, each.clientWidth, each.outerHTML.slice(0, 120)])",
    );
    assert_eq!(cut, json!([]), "{view}: cut off");
}

/// axe-core, which scripts/test takes out of a package of `PyPI`; `None`, said loudly, where it did not.
#[track_caller]
fn axe() -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/axe/axe.min.js");
    let script = std::fs::read_to_string(&path).ok();
    if script.is_none() {
        skip("axe-core is missing: scripts/test downloads it");
    }
    script
}

#[test]
fn axe_core_finds_nothing_serious_in_any_view_in_light_and_in_dark() {
    let Some(axe) = axe() else { return };
    visit_each(|visit, view| {
        for scheme in ["light", "dark"] {
            visit.prefer(scheme);
            visit.run(&axe, &[]);
            let found = visit.run(
                "return axe.run(document, {resultTypes: ['violations']}).then(({violations, passes}) => [passes.length, violations
                 .filter(({impact}) => impact === 'serious' || impact === 'critical')
                 .map(({id, help, nodes}) => [id, help, ...nodes.map(({html, any}) => [html.slice(0, 200), any[0]?.message])])])",
                &[],
            );
            assert!(found[0].as_u64().is_some_and(|passes| passes > 10), "{view}: {found}");
            assert_eq!(found[1], json!([]), "{view} in {scheme}: {:#}", found[1]);
        }
        visit.prefer("light");
    });
}
