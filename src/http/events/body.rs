//! The body of a page, which the connection gets piece by piece as its client takes it. So the memory that is counted for the
//! page is counted until little of it is left.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::PIECE_BYTES;
use crate::http::reads::Room;

/// The body of a page.
#[derive(Debug)]
pub(super) struct PageBody {
    left: Bytes,
    _room: Option<Room>,
}

impl PageBody {
    /// `room` is the memory for it.
    pub(super) fn new(json: Vec<u8>, room: Option<Room>) -> Self {
        Self { left: json.into(), _room: room }
    }
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = self.left.len().min(PIECE_BYTES);
        let piece = self.left.split_to(bytes);
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.left.len()).unwrap_or(u64::MAX))
    }
}
