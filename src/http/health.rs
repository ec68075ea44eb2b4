//! The probes: whether the process runs, and whether it can store and read.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Serialize;

use super::{App, error};
use crate::store;
use crate::telemetry::chain;

/// Maximum time for a readiness check.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
struct Health {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// `GET /health/live`
pub(super) async fn live() -> Response<Body> {
    error::json(StatusCode::OK, &Health { status: "ok", detail: None })
}

/// `GET /health/ready`: each check reads a row and writes durably. A secret is always set, since the service does not start
/// without one.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    if app.draining.load(Relaxed) {
        return not_ready("the service is stopping".to_owned());
    }
    match tokio::time::timeout(READY_TIMEOUT, check(&app)).await {
        Ok(Ok(())) => error::json(StatusCode::OK, &Health { status: "ready", detail: None }),
        Ok(Err(reason)) => not_ready(reason.to_owned()),
        Err(_) => not_ready(format!("the database did not answer in {} seconds", READY_TIMEOUT.as_secs())),
    }
}

async fn check(app: &App) -> Result<(), &'static str> {
    match app.readiness.permit().await.run(&app.store, |store| store.ready()).await {
        Some(Ok(())) => Ok(()),
        Some(Err(error)) => {
            tracing::warn!(error = chain(&error), "not ready");
            Err(error.public())
        }
        None => Err(store::FAILED),
    }
}

fn not_ready(detail: String) -> Response<Body> {
    error::json(StatusCode::SERVICE_UNAVAILABLE, &Health { status: "not_ready", detail: Some(detail) })
}
