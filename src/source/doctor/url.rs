//! What can be wrong with the address that Twilio signs.

use super::super::form::Form;
use super::super::{Request, Settings};
use super::finding::UrlFlaw;
use super::{Change, Finding, What};

/// Why the hash in a signed address does not cover the body.
pub(super) fn body_hash(request: &Request<'_>) -> Finding {
    let query = Form::of_target(request.target);
    let has_hash = query.is_some_and(|query| query.only("bodySHA256") != Ok(None));
    if has_hash { Finding::OtherBodyHash } else { Finding::NoBodyHash }
}

/// Other addresses that may have been meant.
pub(super) fn changes(settings: &Settings, request: &Request<'_>) -> Vec<Change> {
    let Some(public_url) = &settings.public_url else { return Vec::new() };
    let base = public_url.trim_end_matches('/');
    let target = request.target;
    let mut changes = Vec::new();
    let mut push = |base: &str, target: &str, flaw| {
        let what = What::Url(base.to_owned(), target.to_owned());
        changes.push(Change { what, finding: Finding::Url(flaw) });
    };
    let (scheme, rest) = base.split_once("://").unwrap_or(("https", base));
    push(&format!("{}://{rest}", if scheme == "https" { "http" } else { "https" }), target, UrlFlaw::Scheme);
    if let Some((host, _)) = rest.split_once('/') {
        push(&format!("{scheme}://{host}"), target, UrlFlaw::Path);
    }
    if let Some(host) = request.header("host") {
        push(&format!("{scheme}://{host}"), target, UrlFlaw::Host);
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let slashed = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
    if query.is_empty() {
        push(base, &slashed, UrlFlaw::Slash);
        return changes;
    }
    push(base, path, UrlFlaw::NoQuery);
    push(base, &format!("{slashed}?{query}"), UrlFlaw::Slash);
    let mut parameters: Vec<_> = query.split('&').collect();
    parameters.reverse();
    push(base, &format!("{path}?{}", parameters.join("&")), UrlFlaw::QueryOrder);
    parameters.sort_unstable();
    push(base, &format!("{path}?{}", parameters.join("&")), UrlFlaw::QueryOrder);
    changes
}
