//! Exports: all that a filter selects, of any size, read from the store page by page while the client takes it.
//!
//! Each page is a read of its own, so that no snapshot stays open while a client is slow, and no permit is held. What breaks off
//! lacks the end of its chunked body, so that no client takes it for the whole.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Response, StatusCode, Version};
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::events::{PIECE_BYTES, gone};
use super::reads::{Limiter, Permit, Reads, time_to_take};
use super::{App, error};
use crate::query::{Export, Lines};
use crate::store::{self, Store};
use crate::tail::Progress;

mod csv;
mod events;
mod messages;
mod rows;

pub(super) use events::Events;
pub(super) use messages::Messages;
use rows::Rows;

/// Maximum number of exports at once. Each holds one page at most.
const EXPORTS_MAX: usize = 4;
/// Maximum number of concurrent reads for exports, beside those of pages.
pub(super) const EXPORT_READS_MAX: usize = 2;
/// HTTP/1.0 has no chunks: there the end of the connection is the end of the body, whole or not.
const TOO_OLD: &str =
    "an export needs HTTP/1.1, in which an incomplete response can be told from a whole one";

/// What is exported, page by page.
pub(super) trait Pages: Send + 'static {
    /// The word for it, in the name of a file.
    const NAME: &'static str;
    /// The names of its columns.
    const COLUMNS: &'static [&'static str];

    /// Reads the next page into rows.
    fn read(&mut self, store: &dyn Store, rows: &mut Rows) -> Result<Reached, store::Error>;
}

/// How far a read has come.
pub(super) enum Reached {
    /// There may be more.
    More,
    /// There is no more.
    End,
    /// The position to go on from names no event of this database.
    Gone,
}

/// What all exports share.
#[derive(Debug)]
pub(super) struct Exports {
    seats: Limiter,
    reads: Reads,
}

impl Exports {
    /// With this many seats, and these reads.
    pub(super) fn new(reads: Reads) -> Self {
        Self { seats: Limiter::new(EXPORTS_MAX), reads }
    }
}

/// The response with all of the pages. They are made only if they are read: not for HEAD, which reads nothing.
pub(super) async fn answer<P: Pages>(
    app: &Arc<App>,
    request: &Parts,
    export: Export,
    pages: impl Future<Output = Result<P, Response<Body>>>,
) -> Result<Response<Body>, Response<Body>> {
    if request.version < Version::HTTP_11 {
        return Err(error::detail(StatusCode::HTTP_VERSION_NOT_SUPPORTED, TOO_OLD));
    }
    if request.method == Method::HEAD {
        return Ok(response::<P>(export.lines, Body::from_stream(stream::empty::<Result<Bytes, Broken>>())));
    }
    let Some(seat) = app.exports.seats.permit_now() else {
        return Err(error::unavailable("too many exports are under way"));
    };
    let mut underway = Underway {
        app: Arc::clone(app),
        progress: app.tail.progress(),
        source: Some((pages.await?, Rows::new(export.lines, P::COLUMNS))),
        left: Bytes::new(),
        deadline: Instant::now(),
        _seat: seat,
    };
    // While a failure can still have a status of its own.
    underway.read().await?;
    let pieces = stream::try_unfold(underway, |mut underway| async {
        Ok::<_, Broken>(underway.next().await?.map(|piece| (piece, underway)))
    });
    Ok(response::<P>(export.lines, Body::from_stream(pieces)))
}

fn response<P: Pages>(lines: Lines, body: Body) -> Response<Body> {
    let (media, extension) = match lines {
        Lines::Ndjson => ("application/x-ndjson", "ndjson"),
        Lines::Csv => ("text/csv; charset=utf-8", "csv"),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    let file = format!("attachment; filename=\"{}.{extension}\"", P::NAME);
    if let Ok(file) = HeaderValue::try_from(file) {
        headers.insert(CONTENT_DISPOSITION, file);
    }
    error::private(response)
}

/// An export under way.
struct Underway<P> {
    app: Arc<App>,
    progress: watch::Receiver<Progress>,
    /// What is yet to be read, and the rows of it.
    source: Option<(P, Rows)>,
    /// What was read, and is yet to be sent.
    left: Bytes,
    /// When the client shall have taken that.
    deadline: Instant,
    /// The right to be one of the exports.
    _seat: Permit,
}

/// An export ends before its end.
#[derive(Debug, thiserror::Error)]
#[error("the export broke off")]
struct Broken;

impl<P: Pages> Underway<P> {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        while self.left.is_empty() {
            if self.source.is_none() {
                return Ok(None);
            }
            // The cause stands in the log.
            self.read().await.map_err(|_| Broken)?;
        }
        // One that takes a little from time to time would hold its seat for ever.
        if self.progress.borrow().stopping || Instant::now() > self.deadline {
            return Err(Broken);
        }
        Ok(Some(self.left.split_to(self.left.len().min(PIECE_BYTES))))
    }

    /// Reads the next page, if there is one.
    ///
    /// # Errors
    /// The response for who can still be told.
    async fn read(&mut self) -> Result<(), Response<Body>> {
        let Some((mut pages, mut rows)) = self.source.take() else { return Ok(()) };
        let reads = &self.app.exports.reads;
        let read = async {
            let permit = reads.patient_permit().await;
            let read = move |store: &dyn Store| {
                let reached = pages.read(store, &mut rows)?;
                Ok((pages, rows, reached))
            };
            reads.run_with(permit, read).await
        };
        let (pages, mut rows, reached) = tokio::select! {
            read = read => read?,
            _ = self.progress.wait_for(|progress| progress.stopping) => {
                return Err(error::unavailable("the service is stopping"));
            }
        };
        self.left = rows.take();
        self.deadline = Instant::now() + time_to_take(self.left.len());
        match reached {
            Reached::More => self.source = Some((pages, rows)),
            Reached::End => {}
            Reached::Gone => return Err(gone()),
        }
        Ok(())
    }
}
