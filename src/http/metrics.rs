//! `GET /metrics`: the page that Prometheus reads. Asks nothing of the store, so that it answers when that does not.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};

use super::{App, error};
use crate::metrics;

/// Answers the request.
pub(super) async fn show(State(app): State<Arc<App>>) -> Response<Body> {
    let mut response = Response::new(Body::from(app.metrics.page(&app.gauges())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    error::private(response)
}
