//! `POST /webhook`: is it ours, is it right, is it stored.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, HeaderName};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use tracing::Level;

use super::body::{self, Unread};
use super::{App, error};
use crate::inbox::Refused;
use crate::message::{self, Invalid, MessageId};
use crate::signature::{self, Signature};
use crate::store::Outcome;
use crate::telemetry::unix_seconds;

const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const OK: &str = r#"{"status":"ok"}"#;

/// What became of a request; decides its status, its metric and its line in the log.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Stored, now or before.
    Accepted(MessageId, Outcome),
    /// The signature is missing, malformed or wrong.
    InvalidSignature,
    /// No message, or none that can be.
    Invalid(Invalid),
    /// The body could not be read.
    Unread(Unread),
    /// It may or may not be stored; the sender should try again.
    Refused(MessageId, Refused),
}

/// What the log and the metrics say of a verdict, on the response's way out.
#[derive(Debug, Clone)]
pub(super) struct Note {
    pub(super) level: Level,
    pub(super) message_id: Option<MessageId>,
    pub(super) dup: bool,
    pub(super) result: &'static str,
}

/// Answers the request.
pub(super) async fn receive(State(app): State<Arc<App>>, request: Request) -> Verdict {
    match judge(&app, request).await {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

/// Each step is cheaper than the next one, and nothing is parsed that is not signed.
async fn judge(app: &App, request: Request) -> Result<Verdict, Verdict> {
    let (parts, body) = request.into_parts();
    let max = app.settings.max_body_bytes;
    if declared_length(&parts.headers).is_some_and(|length| length > max) {
        return Err(Verdict::Unread(Unread::TooLarge));
    }
    let signature = only_signature(&parts.headers).map_err(|_| Verdict::InvalidSignature)?;
    let body = body::read(body, max).await.map_err(Verdict::Unread)?;
    let key = app.keys.verify(&body, &signature).map_err(|_| Verdict::InvalidSignature)?;
    app.metrics.verified(key, unix_seconds());
    let message = message::parse(&body).map_err(Verdict::Invalid)?;
    // The body is not needed any more, and the message may wait for a while.
    drop(body);
    let id = message.message_id.clone();
    match app.inbox.accept(message).await {
        Ok(outcome) => Ok(Verdict::Accepted(id, outcome)),
        Err(refused) => Err(Verdict::Refused(id, refused)),
    }
}

/// Hyper has refused lengths that are no numbers.
fn declared_length(headers: &HeaderMap) -> Option<usize> {
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    Some(length.parse().unwrap_or(usize::MAX))
}

fn only_signature(headers: &HeaderMap) -> Result<Signature, signature::Refused> {
    let mut values = headers.get_all(SIGNATURE).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Signature::parse(only.as_bytes()),
        _ => Err(signature::Refused),
    }
}

impl Verdict {
    fn note(&self) -> Note {
        let note = |level, result, message_id: Option<&MessageId>, dup| Note {
            level,
            message_id: message_id.cloned(),
            dup,
            result,
        };
        match self {
            Self::Accepted(id, Outcome::Created) => note(Level::INFO, "created", Some(id), false),
            Self::Accepted(id, Outcome::Duplicate) => note(Level::INFO, "duplicate", Some(id), true),
            Self::Accepted(id, Outcome::Conflict) => note(Level::WARN, "conflict", Some(id), true),
            Self::InvalidSignature => note(Level::ERROR, "invalid_signature", None, false),
            Self::Invalid(invalid) => {
                note(Level::WARN, "validation_error", invalid.message_id.as_ref(), false)
            }
            Self::Unread(Unread::TooLarge) => note(Level::WARN, "too_large", None, false),
            Self::Unread(Unread::TooSlow | Unread::Broken) => {
                note(Level::WARN, "validation_error", None, false)
            }
            Self::Refused(id, Refused::Overloaded) => note(Level::WARN, "overloaded", Some(id), false),
            Self::Refused(id, Refused::Unavailable(_)) => note(Level::ERROR, "error", Some(id), false),
        }
    }

    fn response(&self) -> Response<Body> {
        match self {
            Self::Accepted(..) => {
                let mut response = Response::new(Body::from(OK));
                response.headers_mut().insert(axum::http::header::CONTENT_TYPE, error::JSON);
                response
            }
            Self::InvalidSignature => error::detail(StatusCode::UNAUTHORIZED, "invalid signature"),
            Self::Invalid(invalid) => error::unprocessable("body", &invalid.complaints),
            Self::Unread(unread) => error::closing(match unread {
                Unread::TooLarge => {
                    error::detail(StatusCode::PAYLOAD_TOO_LARGE, "request body is larger than MAX_BODY_BYTES")
                }
                Unread::TooSlow => error::detail(StatusCode::REQUEST_TIMEOUT, "request body came too slowly"),
                Unread::Broken => error::detail(StatusCode::BAD_REQUEST, "request body is malformed"),
            }),
            Self::Refused(_, refused) => error::unavailable(&refused.to_string()),
        }
    }
}

impl IntoResponse for Verdict {
    fn into_response(self) -> Response<Body> {
        let mut response = self.response();
        response.extensions_mut().insert(self.note());
        response
    }
}

impl Note {
    /// Of a request whose client left before there was a verdict.
    pub(super) fn client_left() -> Self {
        Self { level: Level::WARN, message_id: None, dup: false, result: "error" }
    }

    /// Of a request whose header was refused before anybody judged it.
    pub(super) fn unreadable() -> Self {
        Self { level: Level::WARN, message_id: None, dup: false, result: "validation_error" }
    }
}
