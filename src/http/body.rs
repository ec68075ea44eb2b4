//! Reading a body, within a limit of its size and of its pace.

use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use super::error;
use super::reads::{Budget, Room};

/// In each window a body must end or bring [`WINDOW_BYTES`] more. A client that stops in the middle is noticed after at
/// most two windows.
const WINDOW: Duration = Duration::from_secs(4);
/// The least that a body must bring in a window: 1 KiB a second.
const WINDOW_BYTES: usize = 4 << 10;
/// The same of one that takes room, lest somebody holds that for hours: 64 KiB a second.
const WINDOW_BYTES_WITH_ROOM: usize = 256 << 10;

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyError {
    /// The body is longer than allowed. The rest was not read.
    TooLarge,
    /// The body came too slowly, or stopped coming.
    TooSlow,
    /// The chunks are malformed, or the connection broke off.
    Malformed,
    /// Too many bytes of other bodies are in flight.
    NoRoom,
}

impl BodyError {
    /// The status for it.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The response for it; `too_large` is the text for a body that is longer than allowed.
    pub(super) fn response(self, too_large: &str) -> Response<Body> {
        error::closing(match self {
            Self::TooLarge => error::detail(self.status(), too_large),
            Self::TooSlow => error::detail(self.status(), "request body came too slowly"),
            Self::Malformed => error::detail(self.status(), "request body is malformed"),
            Self::NoRoom => error::unavailable("too many bytes of other requests are being received"),
        })
    }
}

/// Bytes of a body for which no room is needed, so that small deliveries are received however many large ones are.
const FREE_BYTES: usize = 64 << 10;

/// Reads a body of at most `max` bytes.
pub(super) async fn read(body: Body, max: usize) -> Result<Bytes, BodyError> {
    read_while(body, max, |_| true, |_| WINDOW_BYTES).await
}

/// The same, with room of the budget for the bytes as they come, all but the first [`FREE_BYTES`].
pub(super) async fn read_within(
    body: Body,
    max: usize,
    budget: &Budget,
) -> Result<(Bytes, Option<Room>), BodyError> {
    let mut room = None;
    let has_room = |bytes: usize| bytes <= FREE_BYTES || budget.grow(&mut room, bytes - FREE_BYTES);
    let least = |bytes: usize| if bytes <= FREE_BYTES { WINDOW_BYTES } else { WINDOW_BYTES_WITH_ROOM };
    let bytes = read_while(body, max, has_room, least).await?;
    Ok((bytes, room))
}

/// Reads a body of at most `max` bytes. `has_room` is asked before so many in all are kept; `least` says how many a window must
/// bring once there are so many.
async fn read_while(
    mut body: Body,
    max: usize,
    mut has_room: impl FnMut(usize) -> bool,
    least: impl Fn(usize) -> usize,
) -> Result<Bytes, BodyError> {
    let mut whole = Bytes::new();
    let mut gathered = Vec::new();
    let mut window_end = Instant::now() + WINDOW;
    let mut window_bytes = 0;
    loop {
        let frame = match timeout_at(window_end, body.frame()).await {
            Ok(None) => break,
            Ok(Some(frame)) => frame.map_err(|_| BodyError::Malformed)?,
            Err(_) if window_bytes < least(whole.len() + gathered.len()) => return Err(BodyError::TooSlow),
            Err(_) => {
                window_end = Instant::now() + WINDOW;
                window_bytes = 0;
                continue;
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        window_bytes += data.len();
        let length = whole.len() + gathered.len() + data.len();
        if length > max {
            return Err(BodyError::TooLarge);
        }
        if !has_room(length) {
            return Err(BodyError::NoRoom);
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
