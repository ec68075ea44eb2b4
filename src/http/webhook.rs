//! `POST /webhook`: verifies the signature, checks the message, stores it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use tracing::Level;

use super::body::{self, BodyError};
use super::{App, error};
use crate::clock::{received_at, unix_seconds};
use crate::event::Event;
use crate::inbox;
use crate::message::{self, Invalid, Name};
use crate::metrics::WebhookResult;
use crate::signature::{InvalidSignature, Signature};
use crate::store::Outcome;

const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const OK: &str = r#"{"status":"ok"}"#;

/// How a request ended. One table, [`Verdict::record`], gives each verdict its status, its metric and its log line.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The `message_id` is stored, now or before.
    Accepted(Name, Outcome),
    /// The signature is missing, malformed or wrong.
    InvalidSignature,
    /// The body is not a message, or breaks a rule.
    Invalid(Invalid),
    /// The body could not be read.
    Unread(BodyError),
    /// The message was not acknowledged, and may be stored all the same; the sender should try again.
    NotStored(Name, inbox::Refused),
}

/// The fields of a request for log and metrics, which travel with the response to [`observe`](super::observe).
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) level: Level,
    pub(super) result: WebhookResult,
    pub(super) message_id: Option<Name>,
}

/// Handles the route.
pub(super) async fn receive(State(app): State<Arc<App>>, request: Request) -> Verdict {
    match judge(&app, request).await {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

/// Each step is cheaper than the next one, and nothing is parsed before its signature is verified.
async fn judge(app: &App, request: Request) -> Result<Verdict, Verdict> {
    let (parts, body) = request.into_parts();
    let max = app.settings.max_body_bytes;
    if declared_length(&parts.headers).is_some_and(|length| length > max) {
        return Err(Verdict::Unread(BodyError::TooLarge));
    }
    let signature = only_signature(&parts.headers).map_err(|_| Verdict::InvalidSignature)?;
    let body = body::read(body, max).await.map_err(Verdict::Unread)?;
    let key = app.keys.verify(&body, &signature).map_err(|_| Verdict::InvalidSignature)?;
    app.metrics.verified(key, unix_seconds());
    let (message, data) = message::parse_with_data(&body).map_err(Verdict::Invalid)?;
    // The message may wait in the queue for a while, and no longer needs the body.
    drop(body);
    let id = message.message_id.clone();
    let delivery = vec![Event::of_message(message, Some(received_at()), data)];
    match app.inbox.accept(delivery).await {
        Ok(outcomes) => Ok(Verdict::Accepted(id, outcomes.first().copied().unwrap_or(Outcome::Duplicate))),
        Err(refused) => Err(Verdict::NotStored(id, refused)),
    }
}

/// The value of `Content-Length`. Hyper has refused values that are not numbers.
fn declared_length(headers: &HeaderMap) -> Option<usize> {
    let length = headers.get(CONTENT_LENGTH)?.to_str().ok()?;
    Some(length.parse().unwrap_or(usize::MAX))
}

fn only_signature(headers: &HeaderMap) -> Result<Signature, InvalidSignature> {
    let mut values = headers.get_all(SIGNATURE).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Signature::parse(only.as_bytes()),
        _ => Err(InvalidSignature),
    }
}

impl Verdict {
    fn record(&self) -> (StatusCode, Record) {
        use WebhookResult as Result;
        let (status, level, result, message_id) = match self {
            Self::Accepted(id, outcome) => {
                let (level, result) = match outcome {
                    Outcome::Created { .. } => (Level::INFO, Result::Created),
                    // The set of results is part of the contract. Like a duplicate, an erased message was stored before.
                    Outcome::Duplicate | Outcome::Erased => (Level::INFO, Result::Duplicate),
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
            Self::Unread(error) => match error {
                BodyError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Level::WARN, Result::TooLarge, None),
                BodyError::TooSlow => {
                    (StatusCode::REQUEST_TIMEOUT, Level::WARN, Result::ValidationError, None)
                }
                BodyError::Malformed => (StatusCode::BAD_REQUEST, Level::WARN, Result::ValidationError, None),
            },
            Self::NotStored(id, refused) => {
                let (level, result) = match refused {
                    inbox::Refused::Overloaded => (Level::WARN, Result::Overloaded),
                    inbox::Refused::Unavailable(_) => (Level::ERROR, Result::Error),
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
            Self::Unread(cause) => error::closing(error::detail(
                status,
                match cause {
                    BodyError::TooLarge => "request body is larger than MAX_BODY_BYTES",
                    BodyError::TooSlow => body::TOO_SLOW,
                    BodyError::Malformed => body::MALFORMED,
                },
            )),
            Self::NotStored(_, refused) => error::unavailable(&refused.to_string()),
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
