//! Calls of the store from requests: the check of the read token, the limit of concurrent calls, and the response when
//! the store fails.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::middleware::Next;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{App, error};
use crate::metrics::Metrics;
use crate::signature::same_secret;
use crate::store::{self, Store};
use crate::telemetry::chain;

/// Maximum number of concurrent reads.
const CONCURRENT_MAX: usize = 4;
/// Maximum time that a read waits for its permit.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The store, with a bounded number of concurrent reads.
#[derive(Debug)]
pub(super) struct Reads {
    store: Arc<dyn Store>,
    limiter: Limiter,
    metrics: Arc<Metrics>,
}

impl Reads {
    pub(super) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { store, limiter: Limiter::new(CONCURRENT_MAX), metrics }
    }

    /// Runs a read on the blocking pool.
    ///
    /// # Errors
    /// The response to send instead.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn Store) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Response<Body>> {
        let Ok(permit) = tokio::time::timeout(PERMIT_TIMEOUT, self.limiter.permit()).await else {
            return Err(error::unavailable("too many reads are under way"));
        };
        match permit.run(&self.store, read).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(failure)) => {
                self.metrics.store_errors.increment();
                tracing::error!(error = chain(&failure), "a read failed");
                Err(error::unavailable(failure.public()))
            }
            None => Err(error::unavailable(store::FAILED)),
        }
    }
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
}

impl Permit {
    /// Calls the store on the blocking pool; `None` if the call panicked, which is logged. The permit is held until the call
    /// ends, whether or not the caller still waits for it.
    pub(super) async fn run<T: Send + 'static>(
        self,
        store: &Arc<dyn Store>,
        call: impl FnOnce(&dyn Store) -> T + Send + 'static,
    ) -> Option<T> {
        let store = Arc::clone(store);
        let running = tokio::task::spawn_blocking(move || {
            let result = call(store.as_ref());
            drop(self);
            result
        });
        running.await.ok()
    }
}

/// Lets requests with the read token through, or all requests if no token is set.
pub(super) async fn authorize(State(app): State<Arc<App>>, request: Request, next: Next) -> Response<Body> {
    let Some(token) = &app.settings.read_token else { return next.run(request).await };
    let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
    if given.is_some_and(|given| same_secret(given, token.expose())) {
        return next.run(request).await;
    }
    let mut response = error::detail(StatusCode::UNAUTHORIZED, "missing or wrong read token");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// The token of `Authorization: Bearer …` (RFC 6750, section 2.1; the scheme in any case).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}
