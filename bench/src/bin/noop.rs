//! The floor under every figure of the benchmark: Lyftr's own HTTP stack, accept loop, limits and allocator
//! included, that reads the same bodies and answers `{"status":"ok"}` to each. It checks no signature, parses
//! no JSON, stores and logs nothing, so the difference to Lyftr is what Lyftr's own work costs.

use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use clap::Parser;
use hyper::body::Incoming;
use lyftr::metrics::Metrics;
use lyftr::server::{self, Handler, Limits, Table};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tower::Service as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Answers `{"status":"ok"}` to every POST /webhook, and does nothing else.
#[derive(Debug, Parser)]
struct Arguments {
    /// Port to listen on, on 127.0.0.1
    #[arg(long)]
    port: u16,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let router = Router::new().route("/webhook", post(webhook)).route("/health/live", get(ok));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    let table = Table::new(Limits::default(), Arc::new(Metrics::default()));
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        terminate.recv().await;
    };
    server::serve(listener, Noop(router), table, stop).await;
    Ok(())
}

#[derive(Clone)]
struct Noop(Router);

impl Handler for Noop {
    async fn call(&self, request: Request<Incoming>) -> Response<Body> {
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

/// Reads the whole body, as Lyftr has to, and forgets it.
async fn webhook(_body: Bytes) -> impl IntoResponse {
    ok().await
}

async fn ok() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
}
