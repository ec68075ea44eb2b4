//! `GET /messages`: a page of the messages that match a filter.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::Response;

use super::{App, error};
use crate::query;

/// Handles the route.
pub(super) async fn list(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response<Body> {
    let (filter, page) = match query::parse(&query.unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(errors) => return error::unprocessable("query", &errors),
    };
    match app.reads.run(move |store| store.list(&filter, &page)).await {
        Ok(listing) => error::data(&listing),
        Err(response) => response,
    }
}
