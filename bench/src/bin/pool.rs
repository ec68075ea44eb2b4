//! What most services do that keep messages in PostgreSQL, and what Lyftr is compared with there: Lyftr's own HTTP
//! stack, signature check and parser, and then one `INSERT … ON CONFLICT DO NOTHING` per request on a connection
//! from a pool. Table and indexes are Lyftr's own, which `lyftr migrate` has made. It logs nothing, and does not
//! look whether a message that is there already is the same.
//!
//! `DATABASE_URL` and `WEBHOOK_SECRET` come from the environment.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use clap::Parser;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use lyftr::message::{self, Message};
use lyftr::signature::{Key, Signature};
use tokio_postgres::NoTls;

#[path = "../served.rs"]
mod served;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A message's arrival number is that of its batch, which here is the message alone, times 65,536. It is said in
/// `lyftr.batch`, so that no trigger gives the message another one.
const INSERT: &str = "\
    WITH taken AS MATERIALIZED (
        SELECT nextval('message_batch') AS number
    ), batch AS MATERIALIZED (
        SELECT number, set_config('lyftr.batch', number::text, true) FROM taken
    )
    INSERT INTO message (message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)
    SELECT $1::text, number << 16, $2::text, $3::text, $4::bigint, $5::integer, $6::smallint, $7::text FROM batch
    ON CONFLICT (message_id) DO NOTHING";

/// Verifies, parses and inserts what is posted to /webhook, each message by a statement of its own.
#[derive(Debug, Parser)]
struct Arguments {
    /// Port to listen on, on 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Connections to PostgreSQL
    #[arg(long, default_value_t = 16)]
    pool: usize,
    /// The database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database: String,
    /// The key of the signatures
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true)]
    secret: String,
}

struct App {
    key: Key,
    pool: Pool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let config: tokio_postgres::Config = arguments.database.parse().context("DATABASE_URL")?;
    let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let pool = Pool::builder(Manager::from_config(config, NoTls, how)).max_size(arguments.pool).build()?;
    let app = Arc::new(App { key: Key::new(arguments.secret.as_bytes()), pool });
    // Opened now, so that none is opened in the measured window.
    open_all(&app.pool, arguments.pool).await?;

    served::serve(Router::new().route("/webhook", post(webhook)).with_state(app), arguments.port).await
}

/// Opens all connections and prepares the statement on each.
async fn open_all(pool: &Pool, size: usize) -> anyhow::Result<()> {
    let mut all = Vec::with_capacity(size);
    for _ in 0..size {
        let client = pool.get().await?;
        client.prepare_cached(INSERT).await?;
        all.push(client);
    }
    Ok(())
}

async fn webhook(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let Some(signature) =
        headers.get("x-signature").and_then(|value| Signature::parse(value.as_bytes()).ok())
    else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    if app.key.verify(&body, &signature).is_err() {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(message) = message::parse(&body) else {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    };
    match insert(&app.pool, &message).await {
        Ok(()) => served::ok().await.into_response(),
        Err(error) => {
            eprintln!("not stored: {error:#}");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

/// The whole of the store: one statement, which is one transaction.
async fn insert(pool: &Pool, message: &Message) -> anyhow::Result<()> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(INSERT).await?;
    let Message { message_id, from, to, ts, text } = message;
    let (second, nanosecond, digits) = (ts.second(), i32::try_from(ts.nanosecond())?, i16::from(ts.digits()));
    client
        .execute(
            &statement,
            &[
                &message_id.as_str(),
                &from.as_str(),
                &to.as_str(),
                &second,
                &nanosecond,
                &digits,
                &text.as_deref(),
            ],
        )
        .await?;
    Ok(())
}
