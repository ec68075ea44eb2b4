//! Calls of the store from requests: the check of the tokens, the limit of concurrent calls, and the response when
//! the store fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::middleware::Next;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{App, error, session};
use crate::config::Secret;
use crate::metrics::Metrics;
use crate::signature::same_secret;
use crate::store::{self, Store};
use crate::telemetry::chain;

/// Maximum number of concurrent reads.
pub(super) const CONCURRENT_MAX: usize = 4;
/// Maximum number of concurrent reads of the log, beside the other ones.
pub(super) const LOG_READS_MAX: usize = 4;
/// Maximum number of concurrent reads of the log for followers who are behind, beside these.
pub(super) const FOLLOWER_READS_MAX: usize = 2;
/// Maximum memory for what streams have read by themselves, or alone still hold, and not sent yet, in KiB.
pub(super) const OWN_CHUNKS_KIB_MAX: u32 = 64 << 10;
/// Maximum memory for pages of the log that are not sent yet, in KiB.
pub(super) const PAGES_KIB_MAX: u32 = 64 << 10;
/// Maximum memory for the bodies of configured sources that are in flight, in KiB.
pub(super) const BODIES_KIB_MAX: u32 = 64 << 10;
/// Maximum number of large deliveries that are verified at once.
pub(super) const VERIFYING_MAX: usize = 4;
/// Maximum number of concurrent changes of cursors.
pub(super) const MOVES_MAX: usize = 2;
/// Maximum time that a read waits for its permit, and what was read for its room.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client may take for what is in memory for it alone: for any of it, and for so many bytes a second besides. One that
/// is slower is cut off, and so holds nothing up for ever.
const HOLD: Duration = Duration::from_secs(10);
const HOLD_BYTES_A_SECOND: usize = 16 << 10;

/// The store, with a bounded number of concurrent reads.
#[derive(Debug)]
pub(super) struct Reads {
    store: Arc<dyn Store>,
    limiter: Limiter,
    metrics: Arc<Metrics>,
    failures: Failures,
}

/// How failures of the store stand in the log.
#[derive(Debug)]
pub(super) enum Failures {
    /// Each of them, with these words.
    Each(&'static str),
    /// The first of several in a row, whose callers try again every second.
    First(AtomicBool),
}

impl Reads {
    /// At most `concurrent_max` calls at once.
    pub(super) fn new(
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        concurrent_max: usize,
        failures: Failures,
    ) -> Self {
        Self { store, limiter: Limiter::new(concurrent_max), metrics, failures }
    }

    /// Runs a read on the blocking pool.
    ///
    /// # Errors
    /// The response to send instead.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Response<Body>> {
        let permit = self.permit().await?;
        self.run_with(permit, read).await
    }

    /// Waits for the right to one read.
    ///
    /// # Errors
    /// The response to send instead, if that takes too long.
    pub(super) async fn permit(&self) -> Result<Permit, Response<Body>> {
        let permit = tokio::time::timeout(PERMIT_TIMEOUT, self.limiter.permit()).await;
        permit.map_err(|_| error::unavailable("too many reads are under way"))
    }

    /// Waits for the right to one read for as long as that takes, for who can wait.
    pub(super) async fn patient_permit(&self) -> Permit {
        self.limiter.permit().await
    }

    /// Runs a read on the blocking pool.
    ///
    /// # Errors
    /// The response to send instead.
    pub(super) async fn run_with<T: Send + 'static>(
        &self,
        permit: Permit,
        read: impl FnOnce(&dyn Store) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Response<Body>> {
        self.run_keeping(permit, read).await.map(|(value, _)| value)
    }

    /// Runs a read, and gives its permit back with what was read. Whoever holds it until there is room for that keeps others
    /// from reading what there is no room for.
    ///
    /// # Errors
    /// The response to send instead.
    pub(super) async fn run_keeping<T: Send + 'static>(
        &self,
        permit: Permit,
        read: impl FnOnce(&dyn Store) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<(T, Permit), Response<Body>> {
        match permit.run_keeping(&self.store, read).await {
            Some((Ok(value), permit)) => {
                self.failures.end();
                Ok((value, permit))
            }
            Some((Err(failure), _)) => {
                self.metrics.store_errors.increment();
                self.failures.log(&failure);
                Err(error::unavailable(failure.public()))
            }
            None => Err(error::unavailable(store::FAILED)),
        }
    }
}

impl Failures {
    fn log(&self, failure: &store::Error) {
        match self {
            Self::Each(what) => tracing::error!(error = chain(failure), "{what}"),
            Self::First(failing) if failing.swap(true, Relaxed) => {}
            Self::First(_) => {
                tracing::error!(error = chain(failure), "a follower could not be read for, and tries again");
            }
        }
    }

    /// The row of failures has ended.
    fn end(&self) {
        if let Self::First(failing) = self {
            failing.store(false, Relaxed);
        }
    }
}

/// How long a client may take for so many bytes that are in memory for it alone.
pub(super) fn time_to_take(bytes: usize) -> Duration {
    HOLD.saturating_add(Duration::from_secs(u64::try_from(bytes / HOLD_BYTES_A_SECOND).unwrap_or(u64::MAX)))
}

/// Limits how many calls of one kind run at once, so that requests do not queue up threads behind a disk that hangs.
#[derive(Debug)]
pub(super) struct Limiter(Arc<Semaphore>);

/// The right to one call.
#[derive(Debug)]
pub(super) struct Permit(#[expect(dead_code, reason = "it is held")] Option<OwnedSemaphorePermit>);

impl Limiter {
    /// A limiter with this many permits.
    pub(super) fn new(permits: usize) -> Self {
        Self(Arc::new(Semaphore::new(permits)))
    }

    /// Waits for a permit.
    pub(super) async fn permit(&self) -> Permit {
        // It fails only for a semaphore that is closed, which this one never is.
        Permit(Arc::clone(&self.0).acquire_owned().await.ok())
    }

    /// A permit, if there is one at once.
    pub(super) fn permit_now(&self) -> Option<Permit> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(|permit| Permit(Some(permit)))
    }
}

/// Bounds the memory that requests of one kind hold.
#[derive(Debug)]
pub(super) struct Budget {
    kib: Arc<Semaphore>,
    kib_max: u32,
}

/// A part of a [`Budget`].
#[derive(Debug)]
pub(super) struct Room(OwnedSemaphorePermit);

impl Room {
    fn kib(&self) -> u32 {
        u32::try_from(self.0.num_permits()).unwrap_or(u32::MAX)
    }
}

impl Budget {
    /// A budget of so many KiB.
    pub(super) fn new(kib_max: u32) -> Self {
        Self { kib: Arc::new(Semaphore::new(usize::try_from(kib_max).unwrap_or(usize::MAX))), kib_max }
    }

    /// Waits for room. What is larger than the whole budget gets that.
    ///
    /// # Errors
    /// The response to send instead, if that takes too long.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room, Response<Body>> {
        let room = Arc::clone(&self.kib).acquire_many_owned(self.kib(bytes));
        match tokio::time::timeout(PERMIT_TIMEOUT, room).await {
            Ok(Ok(room)) => Ok(Room(room)),
            _ => Err(error::unavailable("too much was read that its clients have not taken yet")),
        }
    }

    /// The same, if there is room at once.
    pub(super) fn room_now(&self, bytes: usize) -> Option<Room> {
        Arc::clone(&self.kib).try_acquire_many_owned(self.kib(bytes)).ok().map(Room)
    }

    /// What is held, and the whole budget, in bytes.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let kib = |kib: usize| u64::try_from(kib).unwrap_or(u64::MAX).saturating_mul(1024);
        let max = usize::try_from(self.kib_max).unwrap_or(usize::MAX);
        (kib(max.saturating_sub(self.kib.available_permits())), kib(max))
    }

    /// Makes the room as large as so many bytes need; `false` if there is not that much at once.
    pub(super) fn grow(&self, room: &mut Option<Room>, bytes: usize) -> bool {
        let more = self.kib(bytes).saturating_sub(room.as_ref().map_or(0, Room::kib));
        let Ok(more) = Arc::clone(&self.kib).try_acquire_many_owned(more) else { return false };
        match room {
            Some(Room(held)) => held.merge(more),
            None => *room = Some(Room(more)),
        }
        true
    }

    /// The part of the budget that so many bytes take, in KiB.
    fn kib(&self, bytes: usize) -> u32 {
        u32::try_from(bytes >> 10).unwrap_or(u32::MAX).saturating_add(1).min(self.kib_max)
    }
}

impl Permit {
    /// Calls the store on the blocking pool; `None` if the call panicked, which is logged. The permit is held until the call
    /// ends, whether or not the caller still waits for it.
    pub(super) async fn run<T: Send + 'static>(
        self,
        store: &Arc<dyn Store>,
        call: impl FnOnce(&dyn Store) -> T + Send + 'static,
    ) -> Option<T> {
        self.run_keeping(store, call).await.map(|(result, _)| result)
    }

    /// The same, and gives the permit back.
    async fn run_keeping<T: Send + 'static>(
        self,
        store: &Arc<dyn Store>,
        call: impl FnOnce(&dyn Store) -> T + Send + 'static,
    ) -> Option<(T, Self)> {
        let store = Arc::clone(store);
        // If nobody waits for them any more, result and permit are dropped when the call ends.
        tokio::task::spawn_blocking(move || (call(store.as_ref()), self)).await.ok()
    }
}

/// Lets requests with the read token through, and reads of who has signed in to the page; all requests if no token is set.
pub(super) async fn authorize(State(app): State<Arc<App>>, request: Request, next: Next) -> Response<Body> {
    match &app.settings.read_token {
        Some(token) if !has_token(&request, token) => match session::end_of(&app, &request) {
            Some(end) => session::tell_end(next.run(request).await, end),
            None => unauthorized("missing or wrong read token"),
        },
        _ => next.run(request).await,
    }
}

/// Lets requests with the admin token through, and no others.
pub(super) async fn authorize_admin(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    match &app.settings.admin_token {
        Some(token) if has_token(&request, token) => next.run(request).await,
        _ => unauthorized("missing or wrong admin token"),
    }
}

fn has_token(request: &Request, token: &Secret) -> bool {
    let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
    given.is_some_and(|given| same_secret(given, token.expose()))
}

/// 401, with the scheme by which a request says a token.
pub(super) fn unauthorized(why: &str) -> Response<Body> {
    let mut response = error::detail(StatusCode::UNAUTHORIZED, why);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1; the scheme in any case).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_ten_seconds_and_one_more_for_each_16_kib() {
        for (bytes, seconds) in [(0, 10), ((16 << 10) - 1, 10), (16 << 10, 11), (1 << 20, 74)] {
            assert_eq!(time_to_take(bytes), Duration::from_secs(seconds), "{bytes}");
        }
    }

    #[test]
    fn a_budget_is_not_exceeded_and_what_is_larger_gets_all_of_it() {
        let budget = Budget::new(64);
        let half = budget.room_now(31 << 10).unwrap();
        assert!(budget.room_now(32 << 10).is_none());
        let other = budget.room_now(31 << 10).unwrap();
        assert!(budget.room_now(0).is_none());
        drop((half, other));
        let all = budget.room_now(1 << 30).unwrap();
        assert!(budget.room_now(1).is_none());
        drop(all);
        assert!(budget.room_now(1).is_some());
        let mut room = None;
        assert!(budget.grow(&mut room, 1 << 10) && budget.grow(&mut room, 30 << 10));
        assert_eq!(budget.bytes(), (31 << 10, 64 << 10));
        let half = budget.room_now(31 << 10);
        assert!(half.is_some() && budget.grow(&mut room, 31 << 10) && !budget.grow(&mut room, 32 << 10));
        drop(half);
        assert!(budget.grow(&mut room, 1 << 30) && budget.room_now(0).is_none());
    }
}
