//! `POST /webhook`: is it ours, is it right, is it stored.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use tracing::Level;

use super::body::{self, Unread};
use super::{App, error};
use crate::clock::unix_seconds;
use crate::inbox::Refused;
use crate::message::{self, Invalid, MessageId};
use crate::metrics::WebhookResult;
use crate::signature::{self, Signature};
use crate::store::Outcome;

const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const OK: &str = r#"{"status":"ok"}"#;

/// How a request ended. One table ([`Verdict::record`]) gives each its status, its metric and its line of the log.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The message is stored, now or before.
    Accepted(MessageId, Outcome),
    /// The signature is missing, malformed or wrong.
    InvalidSignature,
    /// The body is no message, or one that breaks a rule.
    Invalid(Invalid),
    /// The body could not be read.
    Unread(Unread),
    /// The message may or may not be stored; the sender should try again.
    Refused(MessageId, Refused),
}

/// What the log and the metrics say of a request, handed to [`observe`](super::observe) with the response.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) level: Level,
    pub(super) result: WebhookResult,
    pub(super) message_id: Option<MessageId>,
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
    fn record(&self) -> (StatusCode, Record) {
        use WebhookResult as Result;
        let (status, level, result, message_id) = match self {
            Self::Accepted(id, outcome) => {
                let (level, result) = match outcome {
                    Outcome::Created { .. } => (Level::INFO, Result::Created),
                    Outcome::Duplicate => (Level::INFO, Result::Duplicate),
                    Outcome::Conflict => (Level::WARN, Result::Conflict),
                };
                (StatusCode::OK, level, result, Some(id))
            }
            Self::InvalidSignature => {
                (StatusCode::UNAUTHORIZED, Level::ERROR, Result::InvalidSignature, None)
            }
            Self::Invalid(invalid) => {
                let id = invalid.message_id.as_ref();
                (StatusCode::UNPROCESSABLE_ENTITY, Level::WARN, Result::ValidationError, id)
            }
            Self::Unread(unread) => match unread {
                Unread::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Level::WARN, Result::TooLarge, None),
                Unread::TooSlow => (StatusCode::REQUEST_TIMEOUT, Level::WARN, Result::ValidationError, None),
                Unread::Broken => (StatusCode::BAD_REQUEST, Level::WARN, Result::ValidationError, None),
            },
            Self::Refused(id, refused) => {
                let (level, result) = match refused {
                    Refused::Overloaded => (Level::WARN, Result::Overloaded),
                    Refused::Unavailable(_) => (Level::ERROR, Result::Error),
                };
                (StatusCode::SERVICE_UNAVAILABLE, level, result, Some(id))
            }
        };
        (status, Record { level, result, message_id: message_id.cloned() })
    }

    fn response(&self, status: StatusCode) -> Response<Body> {
        match self {
            Self::Accepted(..) => {
                let mut response = Response::new(Body::from(OK));
                response.headers_mut().insert(CONTENT_TYPE, error::JSON);
                response
            }
            Self::InvalidSignature => error::detail(status, "invalid signature"),
            Self::Invalid(invalid) => error::unprocessable("body", &invalid.errors),
            Self::Unread(unread) => error::closing(error::detail(
                status,
                match unread {
                    Unread::TooLarge => "request body is larger than MAX_BODY_BYTES",
                    Unread::TooSlow => "request body came too slowly",
                    Unread::Broken => "request body is malformed",
                },
            )),
            Self::Refused(_, refused) => error::unavailable(&refused.to_string()),
        }
    }
}

impl IntoResponse for Verdict {
    fn into_response(self) -> Response<Body> {
        let (status, record) = self.record();
        let mut response = self.response(status);
        response.extensions_mut().insert(record);
        response
    }
}

impl Record {
    /// The record of a request whose client left before it was answered.
    pub(super) fn client_left() -> Self {
        Self { level: Level::WARN, result: WebhookResult::Error, message_id: None }
    }

    /// The record of a request that was refused for its header, before this route saw it.
    pub(super) fn refused_header() -> Self {
        Self { level: Level::WARN, result: WebhookResult::ValidationError, message_id: None }
    }
}
