//! `GET /stats/volume`: the number of messages over time.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::Response;

use super::{App, error};
use crate::query::{self, VolumeAnswer, VolumeQuery};

/// Handles the route.
pub(super) async fn show(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response<Body> {
    let VolumeQuery { filter, step } = match query::parse_volume(&query.unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(errors) => return error::unprocessable("query", &errors),
    };
    match app.reads.run(move |store| store.volume(&filter, step.seconds)).await {
        Ok(Some(volume)) => error::data(&VolumeAnswer::new(step, &volume)),
        Ok(None) => error::unprocessable("query", &[query::too_many(step)]),
        Err(response) => response,
    }
}
