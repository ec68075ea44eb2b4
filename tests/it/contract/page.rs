//! `GET /` and what the page loads. `tests/it/page.rs` uses it in a browser.

use std::collections::BTreeSet;

use crate::support::process::Process;
use crate::support::service::Service;

/// The paths of the assets that the page names.
fn assets(html: &str) -> BTreeSet<String> {
    let words = html.split('"').filter(|word| word.starts_with("/assets/"));
    words.map(ToOwned::to_owned).collect()
}

#[test]
fn the_page_may_load_nothing_but_what_this_server_serves() {
    let service = Service::start();
    let reply = service.client().get("/");
    assert_eq!(reply.status, 200);
    let policy = reply.header("content-security-policy").unwrap();
    let rules: BTreeSet<&str> = policy.split("; ").collect();
    let expected = [
        "base-uri 'none'",
        "connect-src 'self'",
        "default-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "img-src 'self'",
        "require-trusted-types-for 'script'",
        "script-src 'self'",
        "style-src 'self'",
        "trusted-types 'none'",
    ];
    assert_eq!(rules, BTreeSet::from(expected));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
}

#[test]
fn each_asset_is_kept_by_its_name_for_ever() {
    let service = Service::start();
    let mut client = service.client();
    let assets = assets(client.get("/").text());
    let types: BTreeSet<_> = assets.iter().map(|path| path.rsplit('.').next().unwrap()).collect();
    assert_eq!(types, BTreeSet::from(["css", "js", "svg"]));
    for path in &assets {
        let reply = client.get(path);
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        let hash = path.split('.').nth(1).unwrap();
        let other = client.get(&path.replace(hash, "0123456789abcdef"));
        assert_eq!(
            (other.status, &other.body),
            (200, &reply.body),
            "another release's, while replicas are replaced"
        );
        assert_eq!(other.header("cache-control"), Some("no-store"));
    }
    assert_eq!(client.get("/assets/app.0123456789abcdef.map").line(), r#"404 {"detail":"Not Found"}"#);
}

#[test]
fn the_page_and_all_that_it_loads_are_smaller_than_60_kb() {
    let service = Service::start();
    let mut client = service.client();
    let html = client.get("/");
    let assets = assets(html.text());
    let bytes = html.body.len() + assets.iter().map(|path| client.get(path).body.len()).sum::<usize>();
    assert!(bytes < 60_000, "{bytes} bytes");
}

#[test]
fn the_page_needs_no_token_and_holds_nothing_that_does() {
    let (open, guarded) = (Service::start(), Service::builder().read_token("a-token-for-reading").start());
    assert_eq!(guarded.client().get("/").body, open.client().get("/").body);
}

#[test]
fn page_off_leaves_nothing_of_it() {
    let process = Process::builder().env("PAGE", "off").env("READ_TOKEN", "a-token-for-reading").start();
    let mut client = process.client();
    for path in ["/", "/assets/app.0123456789abcdef.js", "/session"] {
        for method in ["GET", "POST", "DELETE"] {
            let reply = client.request(method, path, &[], b"");
            // The documented route is not there.
            assert_eq!(reply.status, 404, "{method} {path}");
        }
    }
}
