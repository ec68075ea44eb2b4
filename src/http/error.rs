//! Error responses: `{"detail": …}` with a text, or with a list in the style of FastAPI. Also makes the other JSON
//! responses.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::validation::{Location, ValidationError};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Seconds after which a sender that got a 503 should try again.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// An error whose `detail` is a text of ours, never a cause.
pub(super) fn detail(status: StatusCode, text: &str) -> Response<Body> {
    json(status, &json!({ "detail": text }))
}

/// 503, with the time to try again.
pub(super) fn unavailable(text: &str) -> Response<Body> {
    let mut response = detail(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
    response
}

/// 503 for a follower that finds no seat.
pub(super) fn too_many_followers() -> Response<Body> {
    unavailable("too many followers are waiting for events")
}

/// 422, with every validation error; `part` is the part of the request that they are about.
pub(super) fn unprocessable(part: &'static str, errors: &[ValidationError]) -> Response<Body> {
    #[derive(Serialize)]
    struct Answer<'a> {
        detail: Vec<Item<'a>>,
    }
    let detail = errors.iter().map(|error| Item::new(part, error)).collect();
    json(StatusCode::UNPROCESSABLE_ENTITY, &Answer { detail })
}

/// A response with a value as its body.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Serialization cannot fail: all keys are strings.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// A response with messages or counts, which caches must not keep.
pub(super) fn data(value: &impl Serialize) -> Response<Body> {
    private(json(StatusCode::OK, value))
}

/// Forbids caches to keep the response.
pub(super) fn private(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

/// Ends the connection with this response: the bytes that follow were not read, or cannot be trusted.
pub(super) fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, CLOSE);
    response
}

pub(super) async fn not_found() -> Response<Body> {
    detail(StatusCode::NOT_FOUND, "Not Found")
}

/// 405. The router adds `Allow`.
pub(super) async fn method_not_allowed() -> Response<Body> {
    detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// A validation error in the form of FastAPI.
#[derive(Serialize)]
struct Item<'a> {
    r#type: &'a str,
    loc: Vec<Value>,
    msg: &'a str,
    input: &'a Value,
}

impl<'a> Item<'a> {
    fn new(part: &str, error: &'a ValidationError) -> Self {
        let mut loc = vec![Value::from(part)];
        match &error.location {
            Location::Whole => {}
            Location::Field(name) => loc.push(name.as_str().into()),
            Location::Offset(offset) => loc.push((*offset).into()),
        }
        Self { r#type: error.kind, loc, msg: &error.reason, input: &error.input }
    }
}
