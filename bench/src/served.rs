//! Lyftr's own HTTP stack around another router, for the programs that Lyftr is measured next to.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use lyftr::metrics::Metrics;
use lyftr::server::{self, Handler, Limits, Registry, RequestBody};
use tokio::signal::unix::{SignalKind, signal};
use tower::Service as _;

/// Serves `router`, and a probe beside it, on this port of 127.0.0.1 until SIGTERM, as Lyftr does.
pub async fn serve(router: Router, port: u16) -> anyhow::Result<()> {
    let listener = server::bind("127.0.0.1", port).await?;
    let registry = Registry::new(Limits::default(), Arc::new(Metrics::default()));
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        terminate.recv().await;
    };
    server::serve(listener, Served(router.route("/health/live", get(ok))), registry, stop).await;
    Ok(())
}

#[derive(Clone)]
struct Served(Router);

impl Handler for Served {
    async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        match self.0.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn refuse(&self, status: StatusCode) -> Response<String> {
        let mut response = Response::new("refused".to_owned());
        *response.status_mut() = status;
        response
    }
}

/// What Lyftr answers to a message.
pub async fn ok() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
}
