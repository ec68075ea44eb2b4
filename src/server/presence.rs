//! Whether the client is still there while it waits for us. Hyper, which lets clients end their half of the connection, does not
//! look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::sync::Notify;

/// Tells a request that waits that its client has ended its half of the connection: it has left, or it will ask for nothing more
/// and only reads what there is. An extension of each `GET` and `DELETE` request.
#[derive(Debug, Clone, Default)]
pub struct Presence(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Somebody waits for the client to leave.
    watched: AtomicBool,
    left: AtomicBool,
    told: Notify,
}

impl Presence {
    /// Waits until the client has ended its half. Noticed only if it has sent nothing after its request.
    pub async fn left(&self) {
        self.0.watched.store(true, Relaxed);
        while !self.has_left() {
            self.0.told.notified().await;
        }
    }

    /// Whether the client has ended its half, as far as somebody has waited for that.
    pub fn has_left(&self) -> bool {
        self.0.left.load(Relaxed)
    }

    /// Whether the connection shall look for the end.
    pub(super) fn is_watched(&self) -> bool {
        self.0.watched.load(Relaxed) && !self.has_left()
    }

    /// Records that the client has ended its half.
    pub(super) fn leave(&self) {
        self.0.left.store(true, Relaxed);
        self.0.told.notify_one();
    }
}
