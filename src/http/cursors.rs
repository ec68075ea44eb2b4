//! `/cursors`: the names under which followers keep their places.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::body;
use super::error::{data, detail, private, unprocessable};
use super::{App, last_segment};
use crate::clock::received_at;
use crate::cursor::{CURSORS_MAX, Cursor, CursorName, Move, Moved};
use crate::event::Position;
use crate::query::POSITION;
use crate::validation::{Location, ValidationError};

/// Maximum size of the body that moves a cursor, in bytes.
const BODY_BYTES_MAX: usize = 4 << 10;

/// Handles `GET /cursors`.
pub(super) async fn list(State(app): State<Arc<App>>) -> Response<Body> {
    match app.reads.run(|store| store.cursors()).await {
        Ok(cursors) => data(&json!({ "data": cursors })),
        Err(response) => response,
    }
}

/// Handles `GET /cursors/{name}`.
pub(super) async fn show(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match of_name(&app, &last_segment(request.uri().path())).await {
        Ok(cursor) => tagged(&cursor),
        Err(response) => response,
    }
}

/// The cursor of a name.
///
/// # Errors
/// The response to send instead: 404 for every name that no cursor has.
pub(super) async fn of_name(app: &App, name: &str) -> Result<Cursor, Response<Body>> {
    let name = CursorName::new(name).map_err(|_| unknown())?;
    app.reads.run(move |store| store.cursor(&name)).await?.ok_or_else(unknown)
}

/// Handles `PUT /cursors/{name}`.
pub(super) async fn put(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match moved(&app, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn moved(app: &App, request: Request) -> Result<Response<Body>, Response<Body>> {
    let (parts, body) = request.into_parts();
    let given = last_segment(parts.uri.path());
    let name = CursorName::new(&given).map_err(|bad| {
        let wrong = ValidationError::field("string_pattern_mismatch", "name", bad.to_string(), given.into());
        unprocessable("path", &[wrong])
    })?;
    let expected = precondition(&parts.headers)?;
    let body = body::read(body, BODY_BYTES_MAX)
        .await
        .map_err(|error| error.response("request body is too large"))?;
    let to = position(&body).map_err(|wrong| unprocessable("body", &wrong))?;
    let to = Move { name, expected, to, at: received_at() };
    match app.cursor_moves.run(move |store| store.move_cursor(&to)).await? {
        Moved::Done(cursor) => Ok(tagged(&cursor)),
        Moved::Elsewhere(position) => {
            let detail = match position {
                Some(_) => "the cursor is at another position",
                None => "there is no cursor of this name",
            };
            let answer = json!({ "detail": detail, "position": position });
            Ok(private(super::error::json(StatusCode::PRECONDITION_FAILED, &answer)))
        }
        Moved::NoSuchEvent => {
            Ok(private(detail(StatusCode::GONE, "no event of this database has this position")))
        }
        Moved::TooMany => {
            Ok(detail(StatusCode::CONFLICT, &format!("there are {CURSORS_MAX} cursors already; delete one")))
        }
    }
}

/// Handles `DELETE /cursors/{name}`.
pub(super) async fn delete(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let Ok(name) = CursorName::new(&last_segment(request.uri().path())) else { return unknown() };
    match app.cursor_moves.run(move |store| store.delete_cursor(&name)).await {
        Ok(true) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Ok(false) => unknown(),
        Err(response) => response,
    }
}

/// The position that the cursor must have for the move, by `If-Match` or `If-None-Match`; `None` if there must be no cursor.
#[expect(clippy::result_large_err, reason = "the error is the response")]
fn precondition(headers: &HeaderMap) -> Result<Option<Position>, Response<Body>> {
    let wrong = |name: &HeaderName, reason: &str, given: &HeaderValue| {
        let given = String::from_utf8_lossy(given.as_bytes()).into_owned();
        let error = ValidationError::field("value_error", name.as_str(), reason, given.into());
        unprocessable("header", &[error])
    };
    for name in [&IF_MATCH, &IF_NONE_MATCH] {
        if let Some(second) = headers.get_all(name).iter().nth(1) {
            return Err(wrong(name, "The header should come once", second));
        }
    }
    match (headers.get(IF_MATCH), headers.get(IF_NONE_MATCH)) {
        (None, None) => Err(detail(
            StatusCode::PRECONDITION_REQUIRED,
            "say which position the move replaces, with If-Match, or that there is no cursor yet, with If-None-Match: *",
        )),
        (None, Some(any)) if any == "*" => Ok(None),
        (None, Some(given)) => Err(wrong(&IF_NONE_MATCH, "Input should be *", given)),
        (Some(_), Some(given)) => Err(wrong(
            &IF_NONE_MATCH,
            "If-Match and If-None-Match exclude each other; leave out one of them",
            given,
        )),
        (Some(tag), None) => {
            let quoted = tag.to_str().ok().and_then(|tag| tag.strip_prefix('"')?.strip_suffix('"'));
            let position = quoted.and_then(|position| position.parse().ok());
            let reason = "Input should be the position that the move replaces, in double quotes";
            position.map(Some).ok_or_else(|| wrong(&IF_MATCH, reason, tag))
        }
    }
}

/// The position in the body `{"position":"…"}`.
fn position(body: &[u8]) -> Result<Position, Vec<ValidationError>> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        let location = Location::Offset(offset(body, error.line(), error.column()));
        let reason = format!("JSON decode error: {error}");
        vec![ValidationError { kind: "json_invalid", location, reason, input: json!({}) }]
    })?;
    let Value::Object(members) = &value else {
        let reason = "Input should be a valid dictionary".to_owned();
        return Err(vec![ValidationError {
            kind: "dict_type",
            location: Location::Whole,
            reason,
            input: value,
        }]);
    };
    let Some(given) = members.get("position") else {
        return Err(vec![ValidationError::field("missing", "position", "Field required", value)]);
    };
    let wrong = |kind, reason| vec![ValidationError::field(kind, "position", reason, given.clone())];
    let text = given.as_str().ok_or_else(|| wrong("string_type", "Input should be a valid string"))?;
    text.parse().map_err(|_| wrong("value_error", POSITION))
}

/// The byte at this line and column, both counted from 1.
fn offset(body: &[u8], line: usize, column: usize) -> usize {
    let before = body.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
    before.map(<[u8]>::len).sum::<usize>() + column.saturating_sub(1)
}

/// The cursor, with its position as the tag that `If-Match` wants.
fn tagged(cursor: &Cursor) -> Response<Body> {
    let mut response = data(cursor);
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", cursor.position)) {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

fn unknown() -> Response<Body> {
    detail(StatusCode::NOT_FOUND, "no cursor has this name")
}
