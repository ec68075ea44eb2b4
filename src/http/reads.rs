//! What all reads share: who may read, how many at once, and what is answered when the store cannot.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::middleware::Next;

use super::turns::Turns;
use super::{App, error};
use crate::metrics::Metrics;
use crate::signature::same_secret;
use crate::store::{Error, Store};
use crate::telemetry::chain;

/// Most questions that the store works on at once.
const CONCURRENT_MAX: usize = 4;
/// Longest time that a question waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// Questions to the store, a bounded number at once.
#[derive(Debug)]
pub(super) struct Reads {
    store: Arc<dyn Store>,
    turns: Turns,
    metrics: Arc<Metrics>,
}

impl Reads {
    pub(super) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { store, turns: Turns::new(CONCURRENT_MAX), metrics }
    }

    /// Asks the store, on a thread that may wait.
    ///
    /// # Errors
    /// The answer to give instead.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Store) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Response<Body>> {
        let Ok(turn) = tokio::time::timeout(TURN_TIMEOUT, self.turns.next()).await else {
            return Err(error::unavailable("too many reads are under way"));
        };
        match turn.ask(&self.store, question).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(failure)) => {
                self.metrics.store_errors.increment();
                tracing::error!(error = chain(&failure), "a read failed");
                Err(error::unavailable(match failure {
                    Error::Unavailable { reason, .. } => reason,
                    Error::Failed(_) => "the database failed",
                }))
            }
            None => Err(error::unavailable("the database failed")),
        }
    }
}

/// Lets through who holds the read token, or everybody if there is none.
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
