//! `GET /` and `GET /assets/{name}`: the page for people, which is in the binary.
//!
//! The page holds no data; its script reads them from the routes that everybody uses.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, Response};
use sha2::{Digest as _, Sha256};

use super::{App, error, last_segment};

const HTML: &str = include_str!("../../assets/index.html");
/// What the page loads: path in its HTML, media type, content.
const FILES: [(&str, &str, &[u8]); 3] = [
    ("/assets/app.css", "text/css; charset=utf-8", include_bytes!("../../assets/app.css")),
    ("/assets/app.js", "text/javascript; charset=utf-8", include_bytes!("../../assets/app.js")),
    ("/assets/icon.svg", "image/svg+xml", include_bytes!("../../assets/icon.svg")),
];

/// Nothing but what this server serves, no script or style within the HTML, no text that becomes HTML, and no frame around it
/// (W3C, Content Security Policy Level 3 and Trusted Types).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";
/// The name of an asset has a hash of its content, so that it never changes (RFC 8246).
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// The page and its assets.
#[derive(Debug)]
pub(super) struct Page {
    html: Bytes,
    assets: Vec<Asset>,
}

/// A file that the page loads.
#[derive(Debug)]
struct Asset {
    /// Its name without the hash and what comes after that, such as `app`.
    stem: &'static str,
    /// Its name with the hash, such as `app.0123456789abcdef.js`.
    name: String,
    extension: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

impl Page {
    /// The page, whose assets have hashes in their names.
    pub(super) fn new() -> Self {
        let mut html = HTML.to_owned();
        let assets = FILES.map(|(path, media_type, content)| {
            let asset = Asset::new(path, media_type, content);
            html = html.replace(path, &format!("/assets/{}", asset.name));
            asset
        });
        Self { html: html.into(), assets: assets.into() }
    }

    /// The asset of this name, and whether the name has the hash of its content. While replicas are being replaced, the page of
    /// one may ask another one for an asset of another release, which has to do.
    fn asset(&self, name: &str) -> Option<(&Asset, bool)> {
        if let Some(asset) = self.assets.iter().find(|asset| asset.name == name) {
            return Some((asset, true));
        }
        let (stem, rest) = name.split_once('.')?;
        let (_, extension) = rest.split_once('.')?;
        let other = self.assets.iter().find(|asset| asset.stem == stem && asset.extension == extension)?;
        Some((other, false))
    }
}

impl Asset {
    fn new(path: &'static str, media_type: &'static str, content: &'static [u8]) -> Self {
        let file = path.rsplit('/').next().unwrap_or_default();
        let (stem, extension) = file.split_once('.').unwrap_or((file, ""));
        let hash = base16ct::lower::encode_string(&Sha256::digest(content));
        let name = format!("{stem}.{}.{extension}", hash.get(..16).unwrap_or_default());
        Self { stem, name, extension, media_type, content }
    }
}

/// Handles `/`.
pub(super) async fn show(State(app): State<Arc<App>>) -> Response<Body> {
    let mut response = file("text/html; charset=utf-8", app.page.html.clone(), "no-cache");
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Handles `/assets/{name}`.
pub(super) async fn asset(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match app.page.asset(&last_segment(request.uri().path())) {
        Some((asset, is_current)) => {
            let caching = if is_current { IMMUTABLE } else { "no-store" };
            file(asset.media_type, Bytes::from_static(asset.content), caching)
        }
        None => error::not_found().await,
    }
}

fn file(media_type: &'static str, content: Bytes, caching: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(content));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_each_asset_once_and_by_its_hash() {
        let page = Page::new();
        let html = std::str::from_utf8(&page.html).unwrap();
        for asset in &page.assets {
            assert_eq!(html.matches(&asset.name).count(), 1, "{}", asset.name);
            assert!(page.asset(&asset.name).unwrap().1);
        }
        assert_eq!(html.matches("/assets/").count(), FILES.len());
    }

    #[test]
    fn an_asset_of_another_release_is_that_of_this_one_and_is_not_kept() {
        let page = Page::new();
        let (asset, is_current) = page.asset("app.0000000000000000.js").unwrap();
        assert_eq!((asset.extension, is_current), ("js", false));
        for unknown in
            ["", "app", "app.js", "app.css", "other.0.js", "app.0.svg", "app.0.js.map", "index.html"]
        {
            assert!(page.asset(unknown).is_none(), "{unknown}");
        }
    }
}
