//! The closed sets of label values.

use super::Counter;

/// Values of the label `method`; any other method counts as `other`.
pub const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
/// Values of the label `path`: the routes' templates; any other path counts as `other`.
pub const PATHS: [&str; 12] = [
    "/webhook",
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
pub const STATUSES: [u16; 19] =
    [200, 204, 400, 401, 404, 405, 408, 409, 410, 412, 413, 414, 422, 428, 431, 499, 500, 503, 505];

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
}

impl WebhookResult {
    /// Every result.
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
