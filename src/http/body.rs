//! Reading a body, with a limit to its size and to the patience with who sends it.

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A body must be complete, or have brought [`WINDOW_BYTES`] more, within each span of this length: a client
/// that stops in the middle is noticed after at most two of them.
const WINDOW: Duration = Duration::from_secs(4);
/// 1 KiB a second.
const WINDOW_BYTES: usize = 4 << 10;

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Longer than allowed. The rest was not read.
    TooLarge,
    /// It came too slowly, or stopped coming.
    TooSlow,
    /// Malformed chunks, or the connection broke off.
    Broken,
}

/// Reads a body of at most `max` bytes.
pub(super) async fn read(mut body: Body, max: usize) -> Result<Bytes, Unread> {
    let mut whole = Bytes::new();
    let mut gathered = Vec::new();
    let mut window_end = Instant::now() + WINDOW;
    let mut window_bytes = 0;
    loop {
        let frame = match timeout_at(window_end, body.frame()).await {
            Ok(None) => break,
            Ok(Some(frame)) => frame.map_err(|_| Unread::Broken)?,
            Err(_) if window_bytes < WINDOW_BYTES => return Err(Unread::TooSlow),
            Err(_) => {
                window_end = Instant::now() + WINDOW;
                window_bytes = 0;
                continue;
            }
        };
        let Ok(data) = frame.into_data() else { continue };
        window_bytes += data.len();
        if whole.len() + gathered.len() + data.len() > max {
            return Err(Unread::TooLarge);
        }
        // Nearly every body comes in one piece, which then need not be copied.
        if whole.is_empty() && gathered.is_empty() {
            whole = data;
        } else {
            gathered.extend_from_slice(&std::mem::take(&mut whole));
            gathered.extend_from_slice(&data);
        }
    }
    Ok(if gathered.is_empty() { whole } else { gathered.into() })
}
