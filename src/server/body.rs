//! The body of a request, which records whether all of it was read, and that of a response whose length is not known.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::registry::{Connection, Phase};

/// The body of a request. If a part of it stays unread, the connection ends, and the response must announce that: a
/// client that is not told may have sent its next request already.
#[derive(Debug)]
pub struct RequestBody {
    incoming: Incoming,
    unread: Arc<AtomicBool>,
}

impl RequestBody {
    /// Wraps a body. `unread` is true for as long as a part of the body is unread.
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

/// The body of a response whose length is not known: the request is being served until it ends.
#[derive(Debug)]
pub(super) struct StreamBody {
    body: axum::body::Body,
    connection: Arc<Connection>,
}

impl StreamBody {
    pub(super) fn new(body: axum::body::Body, connection: &Arc<Connection>) -> Self {
        connection.stream(true);
        Self { body, connection: Arc::clone(connection) }
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.connection.stream(false);
        self.connection.enter(Phase::Idle);
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
