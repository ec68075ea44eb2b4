//! `GET /messages`: a page of the messages that match a filter, or an export of all of them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::Response;

use super::{App, accept, error, export};
use crate::query::{self, Form};

/// Handles the route.
pub(super) async fn list(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    match answer(&app, request).await {
        Ok(response) | Err(response) => response,
    }
}

async fn answer(app: &Arc<App>, request: Request) -> Result<Response<Body>, Response<Body>> {
    let (request, _) = request.into_parts();
    let accepted = accept::preferred(&request.headers, accept::OF_MESSAGES);
    let (filter, page, form) = query::parse(request.uri.query().unwrap_or_default(), accepted)
        .map_err(|errors| error::unprocessable("query", &errors))?;
    if let Form::Export(export) = form {
        let messages = async { Ok(export::Messages::new(filter, page, export.limit)) };
        return export::answer(app, &request, export, messages).await;
    }
    Ok(error::data(&app.reads.run(move |store| store.list(&filter, &page)).await?))
}
