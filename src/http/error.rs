//! Answers that say no: `{"detail": …}` with a text, or with a list in the style of FastAPI.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use crate::validation::{Place, ValidationError};

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Seconds after which a sender that was told 503 should try again.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// What stands in the `detail` of an unknown path and so on; our own words, never a cause.
pub(super) fn detail(status: StatusCode, text: &str) -> Response<Body> {
    json(status, &json!({ "detail": text }))
}

/// 503, and when to try again.
pub(super) fn unavailable(text: &str) -> Response<Body> {
    let mut response = detail(StatusCode::SERVICE_UNAVAILABLE, text);
    response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S);
    response
}

/// 422, with every error; `part` is the part of the request they are about.
pub(super) fn unprocessable(part: &'static str, errors: &[ValidationError]) -> Response<Body> {
    #[derive(Serialize)]
    struct Answer<'a> {
        detail: Vec<Item<'a>>,
    }
    let detail = errors.iter().map(|error| Item::new(part, error)).collect();
    json(StatusCode::UNPROCESSABLE_ENTITY, &Answer { detail })
}

/// Any value as the body.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // What is serialized here has string keys only, so it cannot fail.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// An answer with messages or figures in it, which nobody in between may keep.
pub(super) fn data(value: &impl Serialize) -> Response<Body> {
    private(json(StatusCode::OK, value))
}

/// Lets nobody in between keep the answer.
pub(super) fn private(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

/// Ends the connection with this answer: what follows on it was not read, or cannot be trusted.
pub(super) fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, CLOSE);
    response
}

pub(super) async fn not_found() -> Response<Body> {
    detail(StatusCode::NOT_FOUND, "Not Found")
}

/// The router adds `Allow`.
pub(super) async fn method_not_allowed() -> Response<Body> {
    detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")
}

/// An error in the form that FastAPI gives it.
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
        match &error.place {
            Place::Whole => {}
            Place::Field(name) => loc.push(name.as_str().into()),
            Place::Offset(offset) => loc.push((*offset).into()),
        }
        Self { r#type: error.kind, loc, msg: &error.reason, input: &error.input }
    }
}
