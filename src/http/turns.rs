//! Questions to the store, on threads that may wait, and a bounded number of one kind at once: whoever asks must not
//! queue up more of them behind a disk that hangs.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::Store;

/// As many turns as there may be questions at once.
#[derive(Debug)]
pub(super) struct Turns(Arc<Semaphore>);

/// The right to one question.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "it is held")] Option<OwnedSemaphorePermit>);

impl Turns {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Waits for a turn.
    pub(super) async fn next(&self) -> Turn {
        // It fails only for a semaphore that is closed, which this one never is.
        Turn(Arc::clone(&self.0).acquire_owned().await.ok())
    }
}

impl Turn {
    /// Asks the store; none if that panicked, which has been logged. The turn ends with the question, whether or not
    /// the caller still waits for the answer.
    pub(super) async fn ask<T: Send + 'static>(
        self,
        store: &Arc<dyn Store>,
        question: impl FnOnce(&dyn Store) -> T + Send + 'static,
    ) -> Option<T> {
        let store = Arc::clone(store);
        let asked = tokio::task::spawn_blocking(move || {
            let answer = question(store.as_ref());
            drop(self);
            answer
        });
        asked.await.ok()
    }
}
