//! `POST /webhook`, the built-in source: verifies the signature, checks the message, stores it.

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
use crate::source::Refusal;
use crate::store::Outcome;

const SIGNATURE: HeaderName = HeaderName::from_static("x-signature");
const OK: &str = r#"{"status":"ok"}"#;
/// What a client learns of a signature that is missing, malformed or wrong.
pub(super) const INVALID_SIGNATURE: &str = "invalid signature";

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
    /// Of the built-in source: the id, if it is known.
    pub(super) message_id: Option<Name>,
    /// Of a configured source: the number of events, if it is known.
    pub(super) events: Option<usize>,
    /// Of a configured source: why the signature was refused.
    pub(super) refusal: Option<Refusal>,
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
pub(super) fn declared_length(headers: &HeaderMap) -> Option<usize> {
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
        match self {
            Self::Accepted(id, outcome) => {
                (StatusCode::OK, Record::stored(WebhookResult::of(*outcome)).about(Some(id)))
            }
            Self::InvalidSignature => {
                (StatusCode::UNAUTHORIZED, Record::new(Level::ERROR, WebhookResult::InvalidSignature))
            }
            Self::Invalid(invalid) => {
                let record = Record::new(Level::WARN, WebhookResult::ValidationError);
                (StatusCode::UNPROCESSABLE_ENTITY, record.about(invalid.message_id.as_ref()))
            }
            Self::Unread(error) => (error.status(), Record::unread(*error)),
            Self::NotStored(id, refused) => {
                (StatusCode::SERVICE_UNAVAILABLE, Record::not_stored(refused).about(Some(id)))
            }
        }
    }

    fn response(&self, status: StatusCode) -> Response<Body> {
        match self {
            Self::Accepted(..) => ok(),
            Self::InvalidSignature => error::detail(status, INVALID_SIGNATURE),
            Self::Invalid(invalid) => error::unprocessable("body", &invalid.errors),
            Self::Unread(cause) => cause.response("request body is larger than MAX_BODY_BYTES"),
            Self::NotStored(_, refused) => error::unavailable(&refused.to_string()),
        }
    }
}

/// The response to a delivery that is stored.
pub(super) fn ok() -> Response<Body> {
    let mut response = Response::new(Body::from(OK));
    response.headers_mut().insert(CONTENT_TYPE, error::JSON);
    response
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
    pub(super) fn new(level: Level, result: WebhookResult) -> Self {
        Self { level, result, message_id: None, events: None, refusal: None }
    }

    /// The record of a delivery that is stored.
    pub(super) fn stored(result: WebhookResult) -> Self {
        let level = if result == WebhookResult::Conflict { Level::WARN } else { Level::INFO };
        Self::new(level, result)
    }

    /// The record of a request whose body could not be read.
    pub(super) fn unread(error: BodyError) -> Self {
        Self::new(
            Level::WARN,
            match error {
                BodyError::TooLarge => WebhookResult::TooLarge,
                BodyError::TooSlow | BodyError::Malformed => WebhookResult::ValidationError,
                BodyError::NoRoom => WebhookResult::Overloaded,
            },
        )
    }

    /// The record of a delivery that was not acknowledged.
    pub(super) fn not_stored(refused: &inbox::Refused) -> Self {
        match refused {
            inbox::Refused::Overloaded => Self::new(Level::WARN, WebhookResult::Overloaded),
            inbox::Refused::Unavailable(_) => Self::new(Level::ERROR, WebhookResult::Error),
        }
    }

    /// The record of a request whose client left before it was answered.
    pub(super) fn client_left() -> Self {
        Self::new(Level::WARN, WebhookResult::Error)
    }

    /// The record of a request that was refused for its header, before this route saw it.
    pub(super) fn refused_header() -> Self {
        Self::new(Level::WARN, WebhookResult::ValidationError)
    }

    fn about(self, id: Option<&Name>) -> Self {
        Self { message_id: id.cloned(), ..self }
    }
}
