//! The service that is followed, over HTTP: its events as a stream or in pages, and its cursors.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use ureq::Body;
use ureq::http::{HeaderValue, Response};

use super::readable::visible;
use crate::cli::filters::encoded;
use crate::cli::target::Target;
use crate::config::{Environment, Secret};

/// Maximum time for a request whose response is short, and for the begin of any response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a byte after which a connection is taken for lost: three heartbeats of the service, which come every 10 s.
const SILENCE: Duration = Duration::from_secs(30);
/// Maximum size of a page: far more than the greatest event.
const PAGE_BYTES_MAX: u64 = 128 << 20;
/// Maximum size of an error response, and of the part of it that is shown.
const ERROR_BYTES_MAX: u64 = 64 << 10;
const SHOWN_CHARS_MAX: usize = 500;

/// A service, and who asks it for which events.
pub(super) struct Service {
    agent: ureq::Agent,
    /// The URL without a slash at its end.
    base: String,
    authorization: Option<HeaderValue>,
    /// The filters as parameters of a query.
    filters: Vec<String>,
}

/// A place in the log to go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// At the end, wherever that is.
    Now,
    /// Before the first event.
    Beginning,
    /// After the event with this position, which the service made.
    After(String),
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may succeed later, but not before this pause.
    Lost {
        /// In words.
        why: String,
        /// The pause that the service asks for.
        pause: Option<Duration>,
    },
    /// It will never succeed.
    Refused(Refusal),
}

/// Why a follower has to end.
#[derive(Debug)]
pub(super) struct Refusal {
    /// In words.
    pub(super) text: String,
    /// The exit code.
    pub(super) code: u8,
}

/// A page of events, each as its JSON.
#[derive(Deserialize)]
pub(super) struct Page {
    pub(super) data: Vec<Box<RawValue>>,
    pub(super) next: Option<String>,
    pub(super) end: bool,
}

/// A cursor as the service has it.
#[derive(Deserialize)]
pub(super) struct Cursor {
    pub(super) position: String,
    pub(super) lag: u64,
}

/// What came of a move of a cursor.
pub(super) enum Moved {
    Done,
    /// It has another position than expected, or is not there.
    Elsewhere(Option<String>),
}

impl Service {
    /// `filters` are parameters of a query.
    pub(super) fn new(target: &Target, token: Option<&HeaderValue>, filters: Vec<String>) -> Self {
        let config = target
            .config()
            .timeout_connect(Some(TIMEOUT))
            .timeout_send_request(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_per_read(Some(SILENCE));
        Self { agent: config.build().into(), base: target.base(), authorization: token.cloned(), filters }
    }

    /// The events after a place as a stream, which ends when the connection does. A place that came out of a stream goes on
    /// by its id, as browsers do.
    pub(super) fn stream(&self, place: &Place) -> Result<Response<Body>, Trouble> {
        let after = (*place == Place::Now).then(|| "after=now".to_owned());
        let request = self.agent.get(self.url_of_events(after)).header("Accept", "text/event-stream");
        let request = match place {
            Place::After(position) => request.header("Last-Event-ID", position),
            Place::Now | Place::Beginning => request,
        };
        let response = accepted(self.authorized(request).call())?;
        let is_stream = response.headers().get("Content-Type").is_some_and(|kind| {
            kind.as_bytes().get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
        });
        if is_stream {
            Ok(response)
        } else {
            Err(refused("what --url names answers with no stream of events"))
        }
    }

    /// A page of the events after a place.
    pub(super) fn page(&self, place: &Place, limit: u64) -> Result<Page, Trouble> {
        let after = match place {
            Place::Now => Some("after=now".to_owned()),
            Place::Beginning => None,
            Place::After(position) => Some(format!("after={}", encoded(position))),
        };
        let url = self.url_of_events(after.into_iter().chain([format!("limit={limit}")]));
        let request = self.agent.get(url).header("Accept", "application/json");
        let mut response = accepted(self.authorized(request).call())?;
        let body = response.body_mut().with_config().limit(PAGE_BYTES_MAX).read_to_string().map_err(lost)?;
        serde_json::from_str(&body).map_err(|_| refused("what --url names answers with no page of events"))
    }

    /// A cursor; `None` if there is none of this name.
    pub(super) fn cursor(&self, name: &str) -> Result<Option<Cursor>, Trouble> {
        let request = self.agent.get(self.url_of_cursor(name));
        let request = self.authorized(request).config().timeout_global(Some(TIMEOUT)).build();
        let response = request.call().map_err(lost)?;
        if response.status() == 404 {
            return Ok(None);
        }
        let mut response = accepted(Ok(response))?;
        let body = response.body_mut().read_to_string().map_err(lost)?;
        serde_json::from_str(&body).map(Some).map_err(|_| refused("what --url names answers with no cursor"))
    }

    /// Moves a cursor from the position that it is expected to have, or makes it where none is expected.
    pub(super) fn move_cursor(&self, name: &str, expected: Option<&str>, to: &str) -> Result<Moved, Trouble> {
        let request = self.agent.put(self.url_of_cursor(name)).header("Content-Type", "application/json");
        let request = match expected {
            Some(position) => request.header("If-Match", format!("\"{position}\"")),
            None => request.header("If-None-Match", "*"),
        };
        let request = self.authorized(request).config().timeout_global(Some(TIMEOUT)).build();
        let body = serde_json::json!({ "position": to }).to_string();
        let mut response = request.send(body).map_err(lost)?;
        if response.status() == 412 {
            let body = response.body_mut().read_to_string().map_err(lost)?;
            let position = serde_json::from_str::<Value>(&body).ok();
            let position = position.and_then(|body| body.get("position")?.as_str().map(ToOwned::to_owned));
            return Ok(Moved::Elsewhere(position));
        }
        accepted(Ok(response)).map(|_| Moved::Done)
    }

    fn url_of_events(&self, parameters: impl IntoIterator<Item = String>) -> String {
        let parameters: Vec<_> = parameters.into_iter().chain(self.filters.iter().cloned()).collect();
        let mark = if parameters.is_empty() { "" } else { "?" };
        format!("{}/events{mark}{}", self.base, parameters.join("&"))
    }

    fn url_of_cursor(&self, name: &str) -> String {
        format!("{}/cursors/{name}", self.base)
    }

    fn authorized<T>(&self, request: ureq::RequestBuilder<T>) -> ureq::RequestBuilder<T> {
        match &self.authorization {
            Some(token) => request.header("Authorization", token),
            None => request,
        }
    }
}

/// The header that shows the token `name`.
///
/// # Errors
/// In words, if no header can hold it.
pub(in crate::cli) fn authorization(name: &str, token: &Secret) -> Result<HeaderValue, String> {
    let mut header = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())
        .map_err(|_| format!("{name} has a character that no header can hold, such as a line end"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// The header that shows the read token, if there is one.
///
/// # Errors
/// In words, if it cannot be read, or no header can hold it.
pub(in crate::cli) fn read_authorization(environment: Environment) -> Result<Option<HeaderValue>, String> {
    let token = environment.secret("READ_TOKEN")?;
    token.map(|token| authorization("READ_TOKEN", &token)).transpose()
}

fn refused(text: impl Into<String>) -> Trouble {
    Trouble::Refused(Refusal { text: text.into(), code: 1 })
}

/// No response came, or not all of it.
pub(super) fn lost(error: impl std::fmt::Display) -> Trouble {
    Trouble::Lost { why: visible(&error.to_string()), pause: None }
}

/// The response if it is 200; otherwise what its status means for a follower.
fn accepted(response: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Trouble> {
    let mut response = response.map_err(lost)?;
    let status = response.status().as_u16();
    if status == 200 {
        return Ok(response);
    }
    let pause = response.headers().get("Retry-After").and_then(|value| value.to_str().ok()?.parse().ok());
    let body = response.body_mut().with_config().limit(ERROR_BYTES_MAX).read_to_string().unwrap_or_default();
    let detail = detail(&body);
    Err(match status {
        408 | 425 | 429 | 500.. => {
            Trouble::Lost { why: format!("{status} {detail}"), pause: pause.map(Duration::from_secs) }
        }
        401 => refused(
            "the service wants its read token, which is none or another one here: set READ_TOKEN, or READ_TOKEN_FILE",
        ),
        404 => refused(format!("what --url names has no events to follow (404 {detail})")),
        410 => refused(format!(
            "the place to go on from is none in this log (410 {detail}); nothing was left out silently: choose with --from \
             where to begin, with another cursor or none"
        )),
        422 => Trouble::Refused(Refusal { text: format!("the service refuses this: {detail}"), code: 2 }),
        _ => refused(format!("the service refuses this ({status} {detail})")),
    })
}

/// The `detail` of an error response, as far as it can be shown.
pub(in crate::cli) fn detail(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let told = match value.get("detail") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(errors)) => {
            let told = errors.iter().map(|error| {
                let place = error.pointer("/loc/1").and_then(Value::as_str).unwrap_or_default();
                format!("{place}: {}", error.get("msg").and_then(Value::as_str).unwrap_or_default())
            });
            told.collect::<Vec<_>>().join("; ")
        }
        _ => String::new(),
    };
    visible(&told).chars().take(SHOWN_CHARS_MAX).collect()
}
