//! The body of a request, and whether it was read.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// The body of a request. What of it nobody reads ends the connection, which the answer must then say: whoever
/// learns of it only by the end may have sent the next request already.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    unread: Arc<AtomicBool>,
}

impl RequestBody {
    /// Keeps in `unread` whether there is more of the body to read.
    pub(super) fn new(incoming: Incoming, unread: Arc<AtomicBool>) -> Self {
        unread.store(!incoming.is_end_stream(), Relaxed);
        Self { incoming, unread }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        let frame = ready!(Pin::new(&mut body.incoming).poll_frame(cx));
        if frame.is_none() || body.incoming.is_end_stream() {
            body.unread.store(false, Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
