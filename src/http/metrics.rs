//! `GET /metrics`: the page that Prometheus reads. It works while the store fails, since it reads no stored data. If the
//! disk cannot be measured, the page comes without the disk's metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};

use super::{App, error};
use crate::metrics;

/// Maximum time for measuring the disk.
const SPACE_TIMEOUT: Duration = Duration::from_secs(1);

/// Handles the route.
pub(super) async fn show(State(app): State<Arc<App>>) -> Response<Body> {
    // Measuring takes microseconds, unless the disk hangs.
    let space = async { app.measuring.permit().await.run(&app.store, |store| store.space()).await.flatten() };
    let space = tokio::time::timeout(SPACE_TIMEOUT, space).await.ok().flatten();
    let mut response = Response::new(Body::from(app.metrics.page(&app.gauges(space))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    error::private(response)
}
