//! `/webhook/{name}`, the configured sources: verifies the signature, finds the events, stores them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Response, StatusCode};
use axum::response::IntoResponse;
use tracing::Level;

use super::body::{self, BodyError};
use super::webhook::{self, Record};
use super::{App, error};
use crate::clock::in_milliseconds;
use crate::erasure::KeptFor;
use crate::event::{Event, Kind, Source};
use crate::inbox;
use crate::metrics::{Metrics, SourceMetrics, WebhookResult};
use crate::source::{self, BodyDigest, Greeting, Presented, Refusal, Repeats, Settings};
use crate::store::{FAILED, Outcome};

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// A body longer than this is verified and read on the blocking pool, so that no other request waits for it.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// How many bodies are remembered, to notice one that comes again under another id.
const REPEATS_MAX: usize = 10_000;

/// The configured sources, which a reload replaces all at once.
#[derive(Debug)]
pub(super) struct Sources {
    by_name: RwLock<Arc<HashMap<String, Arc<Served>>>>,
    metrics: Arc<Metrics>,
    repeats: Mutex<Repeats>,
}

/// A source that is being served.
#[derive(Debug)]
pub(super) struct Served {
    settings: Settings,
    pub(super) metrics: Arc<SourceMetrics>,
}

impl Sources {
    pub(super) fn new(config: source::Config, metrics: Arc<Metrics>) -> Self {
        let sources =
            Self { by_name: RwLock::default(), metrics, repeats: Mutex::new(Repeats::new(REPEATS_MAX)) };
        sources.replace(config);
        sources
    }

    /// Serves these sources from now on, and no others. Requests under way go on as they began.
    pub(super) fn replace(&self, config: source::Config) {
        let keys =
            |settings: &'_ Settings| settings.secrets.iter().map(|secret| secret.name.clone()).collect();
        let names: Vec<(_, Vec<String>)> =
            config.sources.iter().map(|settings| (&settings.name, keys(settings))).collect();
        let names = names.iter().map(|(name, keys)| (*name, keys.iter().map(String::as_str).collect()));
        let metrics = self.metrics.replace_sources(names);
        let served = config.sources.into_iter().zip(metrics).map(|(settings, metrics)| {
            (settings.name.as_str().to_owned(), Arc::new(Served { settings, metrics }))
        });
        let served = Arc::new(served.collect());
        *self.by_name.write().unwrap_or_else(PoisonError::into_inner) = served;
    }

    /// The source of this name.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Served>> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// The sources whose events are kept for another time than those of others.
    pub(super) fn kept_otherwise(&self) -> Vec<(Source, KeptFor)> {
        let served = Arc::clone(&self.by_name.read().unwrap_or_else(PoisonError::into_inner));
        let kept = |served: &Arc<Served>| {
            let Settings { name, kept_for, .. } = &served.settings;
            kept_for.map(|kept| (name.clone(), kept))
        };
        served.values().filter_map(kept).collect()
    }

    /// Counts the body if it came before under another id than that of its event.
    fn note_repeat(&self, source: &Served, body: BodyDigest, events: &[Event]) {
        if let Some(event) = events.first() {
            let mut repeats = self.repeats.lock().unwrap_or_else(PoisonError::into_inner);
            if repeats.note(body, &event.key) {
                source.metrics.repeated();
            }
        }
    }
}

/// Handles the route, whatever the method. [`observe`](super::observe) has found the source.
pub(super) async fn handle(State(app): State<Arc<App>>, mut request: Request) -> Response<Body> {
    let Some(source) = request.extensions_mut().remove::<Arc<Served>>() else {
        return error::not_found().await;
    };
    if request.method() == Method::POST {
        return match judge(&app, &source, request).await {
            Ok(verdict) | Err(verdict) => verdict.into_response(),
        };
    }
    // Asked for other methods, too, whose answer says which ones there are.
    let greeting = source.settings.greet(target(request.uri()));
    let allowed = if greeting == Greeting::NotAllowed { "POST" } else { "GET,HEAD,POST" };
    match (request.method(), greeting) {
        (&(Method::GET | Method::HEAD), Greeting::Challenge(challenge)) => {
            Verdict::Challenge(challenge).into_response()
        }
        (&(Method::GET | Method::HEAD), Greeting::Refused) => Verdict::WrongToken.into_response(),
        _ => {
            let mut response = error::method_not_allowed().await.into_response();
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            response
        }
    }
}

/// How a request ended.
#[derive(Debug)]
enum Verdict {
    /// Every event is stored, now or before.
    Accepted(Vec<Outcome>),
    /// A handshake, answered with its challenge.
    Challenge(String),
    /// A handshake without the right token.
    WrongToken,
    /// The signature does not verify.
    Refused(Refusal),
    /// The body could not be read.
    Unread(BodyError),
    /// The events, so many, were not acknowledged, and may be stored all the same; the sender should try again.
    NotStored(usize, inbox::Refused),
}

/// Each step is cheaper than the next one, and nothing is parsed before its signature is verified.
async fn judge(app: &App, source: &Arc<Served>, request: Request) -> Result<Verdict, Verdict> {
    let (head, body) = request.into_parts();
    let max = source.settings.max_body_bytes;
    if webhook::declared_length(&head.headers).is_some_and(|length| length > max) {
        return Err(Verdict::Unread(BodyError::TooLarge));
    }
    let presented = source.settings.present(&lent(&head, &[])).map_err(Verdict::Refused)?;
    let (body, room) = body::read_within(body, max, &app.bodies).await.map_err(Verdict::Unread)?;
    let found = if body.len() > INLINE_BYTES_MAX {
        let permit = app.verifying.permit().await;
        let (source, body, now) = (Arc::clone(source), body.clone(), app.settings.clock.now());
        let found = tokio::task::spawn_blocking(move || {
            let found = verify(&source, &presented, &head, &body, now);
            drop(permit);
            found
        });
        found.await.map_err(|_| Verdict::NotStored(0, inbox::Refused::Unavailable(FAILED)))?
    } else {
        verify(source, &presented, &head, &body, app.settings.clock.now())
    };
    let events = match found.map_err(Verdict::Refused)? {
        Found::Challenge(challenge) => return Ok(Verdict::Challenge(challenge)),
        Found::Events(events, digest) => {
            if let Some(digest) = digest {
                app.sources.note_repeat(source, digest, &events);
            }
            events
        }
    };
    // The events may wait in the queue for a while, and no longer need the body.
    drop(body);
    let malformed: Vec<bool> = events.iter().map(|event| event.kind == Kind::Malformed).collect();
    let outcomes =
        app.inbox.accept(events).await.map_err(|refused| Verdict::NotStored(malformed.len(), refused))?;
    drop(room);
    for (outcome, is_malformed) in outcomes.iter().zip(malformed) {
        source.metrics.event(WebhookResult::of(*outcome));
        if is_malformed && matches!(outcome, Outcome::Created { .. }) {
            source.metrics.malformed();
        }
    }
    Ok(Verdict::Accepted(outcomes))
}

/// What a verified request holds.
enum Found {
    Challenge(String),
    /// The digest of the body is there if the id of the request is not signed.
    Events(Vec<Event>, Option<BodyDigest>),
}

/// Verifies a request, and only then looks into it.
fn verify(
    source: &Served,
    presented: &Presented,
    head: &Parts,
    body: &Bytes,
    now: jiff::Timestamp,
) -> Result<Found, Refusal> {
    let Served { settings, metrics } = source;
    let request = lent(head, body);
    let verified = settings.verify(presented, &request, now.as_second())?;
    metrics.verified(verified.secret, now.as_second().unsigned_abs());
    if let Some(challenge) = settings.challenge(&request) {
        return Ok(Found::Challenge(challenge));
    }
    let digest = settings.provider.has_unsigned_id().then(|| BodyDigest::of(&settings.name, body));
    Ok(Found::Events(settings.events(&request, &verified, in_milliseconds(now)), digest))
}

fn lent<'a>(head: &'a Parts, body: &'a [u8]) -> source::Request<'a> {
    source::Request { target: target(&head.uri), headers: &head.headers, body }
}

/// Path and query as they were sent.
fn target(uri: &axum::http::Uri) -> &str {
    uri.path_and_query().map_or("", axum::http::uri::PathAndQuery::as_str)
}

impl Verdict {
    fn record(&self) -> (StatusCode, Record) {
        match self {
            Self::Accepted(outcomes) => {
                let record = Record::stored(WebhookResult::of_delivery(outcomes));
                (StatusCode::OK, Record { events: Some(outcomes.len()), ..record })
            }
            Self::Challenge(_) => (StatusCode::OK, Record::new(Level::INFO, WebhookResult::Handshake)),
            Self::WrongToken => {
                (StatusCode::FORBIDDEN, Record::new(Level::ERROR, WebhookResult::InvalidSignature))
            }
            Self::Refused(refusal) => {
                let record = Record::new(Level::ERROR, WebhookResult::InvalidSignature);
                (StatusCode::UNAUTHORIZED, Record { refusal: Some(*refusal), ..record })
            }
            Self::Unread(error) => (error.status(), Record::unread(*error)),
            Self::NotStored(events, refused) => {
                let record = Record::not_stored(refused);
                (StatusCode::SERVICE_UNAVAILABLE, Record { events: Some(*events), ..record })
            }
        }
    }
}

impl IntoResponse for Verdict {
    fn into_response(self) -> Response<Body> {
        let (status, record) = self.record();
        let mut response = match self {
            Self::Accepted(_) => webhook::ok(),
            Self::Challenge(challenge) => {
                let mut response = Response::new(Body::from(challenge));
                response.headers_mut().insert(CONTENT_TYPE, PLAIN);
                response
            }
            Self::WrongToken => error::detail(status, "not the handshake that this source is configured for"),
            Self::Refused(_) => error::detail(status, webhook::INVALID_SIGNATURE),
            Self::Unread(cause) => cause.response("request body is larger than max_body_bytes of the source"),
            Self::NotStored(_, refused) => error::unavailable(&refused.to_string()),
        };
        response.extensions_mut().insert(record);
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::HOST;
    use tower::ServiceExt as _;

    use super::super::reads::VERIFYING_MAX;
    use super::super::{Settings as HttpSettings, router};
    use super::*;
    use crate::clock::Clock;
    use crate::inbox::Inbox;
    use crate::server::{Limits, Registry};
    use crate::source::{Config, Outside};
    use crate::store::Store;
    use crate::store::sqlite::{Sqlite, Tuning};
    use crate::tail::{self, Tail};
    use crate::telemetry::Log;

    const SOURCE: &str =
        "[[source]]\nname = \"hub\"\nkind = \"github\"\nsecrets = [{ name = \"s\", env = \"S\" }]\n";

    fn app(store: Arc<dyn Store>) -> Arc<App> {
        let variable = |_: &str| Some("a secret that signs for a source".into());
        let file = |_: &std::path::Path| Err(std::io::Error::other("there is none"));
        let settings = HttpSettings {
            webhook_secrets: Vec::new(),
            sources: Config::parse(SOURCE, Outside { variable: &variable, file: &file }).unwrap(),
            clock: Clock::of_system(),
            read_token: None,
            admin_token: None,
            page: true,
            max_body_bytes: 1 << 20,
            queue_max: 10,
            followers_max: 0,
        };
        let metrics = Arc::new(Metrics::new(1));
        let inbox = Arc::new(Inbox::start(&store, 1, 10, &metrics).unwrap());
        let following = tail::Settings { pause: None, followers_max: 0 };
        let tail = Tail::start(&store, inbox.commits(), following).unwrap();
        let connections = Registry::new(Limits::default(), Arc::clone(&metrics));
        Arc::new(App::new(settings, store, inbox, tail, metrics, connections, Log::none()))
    }

    /// A signed delivery of so many bytes.
    fn delivery(app: &App, id: &str, length: usize) -> Request {
        let body = vec![b' '; length];
        let mut head = Request::post("/webhook/hub").header("x-github-delivery", id).body(()).unwrap();
        let settings = &app.sources.find("hub").unwrap().settings;
        let signed = settings.sign(&lent(&head.clone().into_parts().0, &body), id, 0).unwrap();
        head.headers_mut().extend(signed);
        head.map(|()| Body::from(body))
    }

    #[test]
    fn few_large_deliveries_are_verified_at_once_and_nothing_else_waits_for_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(&folder.path().join("app.db"), Tuning::default()).unwrap());
        let app = app(store);
        let call = |mut request: Request| {
            request.headers_mut().insert(HOST, HeaderValue::from_static("a"));
            let router = router(Arc::clone(&app));
            async move { router.oneshot(request).await.unwrap().status() }
        };
        // One thread for each kind of work, so that one thing is done after the other.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(async {
            let mut held = Vec::new();
            for _ in 0..VERIFYING_MAX {
                held.push(app.verifying.permit().await);
            }
            let large = tokio::spawn(call(delivery(&app, "large", INLINE_BYTES_MAX + 1)));
            for read in ["/stats", "/health/ready"] {
                assert_eq!(call(Request::get(read).body(Body::empty()).unwrap()).await, 200);
            }
            assert_eq!(call(delivery(&app, "small", INLINE_BYTES_MAX)).await, 200);
            tokio::task::yield_now().await;
            assert!(!large.is_finished(), "it waits until another one has been verified");
            held.pop();
            assert_eq!(large.await.unwrap(), 200);
        });
    }
}
