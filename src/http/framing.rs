//! Checks of a request's header that hyper leaves out: its size, and that it has one meaning only.

use axum::http::header::{HOST, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Request, StatusCode, Version};

use crate::server::AmbiguousLength;

/// Maximum length of a request target (path and query), in bytes.
const TARGET_BYTES_MAX: usize = 8 << 10;
/// Maximum number of header fields.
const FIELDS_MAX: usize = 64;
/// Maximum size of the whole header, in bytes.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Bytes of a field line besides its name and value: colon, space, CR, LF.
const FIELD_OVERHEAD_BYTES: usize = 4;

/// Checks the header of a request.
///
/// # Errors
/// The status and the reason of the refusal.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), (StatusCode, &'static str)> {
    let headers = request.headers();
    // `*` and an authority have no path. An absolute URI counts without its scheme and host.
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES_MAX {
        return Err((StatusCode::URI_TOO_LONG, "request target is longer than 8 KiB"));
    }
    let bytes: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES).sum();
    if headers.len() > FIELDS_MAX || bytes + target > HEADER_BYTES_MAX {
        return Err((
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "header has more than 64 fields or 16 KiB",
        ));
    }
    if !host_is_plain(headers, request.version()) {
        return Err((StatusCode::BAD_REQUEST, "Host header should be there exactly once"));
    }
    if request.extensions().get::<AmbiguousLength>().is_some() {
        return Err((StatusCode::BAD_REQUEST, "header has both Content-Length and Transfer-Encoding"));
    }
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err((StatusCode::BAD_REQUEST, "Transfer-Encoding should be chunked and nothing else")),
    }
}

/// RFC 9112, section 3.2: exactly one `Host` in HTTP/1.1, at most one in HTTP/1.0, and it names a host.
fn host_is_plain(headers: &HeaderMap, version: Version) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version < Version::HTTP_11,
        (Some(host), None) => {
            let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
            host.as_bytes().iter().all(allowed)
        }
        _ => false,
    }
}
