//! Signing a request as the provider of a source would, for `lyftr send` and for tests.

use axum::http::{HeaderName, HeaderValue};

use super::mac::Key;
use super::scheme::{Form, Part};
use super::verify::{Presented, content};
use super::{Request, Settings, twilio};

/// The headers that sign a request with the first secret of the source that can sign, at the time `now` in Unix seconds.
/// `id` is the id of the request, for schemes that sign one. `None` if no secret can, or `id` fits in no header.
pub(super) fn sign(
    settings: &Settings,
    request: &Request<'_>,
    id: &str,
    now: i64,
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let family = settings.scheme.headers.first()?;
    let secret = settings.secrets.iter().find_map(|secret| match &secret.key {
        Key::Shared(secret) => Some(secret),
        Key::Public(_) => None,
    })?;
    let has_time = settings.scheme.signed.has(&Part::Timestamp);
    let presented = Presented {
        signatures: Vec::new(),
        timestamp: has_time.then(|| (now.to_string().into_bytes(), now)),
        id: family.id.is_some().then(|| id.as_bytes().to_vec()),
        settings: None,
    };
    let form = twilio::signed_fields(settings, request).ok()?;
    let url = twilio::urls(settings, request).into_iter().next()?;
    let parts = content(settings, &presented, request, &url, &form);
    let digest = settings.scheme.hash.mac(secret.expose(), &parts);
    let signature = settings.scheme.encoding.encode(&digest);
    let value = match &settings.scheme.form {
        Form::One { prefix } => format!("{prefix}{signature}"),
        Form::Versions => format!("v1,{signature}"),
        Form::Pairs => format!("t={now},v1={signature}"),
    };
    let time = family.timestamp.as_ref().map(|name| (name, now.to_string()));
    let id = family.id.as_ref().map(|name| (name, id.to_owned()));
    let headers = [Some((&family.signature, value)), time, id].into_iter().flatten();
    headers.map(|(name, value)| Some((name.clone(), HeaderValue::from_str(&value).ok()?))).collect()
}
