//! `DELETE /events`: erases what the query selects, or counts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;
use serde_json::{Value, json};

use super::reads::Permit;
use super::{App, error};
use crate::erasure::{Erasure, Progress, Run, Wiped};
use crate::metrics::ErasureRule;
use crate::query::{self, ErasureQuery};
use crate::server::Presence;
use crate::store::{self, Store};
use crate::telemetry::chain;

/// Maximum time that a request waits for another erasure to end.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a response waits until what was erased is wiped from the files.
const WIPE_PATIENCE: Duration = Duration::from_secs(10);

/// Ends the work for a request between two steps, once nobody waits for it any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Handles the route.
pub(super) async fn erase(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let presence = request.extensions().get::<Presence>().cloned().unwrap_or_default();
    match answer(&app, request.uri().query().unwrap_or_default().to_owned(), presence).await {
        Ok(response) | Err(response) => response,
    }
}

async fn answer(app: &Arc<App>, query: String, presence: Presence) -> Result<Response<Body>, Response<Body>> {
    let ErasureQuery { erasure, dry_run } =
        query::parse_erasure(&query).map_err(|errors| error::unprocessable("query", &errors))?;
    let turn = tokio::time::timeout(TURN_TIMEOUT, app.erasing.permit()).await;
    let turn = turn.map_err(|_| error::unavailable("another erasure is under way"))?;
    let stop = Stop(Arc::default());
    let stopped = Arc::clone(&stop.0);
    let work = if dry_run { count } else { carry_out };
    let done = in_turn(app, turn, move |app, store| work(app, store, &erasure, &stopped));
    tokio::pin!(done);
    let told = tokio::select! {
        told = &mut done => told,
        () = presence.left() => {
            drop(stop);
            done.await
        }
    };
    told.map(|told| error::data(&told)).map_err(error::unavailable)
}

/// Runs the work on the blocking pool. It holds the turn until its end, whether or not the request still waits.
///
/// # Errors
/// A text for the client, who may try again.
async fn in_turn(
    app: &Arc<App>,
    turn: Permit,
    work: impl FnOnce(&App, &dyn Store) -> Result<Value, &'static str> + Send + 'static,
) -> Result<Value, &'static str> {
    let for_work = Arc::clone(app);
    let done = turn.run(&app.store, move |store| work(&for_work, store)).await;
    done.unwrap_or(Err(store::FAILED))
}

fn run<'a, T>(
    app: &'a App,
    store: &'a dyn Store,
    stopped: &'a AtomicBool,
    work: impl FnOnce(&Run<'_>) -> T,
) -> T {
    let is_busy = || app.inbox.waiting() > 0;
    let goes_on = || !stopped.load(Relaxed) && !app.draining.load(Relaxed);
    work(&Run { store, is_busy: &is_busy, goes_on: &goes_on })
}

fn count(
    app: &App,
    store: &dyn Store,
    erasure: &Erasure,
    stopped: &AtomicBool,
) -> Result<Value, &'static str> {
    match run(app, store, stopped, |run| run.count(erasure)) {
        Ok(Progress { events, is_complete: true }) => Ok(json!({ "selected": events })),
        Ok(_) => Err("the count was ended before it was complete"),
        Err(failure) => Err(failed(app, &failure)),
    }
}

fn carry_out(
    app: &App,
    store: &dyn Store,
    erasure: &Erasure,
    stopped: &AtomicBool,
) -> Result<Value, &'static str> {
    run(app, store, stopped, |run| {
        let (Progress { events, is_complete }, result) = run.erase(erasure);
        app.tail.forget();
        app.metrics.erased(ErasureRule::Request, events);
        let rule = ErasureRule::Request.label();
        tracing::info!(rule, events, complete = is_complete, "events were erased");
        result.map_err(|failure| failed(app, &failure))?;
        if !is_complete {
            return Err("the erasure was ended before it was complete; the same request goes on with it");
        }
        let wiped = run.wipe(WIPE_PATIENCE).unwrap_or_else(|failure| {
            tracing::warn!(error = chain(&failure), "what was erased is not wiped from the files yet");
            Wiped::NotYet
        });
        let wiped = match wiped {
            Wiped::Done => Some(true),
            Wiped::NotYet | Wiped::Held => Some(false),
            Wiped::ByServer => None,
        };
        Ok(json!({ "erased": events, "wiped": wiped }))
    })
}

/// Counts and logs a failure; returns the text for the client.
fn failed(app: &App, failure: &store::Error) -> &'static str {
    app.metrics.store_errors.increment();
    tracing::error!(error = chain(failure), "an erasure failed");
    failure.public()
}
