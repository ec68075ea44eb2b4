//! Reading a body, within a limit of its size and of its pace.

use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use super::error;

/// In each window a body must end or bring [`WINDOW_BYTES`] more. A client that stops in the middle is noticed after at
/// most two windows.
const WINDOW: Duration = Duration::from_secs(4);
/// The least that a body must bring in a window: 1 KiB a second.
const WINDOW_BYTES: usize = 4 << 10;

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    /// The body is longer than allowed. The rest was not read.
    TooLarge,
    /// The body came too slowly, or stopped coming.
    TooSlow,
    /// The chunks are malformed, or the connection broke off.
    Malformed,
}

impl BodyError {
    /// The status for it.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed => StatusCode::BAD_REQUEST,
        }
    }

    /// The response for it, on a route whose bodies are limited by a constant.
    pub(super) fn response(self) -> Response<Body> {
        let detail = match self {
            Self::TooLarge => "request body is too large",
            Self::TooSlow => TOO_SLOW,
            Self::Malformed => MALFORMED,
        };
        error::closing(error::detail(self.status(), detail))
    }
}

/// The text of [`BodyError::TooSlow`] for a client.
pub(super) const TOO_SLOW: &str = "request body came too slowly";
/// The text of [`BodyError::Malformed`] for a client.
pub(super) const MALFORMED: &str = "request body is malformed";

/// Reads a body of at most `max` bytes.
pub(super) async fn read(mut body: Body, max: usize) -> Result<Bytes, BodyError> {
    let mut whole = Bytes::new();
    let mut gathered = Vec::new();
    let mut window_end = Instant::now() + WINDOW;
    let mut window_bytes = 0;
    loop {
        let frame = match timeout_at(window_end, body.frame()).await {
            Ok(None) => break,
            Ok(Some(frame)) => frame.map_err(|_| BodyError::Malformed)?,
            Err(_) if window_bytes < WINDOW_BYTES => return Err(BodyError::TooSlow),
            Err(_) => {
                window_end = Instant::now() + WINDOW;
                window_bytes = 0;
                continue;
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        window_bytes += data.len();
        if whole.len() + gathered.len() + data.len() > max {
            return Err(BodyError::TooLarge);
        }
        // Most bodies come in one piece, which is then not copied.
        if whole.is_empty() && gathered.is_empty() {
            whole = data;
        } else {
            gathered.extend_from_slice(&std::mem::take(&mut whole));
            gathered.extend_from_slice(&data);
        }
    }
    Ok(if gathered.is_empty() { whole } else { gathered.into() })
}
