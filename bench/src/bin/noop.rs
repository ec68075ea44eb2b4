//! The floor under every figure of the benchmark: Lyftr's own HTTP stack, accept loop, limits and allocator
//! included, that reads the same bodies and answers `{"status":"ok"}` to each. It checks no signature, parses
//! no JSON, stores and logs nothing, so the difference to Lyftr is what Lyftr's own work costs.

use axum::Router;
use axum::body::Bytes;
use axum::response::IntoResponse;
use axum::routing::post;
use clap::Parser;

#[path = "../served.rs"]
mod served;

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
    served::serve(Router::new().route("/webhook", post(webhook)), arguments.port).await
}

/// Reads the whole body, as Lyftr has to, and forgets it.
async fn webhook(_body: Bytes) -> impl IntoResponse {
    served::ok().await
}
