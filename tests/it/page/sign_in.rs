//! Signing in and out, where there is a read token.

use serde_json::json;

use super::{NO_SERVER, NOT_LET_IN, Visit, event, row};
use crate::support::browser::key;
use crate::support::message;

const TOKEN: &str = "the read token of these tests";

/// A Lyftr that shows its two messages to those who have the token.
#[track_caller]
fn guarded() -> Option<Visit> {
    let message = |key: &str, text: &str| {
        let ts = "2025-01-15T10:00:00Z";
        event("webhook", "message", key, &json!({"from": "+1", "to": "+2", "ts": ts, "text": text}))
    };
    let visit =
        Visit::start_with(&[message("m1", "milk"), message("m2", "bread")], &[("READ_TOKEN", TOKEN)])?;
    visit.allow([NOT_LET_IN]);
    Some(visit)
}

#[track_caller]
fn sign_in(visit: &Visit, token: &str) {
    visit.until_visible("#sign-in");
    visit.fill("#token", token);
    visit.keys(key::ENTER);
}

#[test]
fn the_form_refuses_a_wrong_token_and_for_the_right_one_shows_what_the_address_names() {
    let Some(visit) = guarded() else { return };
    visit.open("/?q=milk");
    visit.until_visible("#sign-in");
    visit.mark();
    sign_in(&visit, "a wrong one");
    visit.until_says("#sign-in-error", "wrong read token");
    assert!(visit.is_visible("#sign-in") && !visit.is_visible("#list") && !visit.is_visible("#sign-out"));
    assert_eq!((visit.count("#list > li"), visit.cookies().len()), (0, 0));
    sign_in(&visit, TOKEN);
    visit.until_rows(&["m1"]);
    visit.until_hidden("#sign-in");
    visit.until_visible("#sign-out");
    visit.until_place("/?q=milk");
    visit.expect_mark();
    visit.open("/");
    visit.until_rows(&["m2", "m1"]);
    visit.until_visible("#sign-out");
}

#[test]
fn the_session_is_a_cookie_that_no_script_can_read_and_the_token_is_kept_nowhere() {
    let Some(visit) = guarded() else { return };
    visit.open("/");
    sign_in(&visit, TOKEN);
    visit.until_rows(&["m2", "m1"]);
    let cookies = visit.cookies();
    let [cookie] = &cookies[..] else { panic!("{cookies:?}") };
    // Over plain HTTP on this machine a secure cookie would do nothing.
    for (attribute, value) in [
        ("httpOnly", json!(true)),
        ("sameSite", json!("Strict")),
        ("secure", json!(false)),
        ("path", json!("/")),
    ] {
        assert_eq!(cookie[attribute], value, "{attribute} of {cookie}");
    }
    let hours = visit.run("return (arguments[0] - Date.now() / 1000) / 3600", &[cookie["expiry"].clone()]);
    assert!(hours.as_f64().is_some_and(|hours| (11.0..=12.0).contains(&hours)), "{hours}");
    let kept = visit
        .value("[document.cookie, localStorage.length, sessionStorage.length, history.state, token.value]");
    assert_eq!(kept, json!(["", 0, 0, null, ""]));
    let all = format!("{} {} {}", visit.url(), cookie, visit.value("document.documentElement.outerHTML"));
    assert!(!all.contains(TOKEN), "{all}");
}

#[test]
fn signing_out_leaves_nothing_of_the_messages_in_the_document() {
    let Some(visit) = guarded() else { return };
    visit.open("/?open=webhook%2Fm1");
    sign_in(&visit, TOKEN);
    visit.until_says("#fields [data-field='text']", "milk");
    visit.click("#sign-out");
    visit.until_visible("#sign-in");
    visit.until_hidden("#sign-out");
    assert_eq!(visit.cookies(), [""; 0]);
    let document = visit.content("body");
    assert!(!document.contains("milk") && !document.contains("bread"), "{document}");
    visit.reload();
    visit.until_visible("#sign-in");
    assert_eq!(visit.count("#list > li"), 0);
}

#[test]
fn a_session_ends_when_the_token_changes_and_the_form_comes_by_itself() {
    let Some(mut visit) = guarded() else { return };
    visit.allow(NO_SERVER);
    visit.open("/?from=%2B1&open=webhook%2Fm1");
    sign_in(&visit, TOKEN);
    visit.until_says("#connection", "Live");
    visit.mark();
    visit.go_down();
    visit.builder = visit.builder.clone().env("READ_TOKEN", "another token");
    visit.come_up();
    visit.until_visible("#sign-in");
    visit.until_hidden("#list");
    sign_in(&visit, TOKEN);
    visit.until_says("#sign-in-error", "wrong read token");
    sign_in(&visit, "another token");
    visit.until_rows(&["m2", "m1"]);
    visit.until_says("#fields [data-field='text']", "milk");
    visit.until_place("/?from=%2B1&open=webhook%2Fm1");
    visit.until_says("#connection", "Live");
    visit.expect_mark();
}

#[test]
fn a_session_outlives_a_restart_with_the_same_token() {
    let Some(mut visit) = guarded() else { return };
    visit.open("/");
    sign_in(&visit, TOKEN);
    visit.until_rows(&["m2", "m1"]);
    visit.go("about:blank");
    visit.go_down();
    visit.come_up();
    visit.open("/");
    visit.until_rows(&["m2", "m1"]);
    assert!(!visit.is_visible("#sign-in"));
}

#[test]
fn without_a_read_token_there_is_nothing_to_sign_in_to() {
    let Some(visit) = Visit::start(&[]) else { return };
    visit.open("/");
    visit.until_visible("#empty");
    assert!(!visit.is_visible("#sign-in") && !visit.is_visible("#sign-out"));
    visit.client().store(&message("m1"));
    visit.until_visible(&row("m1"));
    assert!(!visit.is_visible("#sign-out"));
}

#[test]
fn a_form_that_is_asked_to_wait_says_so_in_the_words_of_the_service() {
    let Some(visit) = guarded() else { return };
    visit.open("/");
    visit.until_visible("#sign-in");
    // It takes a crowd that guesses, and luck, to be answered so.
    visit.run(
        "window.fetch = async () => new Response('{\"detail\":\"too many wrong tokens are being tried\"}', \
         {status: 429, headers: {'Retry-After': '5', 'Content-Type': 'application/json'}})",
        &[],
    );
    sign_in(&visit, TOKEN);
    visit.until_says("#sign-in-error", "too many wrong tokens are being tried");
    assert!(visit.is_visible("#sign-in"));
}
