//! `GET /stats`: aggregates over all messages.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;

use super::{App, error};

/// Handles the route.
pub(super) async fn show(State(app): State<Arc<App>>) -> Response<Body> {
    match app.reads.run(|store| store.stats()).await {
        Ok(stats) => error::data(&stats),
        Err(response) => response,
    }
}
