//! The service that is asked for an export, and its answer, piece by piece.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde::Deserialize;
use ureq::Body;
use ureq::http::{HeaderValue, Response};

use crate::cli::tail::{detail, visible};
use crate::cli::target::Target;

/// Maximum time to connect, and to send the request.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time without a byte: a service may look through very many messages for one.
const SILENCE: Duration = Duration::from_mins(5);
/// Size of the pieces that are read at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Maximum number of pieces that wait to be written.
const PIECES_MAX: usize = 4;
/// Maximum size of an answer that is no export.
const SHORT_BYTES_MAX: u64 = 1 << 20;

/// A service, and what it is asked for.
pub(super) struct Service(Arc<Asked>);

struct Asked {
    agent: ureq::Agent,
    /// The URL with the path, without a query.
    url: String,
    authorization: Option<HeaderValue>,
    /// The filters as parameters of a query.
    filters: Vec<String>,
}

/// What comes of it.
pub(super) enum Heard {
    Piece(Vec<u8>),
    /// The last of all: it is whole.
    End,
    /// The last of all: it is not.
    Trouble(Trouble),
}

/// Why there is no export, or not all of it.
pub(super) enum Trouble {
    /// The service gives none, in words; and the exit code.
    Refused { text: String, code: u8 },
    /// It ends before its end. Why, in words.
    Broken(String),
}

impl Service {
    /// `what` is the last part of the path, `filters` are parameters of a query.
    pub(super) fn new(
        target: &Target,
        authorization: Option<HeaderValue>,
        what: &str,
        filters: Vec<String>,
    ) -> Self {
        let config = target
            .config()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_send_request(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE));
        let url = format!("{}/{what}", target.base());
        Self(Arc::new(Asked { agent: config.build().into(), url, authorization, filters }))
    }

    /// The number of messages that match; `None` if that cannot be had.
    pub(super) fn total(&self) -> Option<u64> {
        #[derive(Deserialize)]
        struct Page {
            total: u64,
        }
        let mut response = self.0.get("application/json", Some(1)).ok()?;
        let body = response.body_mut().with_config().limit(SHORT_BYTES_MAX).read_to_string().ok()?;
        serde_json::from_str(&body).ok().map(|Page { total }| total)
    }

    /// Asks for all that match in this form, `limit` of them at most. A thread reads the answer, until nobody listens any more.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub(super) fn export(&self, media: &'static str, limit: Option<u64>) -> std::io::Result<Receiver<Heard>> {
        let (tell, heard) = sync_channel(PIECES_MAX);
        let asked = Arc::clone(&self.0);
        std::thread::Builder::new().name("lyftr-export".into()).spawn(move || {
            let last = match asked.read(media, limit, &tell) {
                Ok(()) => Heard::End,
                Err(trouble) => Heard::Trouble(trouble),
            };
            let _nobody_listens = tell.send(last);
        })?;
        Ok(heard)
    }
}

impl Asked {
    fn read(&self, media: &str, limit: Option<u64>, tell: &SyncSender<Heard>) -> Result<(), Trouble> {
        let response = self.get(media, limit)?;
        let given =
            response.headers().get("Content-Type").and_then(|given| given.to_str().ok()).unwrap_or_default();
        let given = given.split(';').next().unwrap_or_default().trim();
        if !given.eq_ignore_ascii_case(media) {
            let text =
                "what --url names exports nothing: it is another program, or a Lyftr older than this command";
            return Err(Trouble::Refused { text: text.to_owned(), code: 1 });
        }
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count =
                body.read(&mut piece).map_err(|error| Trouble::Broken(visible(&error.to_string())))?;
            let heard = piece.get(..count).unwrap_or_default();
            if heard.is_empty() || tell.send(Heard::Piece(heard.to_vec())).is_err() {
                return Ok(());
            }
        }
    }

    /// The response if it is 200.
    fn get(&self, media: &str, limit: Option<u64>) -> Result<Response<Body>, Trouble> {
        let limit = limit.map(|limit| format!("limit={limit}"));
        let query: Vec<_> = self.filters.iter().cloned().chain(limit).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let request =
            self.agent.get(format!("{}{mark}{}", self.url, query.join("&"))).header("Accept", media);
        let request = match &self.authorization {
            Some(token) => request.header("Authorization", token),
            None => request,
        };
        let refused = |text: String, code| Trouble::Refused { text, code };
        let mut response = request.call().map_err(|error| {
            refused(format!("the service at --url does not answer: {}", visible(&error.to_string())), 1)
        })?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(response);
        }
        let body =
            response.body_mut().with_config().limit(SHORT_BYTES_MAX).read_to_string().unwrap_or_default();
        let detail = detail(&body);
        Err(match status {
            401 => refused(
                "the service wants its read token, which is none or another one here: set READ_TOKEN, or READ_TOKEN_FILE"
                    .to_owned(),
                1,
            ),
            422 => refused(format!("the service refuses this: {detail}"), 2),
            _ => refused(format!("the service answers {status} {detail}"), 1),
        })
    }
}
