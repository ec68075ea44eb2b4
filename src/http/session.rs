//! `/session`: signing in to the page with the read token, and out again.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{COOKIE, HOST, ORIGIN, RETRY_AFTER, SET_COOKIE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use tokio::time::{sleep, timeout};

use super::{App, body, error, reads};
use crate::metrics::SignIn;
use crate::server::is_loopback;
use crate::session::LIFETIME;
use crate::source::form::Form;

/// The cookie of a session.
const NAME: &str = "lyftr_session";
/// The header of a response to who has a session: when that ends.
const SESSION: HeaderName = HeaderName::from_static("lyftr-session");
/// Maximum size of the form, in bytes.
const FORM_BYTES_MAX: usize = 4 << 10;
/// How long nobody else can sign in after a wrong token: at most two are tried in a second.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_millis(500);
/// Maximum time that a sign-in waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(5);

/// The end of the session that a request belongs to; `None` if it has none, or is one that a session does not count for.
pub(super) fn end_of(app: &App, request: &Request) -> Option<HeaderValue> {
    let sessions = app.sessions.as_ref()?;
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    let now_s = app.settings.clock.now().as_second();
    let end = cookies(request.headers()).find_map(|cookie| sessions.end_of(cookie, now_s))?;
    let end = jiff::Timestamp::from_second(end).ok()?;
    HeaderValue::try_from(end.to_string()).ok()
}

/// Tells the client when its session ends.
pub(super) fn tell_end(mut response: Response<Body>, end: HeaderValue) -> Response<Body> {
    response.headers_mut().insert(SESSION, end);
    response
}

/// The values of the cookies that have the name of a session's (RFC 6265, section 4.2.1).
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let pairs =
        headers.get_all(COOKIE).iter().flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(NAME.as_bytes())?.strip_prefix(b"="))
}

/// Handles `POST /session`.
pub(super) async fn begin(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match signed_in(&app, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn signed_in(app: &App, request: Request) -> Result<Response<Body>, Response<Body>> {
    let (parts, body) = request.into_parts();
    if is_cross_site(&parts.headers) {
        let why = "a page of another site may not sign in here";
        return Err(error::closing(error::detail(StatusCode::FORBIDDEN, why)));
    }
    let form = body::read(body, FORM_BYTES_MAX)
        .await
        .map_err(|error| error.response("request body is too large"))?;
    let form = Form::parse(&form).and_then(|form| form.only("token").ok().flatten().map(<[u8]>::to_vec));
    let given = form.ok_or_else(|| {
        error::detail(StatusCode::BAD_REQUEST, "the body should be a form with one field, token")
    })?;
    let Ok(turn) = timeout(TURN_TIMEOUT, app.signing_in.permit()).await else {
        app.metrics.sign_in(SignIn::Refused);
        return Err(too_many());
    };
    let now_s = app.settings.clock.now().as_second();
    if let Some(cookie) = app.sessions.as_ref().and_then(|sessions| sessions.begin(&given, now_s)) {
        app.metrics.sign_in(SignIn::Ok);
        return Ok(with_cookie(&parts.headers, &cookie, LIFETIME));
    }
    app.metrics.sign_in(SignIn::WrongToken);
    // The turn lasts as long if the client does not wait for its answer.
    let pause = tokio::spawn(async move {
        sleep(WRONG_TOKEN_PAUSE).await;
        drop(turn);
    });
    // It fails only if the runtime ends.
    drop(pause.await);
    Err(reads::unauthorized("wrong read token"))
}

/// 429 (RFC 6585, section 4): others are trying tokens.
fn too_many() -> Response<Body> {
    let why = "too many wrong tokens are being tried; try again, or use the token in Authorization: Bearer";
    let mut response = error::detail(StatusCode::TOO_MANY_REQUESTS, why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

/// Handles `DELETE /session`: the browser forgets the cookie, whether it was one or not.
pub(super) async fn end(request: Request) -> Response<Body> {
    with_cookie(request.headers(), "", Duration::ZERO)
}

/// 204 with the cookie. Scripts cannot read it, no other site can have it sent, and it is sent over plain HTTP only within
/// this machine (RFC 6265bis, section 4.1.2).
fn with_cookie(headers: &HeaderMap, value: &str, lifetime: Duration) -> Response<Body> {
    let secure = if is_on_loopback(headers) { "" } else { "; Secure" };
    let seconds = lifetime.as_secs();
    let cookie = format!("{NAME}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut response = error::private(Response::new(Body::empty()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

/// Whether the client's names for this server are ones of the machine itself. A proxy may have put such a name in the place of the
/// browser's, which stands in `Origin`.
fn is_on_loopback(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or_default());
    let is_loopback =
        |authority: &str| authority.parse::<Authority>().is_ok_and(|name| is_loopback(name.host()));
    text(HOST).is_some_and(is_loopback)
        && text(ORIGIN)
            .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, name)| is_loopback(name)))
}

/// Whether a page of another site has the browser send this (W3C, Fetch Metadata Request Headers).
fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=b; lyftr_session=1;lyftr_session=2".parse().unwrap());
        headers.append(
            COOKIE,
            "xlyftr_session=3; lyftr_session2=4; lyftr_session; lyftr_session=5=6".parse().unwrap(),
        );
        assert_eq!(cookies(&headers).collect::<Vec<_>>(), [&b"1"[..], b"2", b"5=6"]);
    }

    #[test]
    fn a_cookie_is_for_encrypted_connections_unless_it_stays_on_the_machine() {
        for (host, stays) in [
            ("localhost:8000", true),
            ("127.0.0.1", true),
            ("[::1]:8000", true),
            ("inbox.example", false),
            ("10.0.0.1:8000", false),
            ("localhost.example", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            let response = with_cookie(&headers, "1.a", LIFETIME);
            let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
            assert!(
                cookie.starts_with("lyftr_session=1.a; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict")
            );
            assert_eq!(cookie.ends_with("; Secure"), !stays, "{host}");
        }
        assert!(!is_on_loopback(&HeaderMap::new()));
        for (origin, stays) in
            [("http://localhost:8000", true), ("https://inbox.example", false), ("null", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("127.0.0.1:8000"));
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            assert_eq!(is_on_loopback(&headers), stays, "{origin}");
        }
    }
}
