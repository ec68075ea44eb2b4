//! Where events are erased: by a service, or in a database.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::HeaderValue;

use crate::cli::tail::{authorization, detail};
use crate::cli::target::Target;
use crate::cli::{Failure, stop_flag};
use crate::config::{self, ConfigErrors, Database, DatabaseArgs, Environment};
use crate::erasure::{Erasure, Progress, Run, Wiped};
use crate::store::{self, Store};

/// What `--url` should look like.
const FORM: &str = "--url should look like http://127.0.0.1:8000 or https://example.org";
/// Maximum time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time for the response: erasing much takes long.
const RESPONSE_TIMEOUT: Duration = Duration::from_hours(6);
/// How long the command waits until what was erased is wiped from the files.
const WIPE_PATIENCE: Duration = Duration::from_mins(10);

/// Where events are erased, as checked.
pub(super) enum Place {
    Service(Service),
    Database(Database),
}

/// The same, opened.
pub(super) enum Opened {
    Service(Service),
    Store(OpenStore),
}

/// What was erased.
pub(super) struct Erased {
    pub(super) events: u64,
    /// Whether nothing is left of it in the files; `None` if that is the database server's affair.
    pub(super) wiped: Option<bool>,
}

/// A service that is asked.
pub(super) struct Service {
    agent: ureq::Agent,
    /// The URL without a slash at its end.
    base: String,
    authorization: HeaderValue,
}

/// A store that is closed at the end.
pub(super) struct OpenStore(Arc<dyn Store>);

impl Drop for OpenStore {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Place {
    /// The service at the URL, or the database where there is no URL.
    ///
    /// # Errors
    /// Every configuration error at once.
    pub(super) fn check(
        url: Option<&str>,
        database: &DatabaseArgs,
        environment: Environment,
    ) -> Result<Self, ConfigErrors> {
        let Some(url) = url else { return Database::check(database, environment).map(Self::Database) };
        let mut errors = Vec::new();
        let target = Target::parse_base(url, FORM).map_err(|form| errors.push(form.to_owned()));
        let token = match config::admin_token(environment) {
            Ok(Some(token)) => authorization("ADMIN_TOKEN", &token),
            Ok(None) => {
                Err("ADMIN_TOKEN is not set: it is the token that the service wants for erasing".to_owned())
            }
            Err(why) => Err(why),
        };
        let token = token.map_err(|why| errors.push(why));
        match (target, token) {
            (Ok(target), Ok(token)) => Ok(Self::Service(Service::new(&target, token))),
            _ => Err(ConfigErrors(errors)),
        }
    }

    /// Opens the database, which must be there.
    pub(super) fn open(self) -> Result<Opened, Failure> {
        Ok(match self {
            Self::Service(service) => Opened::Service(service),
            Self::Database(Database { url, settings }) => {
                let store = store::open_existing(&url, settings).map_err(|error| match error {
                    in_use @ store::OpenError::InUse { .. } => {
                        Failure::from(format!("{in_use}, or have the service erase, with --url"))
                    }
                    other => other.into(),
                })?;
                Opened::Store(OpenStore(store))
            }
        })
    }
}

impl Opened {
    /// Counts what would be erased. `query` says the same as `erasure`.
    pub(super) fn count(&self, erasure: &Erasure, query: &str) -> Result<u64, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            selected: u64,
        }
        match self {
            Self::Service(service) => {
                Ok(service.delete::<Answer>(&format!("{query}&dry_run=true"))?.selected)
            }
            Self::Store(OpenStore(store)) => {
                let run = Run { store: store.as_ref(), is_busy: &|| false, goes_on: &|| true };
                Ok(run.count(erasure)?.events)
            }
        }
    }

    /// Erases. `query` says the same as `erasure`.
    pub(super) fn erase(&self, erasure: &Erasure, query: &str) -> Result<Erased, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            erased: u64,
            wiped: Option<bool>,
        }
        let store = match self {
            Self::Service(service) => {
                let Answer { erased, wiped } = service.delete(query)?;
                return Ok(Erased { events: erased, wiped });
            }
            Self::Store(OpenStore(store)) => store.as_ref(),
        };
        let stop = stop_flag()?;
        let goes_on = || !stop.load(Relaxed);
        let run = Run { store, is_busy: &|| false, goes_on: &goes_on };
        let (Progress { events, is_complete }, result) = run.erase(erasure);
        let again = "the same command goes on with it";
        result.map_err(|error| format!("{error}; {events} events were erased by then, and {again}"))?;
        if !is_complete {
            return Err(format!("stopped after {events} events; {again}").into());
        }
        let wiped = match run.wipe(WIPE_PATIENCE)? {
            Wiped::Done => Some(true),
            Wiped::NotYet | Wiped::Held => Some(false),
            Wiped::ByServer => None,
        };
        Ok(Erased { events, wiped })
    }
}

impl Service {
    fn new(target: &Target, authorization: HeaderValue) -> Self {
        let config = target
            .config()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_send_request(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(RESPONSE_TIMEOUT));
        Self { agent: config.build().into(), base: target.base(), authorization }
    }

    /// The answer to `DELETE /events` with this query.
    fn delete<T: DeserializeOwned>(&self, query: &str) -> Result<T, Failure> {
        let request = self.agent.delete(format!("{}/events?{query}", self.base));
        let mut response = request.header("Authorization", &self.authorization).call()?;
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_string()?;
        match status {
            200 => serde_json::from_str(&body)
                .map_err(|_| "what --url names answers as no service that erases events".into()),
            401 => Err("the service wants another admin token: set ADMIN_TOKEN, or ADMIN_TOKEN_FILE".into()),
            404 | 405 => {
                Err("the service erases nothing: it has no ADMIN_TOKEN, or is older than this command".into())
            }
            _ => Err(format!("the service answers {status} {}", detail(&body)).into()),
        }
    }
}
