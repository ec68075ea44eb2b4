//! `GET /events`: the log, read on from a position, as pages, as a stream or as an export; and `GET /events/{position}`: one event.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, Response, StatusCode};
use serde_json::Value;

use super::error::{self, JSON};
use super::{App, accept, cursors, export, last_segment};
use crate::event::{LogRead, Position, Start};
use crate::query::{self, Form, LogQuery, Origin, POSITION};
use crate::server::Presence;
use crate::validation::ValidationError;

mod body;
mod follower;
mod page;
mod stream;

/// Maximum size of a piece that is handed to the connection, in bytes: its buffer grows to hold one.
pub(super) const PIECE_BYTES: usize = 32 << 10;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Handles `/events`.
pub(super) async fn read(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match answer(&app, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn answer(app: &Arc<App>, request: Request) -> Result<Response<Body>, Response<Body>> {
    let (request, _) = request.into_parts();
    let last_event_id = last_event_id(&request.headers)?;
    let accepted = accept::preferred(&request.headers, accept::OF_EVENTS);
    let query = query::parse_log(request.uri.query().unwrap_or_default(), last_event_id, accepted)
        .map_err(|errors| error::unprocessable("query", &errors))?;
    let LogQuery { origin, filter, form, limit, wait_seconds } = query;
    let read = async {
        let start = match origin {
            Origin::At(start) => start,
            Origin::Cursor(name) => Start::After(cursors::of_name(app, &name).await?.position),
        };
        Ok(LogRead { start, filter, limit })
    };
    let presence = request.extensions.get::<Presence>().cloned().unwrap_or_default();
    match form {
        Form::Page => {
            // The answer to HEAD has no body that could be worth a wait.
            let wait_seconds = if request.method == Method::HEAD { 0 } else { wait_seconds };
            page::answer(app, read.await?, wait_seconds, &presence).await
        }
        Form::Stream => stream::answer(app, read.await?, presence).await,
        Form::Export(export) => {
            let events = async { Ok(export::Events::new(read.await?, export.limit)) };
            export::answer(app, &request, export, events).await
        }
    }
}

/// The position in `Last-Event-ID`, by which the client of a stream goes on.
#[expect(clippy::result_large_err, reason = "the error is the response")]
fn last_event_id(headers: &HeaderMap) -> Result<Option<Position>, Response<Body>> {
    let given = headers.get(LAST_EVENT_ID).map_or(&b""[..], |value| value.as_bytes());
    query::last_event_id(given).map_err(|wrong| error::unprocessable("header", &wrong))
}

/// Handles `/events/{position}`.
pub(super) async fn one(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let given = last_segment(request.uri().path());
    let Ok(position) = given.parse::<Position>() else {
        let wrong = ValidationError::field("value_error", "position", POSITION, Value::from(given));
        return error::unprocessable("path", &[wrong]);
    };
    match app.reads.run(move |store| store.event_at(position)).await {
        Ok(Some(recorded)) => page_of(Body::from(recorded.json())),
        Ok(None) => error::private(error::detail(StatusCode::NOT_FOUND, "no event has this position")),
        Err(response) => response,
    }
}

/// 410: the position where a read shall begin names no event of this database.
pub(super) fn gone() -> Response<Body> {
    error::private(error::detail(
        StatusCode::GONE,
        "no event of this database has this position: it has lost events, or is another one",
    ))
}

/// A response with JSON that was made already, which caches must not keep.
fn page_of(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(axum::http::header::CONTENT_TYPE, JSON);
    error::private(response)
}
