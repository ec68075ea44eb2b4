//! Verification: whether a request was signed with one of the secrets of its source.

use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue};

use super::mac::{Key, Signature};
use super::scheme::{Form, Headers, Part};
use super::{Request, Settings, Verified, time, twilio};

/// Maximum number of signatures that a header may hold: whoever changes a key sends two. One of Ed25519 costs as much as some
/// hundred requests do otherwise.
const SIGNATURES_MAX: usize = 8;

/// Why a request is refused. The client does not learn which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.label())]
pub enum Refusal {
    /// A header that the scheme needs is absent.
    MissingHeader,
    /// A header that the scheme needs stands more than once.
    DuplicateHeader,
    /// A header has another form than the scheme's.
    MalformedHeader,
    /// No secret made the signature.
    NoMatch,
    /// The signature is right, and the signed time too far from Lyftr's clock.
    TimestampOutOfRange,
    /// The signature is right and does not cover this body.
    BodyHash,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::MissingHeader,
        Self::DuplicateHeader,
        Self::MalformedHeader,
        Self::NoMatch,
        Self::TimestampOutOfRange,
        Self::BodyHash,
    ];

    /// The word for it in metrics and log lines.
    pub fn label(self) -> &'static str {
        match self {
            Self::MissingHeader => "missing_header",
            Self::DuplicateHeader => "duplicate_header",
            Self::MalformedHeader => "malformed_header",
            Self::NoMatch => "no_match",
            Self::TimestampOutOfRange => "timestamp_out_of_range",
            Self::BodyHash => "body_hash",
        }
    }
}

/// What the headers of a request present, before its body is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    pub(super) signatures: Vec<Signature>,
    /// The time as it was sent, and what it means.
    pub(super) timestamp: Option<(Vec<u8>, i64)>,
    pub(super) id: Option<Vec<u8>>,
    /// Twilio's newer scheme: which secret signs, and with which hash.
    pub(super) settings: Option<twilio::SignatureSettings>,
}

/// Reads the headers.
///
/// # Errors
/// [`Refusal`] if one is absent, stands twice or has another form.
pub(super) fn presented(settings: &Settings, request: &Request<'_>) -> Result<Presented, Refusal> {
    let families = settings.scheme.headers.iter().map(|family| of_family(settings, family, request));
    let mut there = families.skip_while(|found| *found == Err(Refusal::MissingHeader));
    there.next().unwrap_or(Err(Refusal::MissingHeader))
}

fn of_family(settings: &Settings, family: &Headers, request: &Request<'_>) -> Result<Presented, Refusal> {
    let value = only(request, &family.signature)?;
    let timestamp = family.timestamp.as_ref().map(|name| only(request, name)).transpose()?;
    let id = family.id.as_ref().map(|name| only(request, name)).transpose()?;
    let (signature_settings, hash) = match twilio::signature_settings(settings, request)? {
        Some((given, hash)) => (Some(given), hash),
        None => (None, settings.scheme.hash),
    };
    let encoding = settings.scheme.encoding;
    let digest = |text: &[u8]| encoding.decode(text, hash.length()).map(Signature::Digest);
    let (signatures, own_time) = match &settings.scheme.form {
        Form::One { prefix } => {
            let text = value.as_bytes().strip_prefix(prefix.as_bytes()).ok_or(Refusal::MalformedHeader)?;
            (vec![digest(text).ok_or(Refusal::MalformedHeader)?], None)
        }
        Form::Versions => (versions(value.as_bytes(), digest)?, None),
        Form::Pairs => pairs(value.as_bytes(), digest)?,
    };
    if signatures.len() > SIGNATURES_MAX {
        return Err(Refusal::MalformedHeader);
    }
    let timestamp = timestamp.map(HeaderValue::as_bytes).or(own_time).map(|text| {
        time::seconds(text).map(|seconds| (text.to_vec(), seconds)).ok_or(Refusal::MalformedHeader)
    });
    // A dot would let a part of the id be taken for the time.
    let is_plain = |id: &&HeaderValue| !id.is_empty() && !id.as_bytes().contains(&b'.');
    let id = id.map(|id| Some(id).filter(is_plain).ok_or(Refusal::MalformedHeader)).transpose()?;
    Ok(Presented {
        signatures,
        timestamp: timestamp.transpose()?,
        id: id.map(|id| id.as_bytes().to_vec()),
        settings: signature_settings,
    })
}

/// The one value of a header.
pub(super) fn only<'a>(request: &Request<'a>, name: &HeaderName) -> Result<&'a HeaderValue, Refusal> {
    let mut values = request.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Refusal::MissingHeader),
        _ => Err(Refusal::DuplicateHeader),
    }
}

/// The signatures of `v1,… v1a,…`. One that cannot be decoded is one that nobody made.
fn versions(value: &[u8], digest: impl Fn(&[u8]) -> Option<Signature>) -> Result<Vec<Signature>, Refusal> {
    let mut signatures = Vec::new();
    let mut is_known = false;
    for entry in value.split(|byte| *byte == b' ') {
        let found = if let Some(text) = entry.strip_prefix(b"v1,") {
            digest(text)
        } else if let Some(text) = entry.strip_prefix(b"v1a,") {
            super::mac::base64(text).filter(|bytes| bytes.len() == 64).map(Signature::Ed25519)
        } else {
            continue;
        };
        is_known = true;
        signatures.extend(found);
    }
    if is_known { Ok(signatures) } else { Err(Refusal::MalformedHeader) }
}

type Pairs<'a> = (Vec<Signature>, Option<&'a [u8]>);

/// The signatures and the time of `t=…,v1=…`.
fn pairs(value: &[u8], digest: impl Fn(&[u8]) -> Option<Signature>) -> Result<Pairs<'_>, Refusal> {
    let (mut signatures, mut time) = (Vec::new(), None);
    for pair in value.split(|byte| *byte == b',') {
        let pair = pair.trim_ascii();
        if let Some(text) = pair.strip_prefix(b"v1=") {
            signatures.push(digest(text).ok_or(Refusal::MalformedHeader)?);
        } else if let Some(text) = pair.strip_prefix(b"t=") {
            // Which of two times is signed must not be guessed.
            if time.replace(text).is_some() {
                return Err(Refusal::MalformedHeader);
            }
        }
    }
    if signatures.is_empty() || time.is_none() {
        Err(Refusal::MalformedHeader)
    } else {
        Ok((signatures, time))
    }
}

/// Judges a request: every secret is tried, whichever is right, and the first that is right counts.
///
/// # Errors
/// [`Refusal`] if none made the signature, or it is too old, or does not cover the body.
pub(super) fn verify(
    settings: &Settings,
    presented: &Presented,
    request: &Request<'_>,
    now: i64,
) -> Result<Verified, Refusal> {
    let form = twilio::signed_fields(settings, request)?;
    let hash = presented.settings.as_ref().map_or(settings.scheme.hash, |_| twilio::NEWER_HASH);
    let mut verified = None;
    for url in twilio::urls(settings, request) {
        let parts = content(settings, presented, request, &url, &form);
        for (nth, secret) in settings.secrets.iter().enumerate() {
            let is_meant = presented.settings.as_ref().is_none_or(|given| given.key == secret.name);
            // A secret that is not meant is tried too, so that the time does not tell the names of secrets.
            let matches = secret.key.verifies(hash, &parts, &presented.signatures) & is_meant;
            if matches && verified.is_none_or(|best| nth < best) {
                verified = Some(nth);
            }
        }
    }
    let secret = verified.ok_or(Refusal::NoMatch)?;
    if let Some((_, signed_at)) = presented.timestamp
        && now.abs_diff(signed_at) > settings.scheme.tolerance_secs
    {
        return Err(Refusal::TimestampOutOfRange);
    }
    twilio::check_body_hash(settings, request)?;
    let signed_at = presented.timestamp.as_ref().map(|(_, seconds)| *seconds);
    let signed_id = presented.id.as_ref().map(|id| String::from_utf8_lossy(id).into_owned());
    Ok(Verified { secret, signed_at, signed_id })
}

/// The parts of the signed content.
pub(super) fn content<'a>(
    settings: &'a Settings,
    presented: &'a Presented,
    request: &Request<'a>,
    url: &'a str,
    form: &'a super::form::Form,
) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    for part in &settings.scheme.signed.0 {
        match part {
            Part::Literal(text) => parts.push(text.as_bytes()),
            Part::Id => parts.push(presented.id.as_deref().unwrap_or_default()),
            Part::Timestamp => {
                parts.push(presented.timestamp.as_ref().map_or(&[][..], |(text, _)| text.as_slice()));
            }
            Part::Body => parts.push(request.body),
            Part::Url => parts.push(url.as_bytes()),
            Part::Form => parts.extend(form.sorted()),
        }
    }
    parts
}

impl Request<'_> {
    /// The value of a header that is not signed, if it stands there exactly once.
    pub(super) fn header(&self, name: &'static str) -> Option<Cow<'_, str>> {
        let value = only(self, &HeaderName::from_static(name)).ok()?;
        Some(String::from_utf8_lossy(value.as_bytes()))
    }
}

impl Key {
    /// Whether it is a public key.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Public(_))
    }
}
