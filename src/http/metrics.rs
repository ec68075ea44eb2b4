//! `GET /metrics`: the page that Prometheus reads. Asks nothing of the store's data, so that it answers when that does
//! not; where the disk does not say how full it is, the page comes without that.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response};
use tokio::sync::Mutex;

use super::{App, error};
use crate::metrics;
use crate::store::Space;

/// Longest time that the page waits for the disk.
const SPACE_TIMEOUT: Duration = Duration::from_secs(1);

/// One look at the disk at a time: scrapes must not queue up behind one that hangs.
#[derive(Debug, Default)]
pub(super) struct Measuring(Arc<Mutex<()>>);

/// Answers the request.
pub(super) async fn show(State(app): State<Arc<App>>) -> Response<Body> {
    let space = tokio::time::timeout(SPACE_TIMEOUT, space(&app)).await.ok().flatten();
    let mut response = Response::new(Body::from(app.metrics.page(&app.gauges(space))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
    error::private(response)
}

/// On a thread that may wait: to ask how full a disk is takes microseconds, unless it hangs.
async fn space(app: &App) -> Option<Space> {
    let turn = Arc::clone(&app.measuring.0).lock_owned().await;
    let store = Arc::clone(&app.store);
    let measured = tokio::task::spawn_blocking(move || {
        let space = store.space();
        drop(turn);
        space
    });
    measured.await.ok().flatten()
}
