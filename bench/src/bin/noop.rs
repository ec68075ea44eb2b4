//! The floor under every figure of the benchmark: an HTTP server that reads the same bodies and
//! answers `{"status":"ok"}` to each. It checks no signature, parses no JSON, stores and logs
//! nothing, so the difference to Lyftr is what Lyftr's own work costs.

use std::net::Ipv4Addr;

use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use clap::Parser;
use tokio::net::TcpListener;

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
    let app = Router::new().route("/webhook", post(webhook)).route("/health/live", get(ok));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    axum::serve(listener, app).await?;
    Ok(())
}

/// Reads the whole body, as Lyftr has to, and forgets it.
async fn webhook(_body: Bytes) -> impl IntoResponse {
    ok().await
}

async fn ok() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
}
