//! The servers that Lyftr is measured next to, on Lyftr's own HTTP stack, accept loop, limits and allocator:
//!
//! - `noop` reads each body and answers `{"status":"ok"}`, so the difference to Lyftr is the cost of Lyftr's own work;
//! - `pool` is the common design on PostgreSQL: signature check, parser, and then one `INSERT … ON CONFLICT DO NOTHING`
//!   per request on one of 16 connections. Its table has the columns and indexes of Lyftr's. It logs nothing, and does
//!   not look whether a message that is there already is the same.
//!
//! `PORT`, `DATABASE_URL` and `WEBHOOK_SECRET` come from the environment.

use std::env::var;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use lyftr::message::{self, Name};
use lyftr::metrics::Metrics;
use lyftr::server::{self, Handler, Limits, Registry, RequestBody};
use lyftr::signature::{Key, Signature};
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::NoTls;
use tower::Service as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CONNECTIONS: usize = 16;
const TABLE: &str = "\
    CREATE TABLE IF NOT EXISTS message (
        message_id text COLLATE \"C\" PRIMARY KEY, seq bigserial, sender text COLLATE \"C\" NOT NULL,
        recipient text COLLATE \"C\" NOT NULL, ts_second bigint NOT NULL, ts_nanosecond integer NOT NULL,
        ts_digits smallint NOT NULL, text text COLLATE \"C\");
    CREATE INDEX ON message (ts_second, ts_nanosecond, message_id);
    CREATE INDEX ON message (seq);
    CREATE INDEX ON message (sender, ts_second, ts_nanosecond, message_id);
    CREATE INDEX ON message (recipient, ts_second, ts_nanosecond, message_id)";
const INSERT: &str = "\
    INSERT INTO message (message_id, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)
    VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (message_id) DO NOTHING";
const OK: &str = r#"{"status":"ok"}"#;

#[tokio::main]
async fn main() -> Result<()> {
    let router = match std::env::args().nth(1).as_deref() {
        Some("noop") => Router::new().route("/webhook", post(|_body: Bytes| async { json(OK) })),
        Some("pool") => pool().await?,
        _ => anyhow::bail!("say noop or pool"),
    };
    let router = router.route("/health/live", get(|| async { json(OK) }));
    let listener = server::bind("127.0.0.1", var("PORT")?.parse()?).await?;
    let registry = Registry::new(Limits::default(), Arc::new(Metrics::default()));
    let mut terminate = signal(SignalKind::terminate())?;
    server::serve(listener, Served(router), registry, async move { _ = terminate.recv().await }).await;
    Ok(())
}

fn json(body: impl Into<Body>) -> Response<Body> {
    ([("content-type", "application/json")], body.into()).into_response()
}

#[derive(Clone)]
struct Served(Router);

impl Handler for Served {
    async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        self.0.clone().call(request).await.unwrap_or_else(|never| match never {})
    }

    fn refuse(&self, status: StatusCode) -> Response<String> {
        let mut response = Response::new("refused".to_owned());
        *response.status_mut() = status;
        response
    }
}

/// Makes the table, and opens all connections so that none is opened in the measured window.
async fn pool() -> Result<Router> {
    let config: tokio_postgres::Config = var("DATABASE_URL")?.parse().context("DATABASE_URL")?;
    let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let pool = Pool::builder(Manager::from_config(config, NoTls, how)).max_size(CONNECTIONS).build()?;
    pool.get().await?.batch_execute(TABLE).await?;
    let mut all = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = pool.get().await?;
        client.prepare_cached(INSERT).await?;
        all.push(client);
    }
    let key = Arc::new(Key::new(var("WEBHOOK_SECRET")?.as_bytes()));
    let stats = {
        let pool = pool.clone();
        move || async move { respond(total(&pool).await) }
    };
    let webhook = move |headers: HeaderMap, body: Bytes| async move {
        respond(insert(&key, &pool, &headers, &body).await)
    };
    Ok(Router::new().route("/webhook", post(webhook)).route("/stats", get(stats)))
}

fn respond(result: Result<Response<Body>>) -> Response<Body> {
    result.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    })
}

async fn insert(key: &Key, pool: &Pool, headers: &HeaderMap, body: &[u8]) -> Result<Response<Body>> {
    let signature = headers.get("x-signature").and_then(|value| Signature::parse(value.as_bytes()).ok());
    if signature.is_none_or(|signature| key.verify(body, &signature).is_err()) {
        return Ok(StatusCode::UNAUTHORIZED.into_response());
    }
    let Ok(message) = message::parse(body) else {
        return Ok(StatusCode::UNPROCESSABLE_ENTITY.into_response());
    };
    let (id, from, to) = (
        message.message_id.as_str(),
        message.from.as_ref().map(Name::as_str),
        message.to.as_ref().map(Name::as_str),
    );
    let (second, nanosecond) = (message.ts.second(), i32::try_from(message.ts.nanosecond())?);
    let (digits, text) = (i16::from(message.ts.digits()), message.text.as_deref());
    let client = pool.get().await?;
    let insert = client.prepare_cached(INSERT).await?;
    client.execute(&insert, &[&id, &from, &to, &second, &nanosecond, &digits, &text]).await?;
    Ok(json(OK))
}

async fn total(pool: &Pool) -> Result<Response<Body>> {
    let row = pool.get().await?.query_one("SELECT count(*) FROM message", &[]).await?;
    Ok(json(format!("{{\"total_messages\":{}}}", row.try_get::<_, i64>(0)?)))
}
