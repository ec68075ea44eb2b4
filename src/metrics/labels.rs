//! The closed sets of label values.

use super::Counter;
use crate::store::Outcome;

/// Values of the label `method`; any other method counts as `other`.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// Values of the label `path`: the routes' templates; any other path counts as `other`.
pub const PATHS: [&str; 16] = [
    "/",
    "/assets/{name}",
    "/session",
    "/webhook",
    "/webhook/{name}",
    "/messages",
    "/stats",
    "/stats/volume",
    "/events",
    "/events/{position}",
    "/cursors",
    "/cursors/{name}",
    "/metrics",
    "/health/live",
    "/health/ready",
    "other",
];
/// Values of the label `status`; any other status counts as `other`. 499 means that the client left before the response.
pub const STATUSES: [u16; 21] =
    [200, 204, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 414, 422, 428, 429, 431, 499, 500, 503, 505];

/// How a `POST /webhook` ended: the label `result` of its metric, and the same word in its line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookResult {
    /// The message is stored now.
    Created,
    /// The same message was stored before.
    Duplicate,
    /// Another message is stored under its `message_id`.
    Conflict,
    /// The signature is missing, malformed or wrong.
    InvalidSignature,
    /// The request or its message breaks a rule.
    ValidationError,
    /// The body is longer than `MAX_BODY_BYTES`.
    TooLarge,
    /// The queue was full.
    Overloaded,
    /// The store failed or was too slow, or the client left before it was answered.
    Error,
    /// A handshake of a configured source was answered; nothing is stored.
    Handshake,
}

impl WebhookResult {
    /// Every result of the built-in source.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Duplicate,
        Self::Conflict,
        Self::InvalidSignature,
        Self::ValidationError,
        Self::TooLarge,
        Self::Overloaded,
        Self::Error,
    ];

    /// Every result of a configured source. `validation_error` is about the request alone: a signed body that cannot be
    /// understood is stored as malformed.
    pub const OF_SOURCES: [Self; Self::ALL.len() + 1] = {
        let mut results = [Self::Handshake; Self::ALL.len() + 1];
        if let Some(of_built_in) = results.first_chunk_mut() {
            *of_built_in = Self::ALL;
        }
        results
    };

    /// The results of an event that is stored, now or before.
    pub const STORED: [Self; 3] = [Self::Created, Self::Duplicate, Self::Conflict];

    /// The result of an event, or of a delivery of one event.
    pub fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Created { .. } => Self::Created,
            // The set of results is part of the contract. Like a duplicate, an erased event was stored before.
            Outcome::Duplicate | Outcome::Erased => Self::Duplicate,
            Outcome::Conflict => Self::Conflict,
        }
    }

    /// The result of a delivery: `conflict` if one of its events is one, else `created` if one of them is new.
    pub fn of_delivery(outcomes: &[Outcome]) -> Self {
        let has = |result| outcomes.iter().any(|outcome| Self::of(*outcome) == result);
        [Self::Conflict, Self::Created].into_iter().find(|result| has(*result)).unwrap_or(Self::Duplicate)
    }

    /// Whether a message with this id was stored before: `dup` in the log.
    pub fn is_dup(self) -> bool {
        matches!(self, Self::Duplicate | Self::Conflict)
    }

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::InvalidSignature => "invalid_signature",
            Self::ValidationError => "validation_error",
            Self::TooLarge => "too_large",
            Self::Overloaded => "overloaded",
            Self::Error => "error",
            Self::Handshake => "handshake",
        }
    }
}

/// Why events were erased: the label `rule` of `events_erased_total`, and the same word in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErasureRule {
    /// A request asked for it.
    Request,
    /// They were too old to be kept.
    Keep,
}

impl ErasureRule {
    /// Every rule.
    pub const ALL: [Self; 2] = [Self::Request, Self::Keep];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Keep => "keep",
        }
    }
}

/// How a `POST /session` with a token ended: the label `result` of `sign_ins_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignIn {
    /// It was the read token.
    Ok,
    /// It was another one.
    WrongToken,
    /// It was not tried, since others were being tried for too long.
    Refused,
}

impl SignIn {
    /// Every result.
    pub const ALL: [Self; 3] = [Self::Ok, Self::WrongToken, Self::Refused];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::WrongToken => "wrong_token",
            Self::Refused => "refused",
        }
    }
}

/// Why a connection ended: the label `reason` of `connections_closed_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client ended it, or a response with `Connection: close` did.
    Finished,
    /// No complete header arrived in time.
    HeaderTimeout,
    /// No further request began in time.
    IdleTimeout,
    /// The client took no bytes of a response for too long.
    WriteTimeout,
    /// The client did not end its half in time after the server had ended its own.
    LingerTimeout,
    /// The registry was full, and this connection had waited longest.
    Evicted,
    /// The server stopped, and this connection did not end in time.
    DrainTimeout,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Finished,
        Self::HeaderTimeout,
        Self::IdleTimeout,
        Self::WriteTimeout,
        Self::LingerTimeout,
        Self::Evicted,
        Self::DrainTimeout,
    ];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::HeaderTimeout => "header_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::LingerTimeout => "linger_timeout",
            Self::Evicted => "evicted",
            Self::DrainTimeout => "drain_timeout",
        }
    }
}

/// The counter of `value`, where the counters stand in the order of all values.
pub(super) fn counter<'a, T: PartialEq>(
    values: &[T],
    counters: &'a [Counter],
    value: &T,
) -> Option<&'a Counter> {
    values.iter().zip(counters).find(|(known, _)| *known == value).map(|(_, counter)| counter)
}
