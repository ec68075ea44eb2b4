//! The browser of these tests: what it would overlook, they would.

use crate::support::browser::{Browser, TIME_ZONE, key};

#[test]
fn an_error_in_the_console_or_a_violation_of_the_policy_does_not_go_unnoticed() {
    let Some(browser) = Browser::start() else { return };
    for (page, words) in [
        ("<script>console.error('oh no')</script>", "oh no"),
        ("<script>null.x</script>", "Uncaught TypeError"),
        ("<script>Promise.reject(new Error('lost'))</script>", "lost"),
        (
            "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\"><p style='color:red'>",
            "Content Security Policy",
        ),
        (
            "<meta http-equiv=Content-Security-Policy content=\"require-trusted-types-for 'script'\"><p><script>\
             document.querySelector('p').innerHTML = 'x'</script>",
            "TrustedHTML",
        ),
    ] {
        browser.go(&format!("data:text/html,{page}"));
        browser.until("document.readyState == 'complete'");
        let errors = browser.errors();
        assert!(errors.len() == 1 && errors[0].contains(words), "{page}: {errors:?}");
        browser.allow([words]);
        assert_eq!(browser.errors(), [""; 0], "{page}");
    }
}

#[test]
fn a_browser_has_a_zone_a_language_a_size_and_colours_of_its_own() {
    let Some(browser) = Browser::start() else { return };
    browser.go("data:text/html,<title>one</title><input id=i><p hidden>x");
    browser.until_equal("Intl.DateTimeFormat().resolvedOptions().timeZone", TIME_ZONE);
    browser.until_equal("navigator.languages", vec!["en-US", "en"]);
    browser.until_equal("[innerWidth, innerHeight]", vec![1280, 800]);
    let is_dark = "matchMedia('(prefers-color-scheme: dark)').matches";
    browser.until_equal(is_dark, false);
    browser.prefer("dark");
    browser.until_equal(is_dark, true);
    browser.go("data:text/html,<title>two</title><input id=i><p hidden>x");
    browser.until_equal(is_dark, true);
    assert!(browser.is_visible("#i") && !browser.is_visible("p") && !browser.is_visible("table"));
    browser.fill("#i", "first");
    browser.fill("#i", "second");
    browser.keys(key::BACKSPACE);
    browser.until_equal("i.value", "secon");
    browser.back();
    browser.until_equal("document.title", "one");
    assert_eq!(&browser.picture()[..4], b"\x89PNG");
}
