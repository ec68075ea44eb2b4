//! What can be wrong with the headers.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::super::mac::{Encoding, base64};
use super::super::scheme::{Form, Headers};
use super::super::verify::only;
use super::super::{Refusal, Request, Settings};
use super::{Change, Finding, What};

/// Headers that are not looked at, and those that count in their place.
const OLDER: [(&str, &str); 2] =
    [("x-hub-signature-256", "X-Hub-Signature"), ("webhook-signature", "Svix-Signature")];

/// What is wrong with the headers as they stand.
pub(super) fn unfit(settings: &Settings, request: &Request<'_>) -> Vec<Finding> {
    let missing =
        |family: &&Headers| names(family).filter(|name| !request.headers.contains_key(*name)).count();
    // Of several families the one that lacks least.
    let Some(family) = settings.scheme.headers.iter().min_by_key(missing) else { return Vec::new() };
    let mut findings: Vec<_> = names(family)
        .filter_map(|name| match only(request, name) {
            Ok(_) => None,
            Err(Refusal::DuplicateHeader) => Some(Finding::Repeated(name.to_string())),
            Err(_) => Some(absent(name, request)),
        })
        .collect();
    if findings.is_empty() && settings.present(request) == Err(Refusal::MalformedHeader) {
        let time = family.timestamp.as_ref().and_then(|name| request.headers.get(name));
        let is_millis =
            time.is_some_and(|time| time.len() == 13 && time.as_bytes().iter().all(u8::is_ascii_digit));
        findings.push(if is_millis {
            Finding::Milliseconds
        } else {
            Finding::Form(family.signature.to_string())
        });
    }
    if let Ok(presented) = settings.present(request)
        && let Some(given) = presented.settings
        && settings.secrets.iter().all(|secret| secret.name != given.key)
    {
        findings.push(Finding::UnknownKey);
    }
    findings
}

fn absent(name: &HeaderName, request: &Request<'_>) -> Finding {
    let older =
        OLDER.iter().find(|(needed, older)| *needed == name.as_str() && request.headers.contains_key(*older));
    match older {
        Some((_, found)) => Finding::OnlyOlder { needed: name.to_string(), found },
        None => Finding::Absent(name.to_string()),
    }
}

fn names(family: &Headers) -> impl Iterator<Item = &HeaderName> {
    [Some(&family.signature), family.timestamp.as_ref(), family.id.as_ref()].into_iter().flatten()
}

/// Other forms of the signature that may have been meant.
pub(super) fn changes(settings: &Settings, request: &Request<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for family in &settings.scheme.headers {
        let Ok(value) = only(request, &family.signature) else { continue };
        let Ok(value) = value.to_str() else { continue };
        for (other, finding) in values(settings, value) {
            let Ok(other) = HeaderValue::from_str(&other) else { continue };
            let mut headers: HeaderMap = request.headers.clone();
            headers.insert(&family.signature, other);
            changes.push(Change { what: What::Headers(headers), finding });
        }
    }
    changes
}

/// Other values of the header, each with what would then be wrong.
fn values(settings: &Settings, value: &str) -> Vec<(String, Finding)> {
    let scheme = &settings.scheme;
    let mut values = Vec::new();
    let plain = value.replace('-', "+").replace('_', "/");
    if scheme.encoding == Encoding::Base64 && plain != value {
        values.push((plain, Finding::UrlSafeBase64));
    }
    let Form::One { prefix } = &scheme.form else { return values };
    let bare = value.strip_prefix(prefix.as_str());
    let text = bare.unwrap_or(value);
    if bare.is_none() {
        values.push((format!("{prefix}{text}"), Finding::NoPrefix(prefix.clone())));
    }
    for mark in ['=', ' ', ','] {
        if let Some((_, text)) = value.split_once(mark).filter(|(_, text)| text.len() >= 20) {
            values.push((format!("{prefix}{text}"), Finding::OtherPrefix));
        }
    }
    let length = text.len() / 2;
    match scheme.encoding {
        Encoding::Base64 => {
            let bytes = Encoding::Hex.decode(text.as_bytes(), length);
            values.extend(bytes.map(|bytes| {
                (format!("{prefix}{}", Encoding::Base64.encode(&bytes)), Finding::HexForBase64)
            }));
        }
        Encoding::Hex => {
            let bytes = base64(text.as_bytes());
            values.extend(
                bytes.map(|bytes| {
                    (format!("{prefix}{}", Encoding::Hex.encode(&bytes)), Finding::Base64ForHex)
                }),
            );
        }
    }
    values
}
