//! `lyftr doctor`: why the signature of a captured request does not verify.
//!
//! Tries what commonly goes wrong, alone and two at a time, until the signature is right. Offline only: what is found here is
//! never part of an answer. No finding holds a secret or a signature.

use axum::http::HeaderMap;

use super::mac::{Hash, Key};
use super::{Provider, Refusal, Request, Settings, Verified};
use crate::config::Secret;

mod body;
mod finding;
mod header;
mod secret;
mod url;

pub use finding::Finding;

/// Bodies up to this size are tried with two changes at a time.
const PAIRS_BODY_MAX: usize = 256 << 10;

/// What is known of a captured request.
#[derive(Debug, Clone)]
pub struct Diagnosis {
    /// How the source judges it.
    pub verdict: Result<Verified, Refusal>,
    /// Why, as far as can be told; empty for a request that is right, and for one that nothing explains.
    pub findings: Vec<Finding>,
}

/// A change to the source or to the request that would make the signature right.
#[derive(Debug, Clone)]
struct Change {
    what: What,
    finding: Finding,
}

#[derive(Debug, Clone)]
enum What {
    /// Another value for the secret of this place.
    Secret(usize, Vec<u8>),
    Body(Vec<u8>),
    /// Other headers.
    Headers(HeaderMap),
    Hash(Hash),
    /// Another address of the outside, and another request target.
    Url(String, String),
}

/// Finds out why a request is refused, at the time `now` in Unix seconds.
pub fn examine(settings: &Settings, request: &Request<'_>, now: i64) -> Diagnosis {
    let verdict = settings.judge(request, now);
    let findings = match &verdict {
        Ok(_) => Vec::new(),
        Err(Refusal::TimestampOutOfRange) => clock(settings, request, now),
        Err(Refusal::BodyHash) => vec![url::body_hash(request)],
        Err(Refusal::MissingHeader | Refusal::DuplicateHeader) => header::unfit(settings, request),
        Err(Refusal::MalformedHeader | Refusal::NoMatch) => {
            let found = search(settings, request, now);
            if found.is_empty() { unexplained(settings, request) } else { found }
        }
    };
    Diagnosis { verdict, findings }
}

/// What is known where no change makes the signature right.
fn unexplained(settings: &Settings, request: &Request<'_>) -> Vec<Finding> {
    if settings.present(request).is_err() {
        // One that gives the header its form at least.
        let fits = |change: &Change| match &change.what {
            What::Headers(headers) => settings.present(&Request { headers, ..*request }).is_ok(),
            _ => false,
        };
        return match header::changes(settings, request).into_iter().find(fits) {
            Some(change) => vec![change.finding, Finding::OtherSecretOrBody],
            None => header::unfit(settings, request),
        };
    }
    let mut findings = header::unfit(settings, request);
    if findings.is_empty() {
        findings.push(Finding::OtherSecretOrBody);
    }
    findings
}

fn clock(settings: &Settings, request: &Request<'_>, now: i64) -> Vec<Finding> {
    let signed_at = settings.present(request).ok().and_then(|presented| presented.timestamp);
    let behind = signed_at.map(|(_, signed_at)| now.saturating_sub(signed_at));
    let tolerance_secs = settings.scheme.tolerance_secs;
    behind.into_iter().map(|behind| Finding::Clock { behind, tolerance_secs }).collect()
}

/// The changes that make the signature right: one, else two.
fn search(settings: &Settings, request: &Request<'_>, now: i64) -> Vec<Finding> {
    let mut changes = header::changes(settings, request);
    changes.extend(hashes(settings));
    changes.extend(secret::changes(settings));
    changes.extend(url::changes(settings, request));
    changes.extend(body::changes(settings, request));
    let findings = |changes: &[&Change]| {
        let is_stale = attempt(settings, request, changes, now)?;
        let mut findings: Vec<_> = changes.iter().map(|change| change.finding.clone()).collect();
        if is_stale {
            findings.extend(clock(settings, request, now));
        }
        Some(findings)
    };
    if let Some(found) = changes.iter().find_map(|change| findings(&[change])) {
        return found;
    }
    if request.body.len() > PAIRS_BODY_MAX {
        return Vec::new();
    }
    let pairs = changes.iter().enumerate().flat_map(|(nth, one)| {
        let others = changes.iter().skip(nth + 1);
        others.filter(|other| other.what.place() != one.what.place()).map(move |other| [one, other])
    });
    pairs.into_iter().find_map(|pair| findings(&pair)).unwrap_or_default()
}

/// Whether the signature is right after some changes: `Some(true)` if only its time is not.
fn attempt(settings: &Settings, request: &Request<'_>, changes: &[&Change], now: i64) -> Option<bool> {
    let (mut settings, mut request) = (settings.clone(), *request);
    for change in changes {
        match &change.what {
            What::Secret(nth, bytes) => {
                settings.secrets.get_mut(*nth)?.key = Key::Shared(Secret::new(bytes.clone()));
            }
            What::Body(body) => request.body = body,
            What::Headers(headers) => request.headers = headers,
            What::Hash(hash) => settings.scheme.hash = *hash,
            What::Url(public_url, target) => {
                settings.public_url = Some(public_url.clone());
                request.target = target;
            }
        }
    }
    match settings.judge(&request, now) {
        // The hash of a body stands in the address that was found to be right.
        Ok(_) | Err(Refusal::BodyHash) => Some(false),
        Err(Refusal::TimestampOutOfRange) => Some(true),
        Err(_) => None,
    }
}

impl What {
    /// What it changes; two changes of one place exclude each other.
    fn place(&self) -> u8 {
        match self {
            Self::Secret(..) => 0,
            Self::Body(_) => 1,
            Self::Headers(_) => 2,
            Self::Hash(_) => 3,
            Self::Url(..) => 4,
        }
    }
}

/// The hashes that the source may have been meant to name.
fn hashes(settings: &Settings) -> Vec<Change> {
    let others = [Hash::Sha256, Hash::Sha512, Hash::Sha1].into_iter();
    let others = others.filter(|hash| settings.provider == Provider::Hmac && *hash != settings.scheme.hash);
    others.map(|hash| Change { what: What::Hash(hash), finding: Finding::Hash(hash) }).collect()
}
