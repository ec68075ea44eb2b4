//! The pictures in docs/pictures: the main views, with the inbox of a shop that does not exist. `scripts/pictures` makes them.

use std::path::Path;

use serde_json::json;

use super::{Visit, row};
use crate::support::browser::Browser;

mod shop;

/// The instant at which all pictures are taken, a Friday afternoon.
const NOW: &str = "2026-11-27T15:42:10Z";
/// Where the reader is.
const ZONE: &str = "Europe/Paris";

/// The clock of every page from now on stands still at [`NOW`], in [`ZONE`].
fn stop_the_clock(browser: &Browser) {
    let script = format!(
        "{{ const now = Date.parse('{NOW}'), Real = Date;
           globalThis.Date = class extends Real {{
             constructor(...parts) {{ super(...(parts.length ? parts : [now])); }}
             static now() {{ return now; }}
           }}; }}"
    );
    browser.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({"source": script}));
    browser.devtools("Emulation.setTimezoneOverride", &json!({"timezoneId": ZONE}));
}

/// Writes over what would be another value with each run.
#[track_caller]
fn pin(visit: &Visit, css: &str, text: &str) {
    let script = "let element = document.querySelector(arguments[0]);
                  while (element.firstElementChild) element = element.firstElementChild;
                  element.textContent = arguments[1]";
    visit.run(script, &[css.into(), text.into()]);
}

/// Takes a picture of the view, which has the focus nowhere.
#[track_caller]
fn take(visit: &Visit, name: &str) {
    visit.run("document.activeElement.blur(); return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))", &[]);
    let picture = visit.picture();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{name}.png")), picture).unwrap();
}

/// Opens the message, and scrolls to the end of its conversation.
#[track_caller]
fn open_the_conversation(visit: &Visit) {
    visit.open("/");
    visit.click(&row(shop::OPENED));
    visit.until_visible("#related > li");
    visit.until_visible("#conversation [aria-current]");
    visit.until_says("#connection", "Live");
    visit.run("document.querySelector('#conversation').parentElement.scrollIntoView({block: 'end'})", &[]);
    // Each store draws a name of its own, which is in each position.
    pin(visit, "#fields [data-field='position']", "0000000000000d97bc83cf3f66884168");
}

#[test]
#[ignore = "it writes into docs/pictures; scripts/pictures runs it"]
fn the_pictures_of_the_main_views_are_made() {
    let Some(visit) = Visit::start(&shop::events()) else { return };
    let mut client = visit.client();
    for (name, count) in [("billing", 0), ("crm", 3)] {
        let page = client.json(&format!("/events?before=now&limit={}", count + 1));
        let position =
            page["data"].as_array().and_then(|events| events.last()).expect("an event")["position"].clone();
        let body = json!({"position": position}).to_string();
        let target = format!("/cursors/{name}");
        assert_eq!(client.request("PUT", &target, &[("If-None-Match", "*")], body.as_bytes()).status, 200);
    }
    stop_the_clock(&visit);
    for scheme in ["light", "dark"] {
        visit.prefer(scheme);
        visit.resize(1280, 800);
        open_the_conversation(&visit);
        take(&visit, &format!("inbox-{scheme}"));
        visit.open("/?view=overview&range=week");
        visit.until("document.querySelectorAll('#bars rect[data-ts]').length > 20");
        visit.until_visible("#service [data-state='disk']");
        pin(&visit, "#service [data-state='disk']", "182.3 GB");
        take(&visit, &format!("overview-{scheme}"));
    }
    visit.prefer("light");
    visit.resize(390, 780);
    visit.open("/");
    visit.until_visible(&row(shop::OPENED));
    visit.until_says("#connection", "Live");
    take(&visit, "phone-inbox");
    open_the_conversation(&visit);
    take(&visit, "phone-conversation");
}
