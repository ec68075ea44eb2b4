//! `GET /metrics`: the page that Prometheus reads. Asks nothing of the store's data, so that it answers when that does
//! not; where the disk does not say how full it is, the page comes without that.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};

use super::{App, error};
use crate::metrics;

/// Longest time that the page waits for the disk.
const SPACE_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers the request.
pub(super) async fn show(State(app): State<Arc<App>>) -> Response<Body> {
    // To ask how full a disk is takes microseconds, unless it hangs.
    let space = async { app.measuring.permit().await.run(&app.store, |store| store.space()).await.flatten() };
    let space = tokio::time::timeout(SPACE_TIMEOUT, space).await.ok().flatten();
    let mut response = Response::new(Body::from(app.metrics.page(&app.gauges(space))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    error::private(response)
}
