//! `GET /metrics`: the page that Prometheus reads. It works while the store fails: if the disk cannot be measured, or the
//! cursors cannot be read, it comes without their metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};

use super::{App, error};
use crate::metrics::{self, Gauges};

/// Maximum time for measuring the disk and, at the same time, for reading the cursors.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Handles the route.
pub(super) async fn show(State(app): State<Arc<App>>) -> Response<Body> {
    // Measuring takes microseconds, unless the disk hangs.
    let space = async { app.measuring.permit().await.run(&app.store, |store| store.space()).await.flatten() };
    let cursors = async { app.lags.permit().await.run(&app.store, |store| store.cursors()).await };
    let (space, cursors) =
        tokio::join!(tokio::time::timeout(TIMEOUT, space), tokio::time::timeout(TIMEOUT, cursors));
    let cursors = cursors.ok().flatten().and_then(Result::ok).unwrap_or_default();
    let gauges = Gauges {
        cursor_lags: cursors.into_iter().map(|cursor| (cursor.name, cursor.lag)).collect(),
        ..app.gauges(space.ok().flatten())
    };
    let mut response = Response::new(Body::from(app.metrics.page(&gauges)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    error::private(response)
}
