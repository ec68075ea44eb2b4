//! What the first view costs, what an empty Lyftr says, and what the page is made of.

use std::path::Path;

use serde_json::json;

use super::{Visit, event, row};
use crate::support::process::Process;
use crate::support::{eventually, message};

/// A file of the page.
#[track_caller]
fn asset(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_page_is_small_and_has_no_way_to_take_a_text_for_markup() {
    let files = ["index.html", "app.css", "app.js", "icon.svg"].map(asset);
    let size: usize = files.iter().map(String::len).sum();
    assert!(size < 60_000, "{size} bytes");
    let [html, css, script, icon] = files;
    for way in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "createContextualFragment",
        "DOMParser",
        "setHTML",
        "parseHTML",
        "srcdoc",
        "eval(",
        "new Function",
        "import(",
        "localStorage",
        "sessionStorage",
        "'style'",
        "javascript:",
    ] {
        assert!(!script.contains(way), "{way} in app.js");
    }
    for text in [&html, &css, &icon] {
        assert!(!text.contains("://") || text == &icon, "the page needs no other server");
    }
    let lower = html.to_ascii_lowercase();
    assert!(
        !lower.contains("<style") && !lower.contains("style=") && !lower.contains("javascript:"),
        "{html}"
    );
    let handler = lower.split_ascii_whitespace().find(|word| word.starts_with("on") && word.contains('='));
    assert_eq!(handler, None, "no inline handler");
    for tag in lower.split("<script").skip(1) {
        let (attributes, rest) = tag.split_once('>').unwrap();
        assert!(
            attributes.contains("src=\"/assets/app.js\"") && rest.starts_with("</script>"),
            "no inline script"
        );
    }
    for path in ["/assets/app.css", "/assets/app.js", "/assets/icon.svg"] {
        assert_eq!(html.matches(path).count(), 1, "{path}");
        assert!(!script.contains("/assets/") && !css.contains("/assets/"));
    }
}

#[test]
fn the_first_view_costs_three_requests_for_data_and_one_round_for_the_files() {
    let fields = json!({"from": "+1", "to": "+2", "ts": "2025-01-15T10:00:00Z", "text": "Hello"});
    let image = json!({"from": "+1", "to": "+2", "ts": "2025-01-15T09:00:00Z", "type": "image"});
    let events = [event("webhook", "message", "m1", &fields), event("shop-wa", "message", "w1", &image)];
    let Some(visit) = Visit::start(&events) else { return };
    visit.open("/");
    visit.until_visible(&row("m1"));
    visit.until_says("#connection", "Live");
    // What the page has asked by now is answered before this.
    assert_eq!(visit.run("return fetch('/health/live').then(({status}) => status)", &[]), 200);
    // A stream has its line when it ends.
    visit.go("about:blank");
    let paths = eventually("the lines of all requests", || {
        let lines = visit.server().log_values();
        let paths: Vec<_> = lines.iter().filter_map(|line| Some(line["path"].as_str()?.to_owned())).collect();
        (paths.iter().filter(|path| *path == "/events").count() >= 2).then_some(paths)
    });
    let is_file = |path: &&String| *path == "/" || path.starts_with("/assets/");
    let (files, data): (Vec<_>, Vec<_>) =
        paths.iter().filter(|path| *path != "/health/live").partition(is_file);
    assert!(files.len() <= 4, "{files:?}");
    assert_eq!(data.len(), 3, "{data:?}");
    // The second time the files come out of the browser's cache.
    visit.open("/");
    visit.until_visible(&row("m1"));
    let cached = visit.value(
        "performance.getEntriesByType('resource').filter(({name}) => name.includes('/assets/') && !name.includes('icon'))\
         .map(({transferSize}) => transferSize)",
    );
    assert_eq!(cached, json!([0, 0]));
}

#[test]
fn an_empty_lyftr_says_how_to_send_to_it_and_shows_the_first_message_by_itself() {
    let Some(visit) = Visit::start(&[]) else { return };
    visit.open("/");
    visit.until_visible("#empty");
    let text = visit.text("#empty");
    assert!(text.contains("export WEBHOOK_SECRET="), "{text}");
    assert!(text.contains(&format!("lyftr send --url {} --text", visit.origin())), "{text}");
    visit.until_says("#connection", "Live");
    visit.mark();
    visit.client().store(&message("m1"));
    visit.until_visible(&row("m1"));
    visit.until_hidden("#empty");
    visit.until_says("#announce", "1 message");
    visit.expect_mark();
    visit.fill("#f-q", "nothing that anybody wrote");
    visit.until_says("#empty", "Nothing matches");
    assert!(!visit.text("#empty").contains("lyftr send"));
    visit.click("#empty button");
    visit.until_rows(&["m1"]);
    visit.until_place("/");
}

#[test]
fn a_service_that_is_told_so_has_no_page() {
    let server = Process::builder().env("PAGE", "off").start();
    let mut client = server.client();
    for target in ["/", "/assets/app.js"] {
        assert_eq!(client.get(target).line(), r#"404 {"detail":"Not Found"}"#, "{target}");
    }
    client.store(&message("m1"));
    assert_eq!(client.json("/messages")["total"], 1);
}
