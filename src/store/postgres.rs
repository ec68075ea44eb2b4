//! Messages in a PostgreSQL database, which any number of processes may share.
//!
//! A batch is one statement. One process at a time derives the data that lists, counts and searches need, behind the
//! writers; each read adds up the derived data and the tail, in one snapshot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::matches::listing;
use super::{Arrived, Backlog, Cause, Error, OpenError, Outcome, Settings, Space, Store};
use crate::message::{Message, MessageId, Moment, Timestamp};
use crate::query::{Filter, Listing, Page, Search, Stats};

mod address;
mod aggregates;
mod batch_sequence;
mod certificate;
mod check;
mod connection;
mod dial;
mod horizon;
mod indexer;
mod insert;
mod locks;
mod migrate;
mod parameter;
mod plain;
mod read_only;
mod rows;
mod search;
mod tls;
mod transaction;

pub use address::Address;
pub use dial::CONNECT_TIMEOUT;
pub use read_only::ReadOnlyPostgres;

use aggregates::{Aggregates, Timeline};
use connection::{Connections, PgError, Session};
use indexer::{Indexer, IndexerProgress};
use plain::Plain;

/// Longest time of a migration, by this process or by one that it waits for.
const MIGRATION_TIMEOUT: Duration = Duration::from_hours(1);
/// Longest time of a readiness check.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// Lifts the statement timeout for one transaction.
const TAKE_TIME: &str = "SET LOCAL statement_timeout = 0";
/// Maximum number of attempts for a batch that conflicts with another transaction.
const TRIES_MAX: u32 = 3;

const ANY_ROW: &str = "SELECT count(*) FROM (SELECT FROM message LIMIT 1) AS found";
/// Adds nothing; fails if messages could not be added, as on a read-only server or for a user with read rights only.
const ADD_NONE: &str = "\
    INSERT INTO message (message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, text)
    SELECT message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, text FROM message WHERE false";
/// Writes to the write-ahead log only; the commit syncs it.
const WRITE: &str = "SELECT pg_logical_emit_message(true, 'lyftr', 'ready')";

/// Batches of one process that it is worth storing at the same time.
pub(super) const WRITERS: usize = 2;

/// The use of the server.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// The settings that the user chooses.
    pub settings: Settings,
    /// Time between two looks of the indexer at newly arrived messages.
    pub index_pause: Duration,
    /// Maximum number of messages that are added to the aggregates at once, and of texts that are removed from the search
    /// index at once.
    pub aggregates_batch: i64,
    /// Number of messages up to which a search looks at each message that the other filters leave.
    pub few: u64,
    /// Maximum number of messages whose texts are added to the search index at once.
    pub texts_batch: i64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            index_pause: Duration::from_secs(1),
            few: 2_000,
            aggregates_batch: 64 << 10,
            texts_batch: 2_000,
        }
    }
}

/// A [`Store`] on a server.
#[derive(Debug)]
pub struct Postgres {
    connections: Arc<Connections>,
    tuning: Tuning,
    progress: Arc<IndexerProgress>,
    indexer: Mutex<Option<Indexer>>,
    closed: AtomicBool,
}

impl Postgres {
    /// Connects to the server, brings the schema up to date, and starts the indexer.
    ///
    /// # Errors
    /// [`OpenError`], for the person who starts the service.
    pub fn open(address: &Address, tuning: Tuning) -> Result<Self, OpenError> {
        let connections = Self::connect(address, tuning.settings)?;
        let connections = Arc::new(connections);
        let progress = Arc::new(IndexerProgress::default());
        // A first look, which costs little, before anybody can ask. Where it fails, the thread meets the cause, and logs it.
        let _looked = connections.lend(|session| progress.measure(session, 1));
        let indexer = Indexer::start(Arc::clone(&connections), tuning, Arc::clone(&progress))
            .map_err(|error| unusable(address, error.into()))?;
        Ok(Self {
            connections,
            tuning,
            progress,
            indexer: Mutex::new(Some(indexer)),
            closed: AtomicBool::new(false),
        })
    }

    /// Connects to the server and brings the schema up to date; returns its version then.
    ///
    /// # Errors
    /// [`OpenError`], for the person who runs the command.
    pub fn migrate(address: &Address, settings: Settings) -> Result<i64, OpenError> {
        Self::connect(address, settings)?;
        Ok(migrate::VERSION)
    }

    fn connect(address: &Address, settings: Settings) -> Result<Connections, OpenError> {
        let connections = Connections::new(address, settings.connections, settings.timeout)
            .map_err(|cause| unusable(address, cause))?;
        let migrated = connections.lend_for(MIGRATION_TIMEOUT, |session| match migrate::up(session) {
            Ok(done) => Ok(Ok(done)),
            Err(migrate::UpgradeError::Newer(found)) => Ok(Err(found)),
            Err(migrate::UpgradeError::Database(failed)) => Err(failed),
        });
        match migrated {
            Ok(Ok(done)) => {
                if done > 0 {
                    tracing::info!(
                        migrations = done,
                        version = migrate::VERSION,
                        "the schema was brought up to date"
                    );
                }
                Ok(connections)
            }
            Ok(Err(found)) => Err(newer(address, found)),
            Err(failed) => Err(refused(address, failed)),
        }
    }

    /// The horizon: an arrival number up to which no message can still appear. A reader that continues from an arrival
    /// number must not pass it. A later call may return a smaller one; the greatest holds.
    ///
    /// # Errors
    /// [`Error`]
    pub fn horizon(&self) -> Result<i64, Error> {
        Ok(self.connections.lend(horizon::horizon)?)
    }

    /// Runs a read in one snapshot.
    fn read<T>(&self, query: impl FnOnce(&Session<'_>) -> Result<T, PgError>) -> Result<T, Error> {
        Ok(self.connections.lend(|session| session.snapshot(|| query(session)))?)
    }
}

impl Store for Postgres {
    fn insert(&self, batch: &[Message]) -> Result<Vec<Outcome>, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(PgError::Closed.into());
        }
        let mut tries = 1;
        loop {
            let seen = self.progress.greatest_batch();
            match self.connections.lend(|session| insert::insert(session, batch, seen)) {
                Ok((outcomes, latest)) => {
                    self.progress.stored(latest);
                    return Ok(outcomes);
                }
                Err(failed) if failed.is_passing() && tries < TRIES_MAX => {
                    tries += 1;
                    if matches!(failed, PgError::ArrivalNumberReused) {
                        self.connections.lend(|session| batch_sequence::repair(session, seen))?;
                    }
                }
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, Error> {
        self.read(|session| list(session, filter, page, self.tuning.few))
    }

    fn stats(&self) -> Result<Stats, Error> {
        self.read(|session| Aggregates::read(session)?.stats(session))
    }

    fn arrived(&self, after: i64, limit: u32) -> Result<Vec<Arrived>, Error> {
        Ok(self.connections.lend(|session| {
            let horizon = horizon::horizon(session)?;
            rows::arrived(session, after, horizon, limit)
        })?)
    }

    fn find(&self, ids: &[MessageId]) -> Result<Vec<Message>, Error> {
        let ids: Vec<&str> = ids.iter().map(MessageId::as_str).collect();
        Ok(self.connections.lend(|session| rows::with_ids(session, &ids))?)
    }

    fn ready(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(PgError::Closed.into());
        }
        let version: i64 = self.connections.lend_for(READY_TIMEOUT, |session| {
            session.row(ANY_ROW, &[])?;
            session.query(ADD_NONE, &[])?;
            session.row(WRITE, &[])?;
            let version = migrate::found(session)?;
            if version == migrate::VERSION {
                batch_sequence::repair(session, self.progress.greatest_batch())?;
            }
            Ok(version)
        })?;
        Error::unless_schema(version, migrate::VERSION)
    }

    fn backlog(&self) -> Backlog {
        Backlog { wal_bytes: 0, behind: self.progress.behind() }
    }

    fn space(&self) -> Option<Space> {
        None
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        drop(self.indexer.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.connections.close();
    }
}

/// [`Store::list`], in one snapshot.
fn list(session: &Session<'_>, filter: &Filter, page: &Page, few: u64) -> Result<Listing, PgError> {
    // The server rejects a text with NUL, and no message has one.
    let impossible = |text: Option<&str>| text.is_some_and(|text| text.contains('\0'));
    let search = filter.search.as_ref();
    if impossible(filter.from.as_deref())
        || impossible(filter.to.as_deref())
        || impossible(search.map(Search::folded))
    {
        return Ok(Listing::new(page, Vec::new(), 0, false, false));
    }
    let aggregates = Aggregates::read(session)?;
    if let Some(search) = search {
        return listing(
            &search::TextSearch { session, aggregates: &aggregates, few }.search(filter, search, page)?,
            page,
        );
    }
    if filter.from.is_some() || filter.to.is_some() || aggregates.is_void {
        return listing(&Plain::new(session, &aggregates, filter)?, page);
    }
    let since = filter.since.map_or(Moment::MIN, Timestamp::moment);
    let until = filter.until.map_or(Moment::MAX, Timestamp::moment).max(since);
    listing(&Timeline::new(session, &aggregates, since..until)?, page)
}

fn newer(address: &Address, found: i64) -> OpenError {
    OpenError::Newer { path: address.to_string(), found, known: migrate::VERSION }
}

fn refused(address: &Address, failed: PgError) -> OpenError {
    match failed {
        PgError::Unfit(why) => OpenError::Unfit { place: address.to_string(), why },
        failed => unusable(address, Error::from(failed).into()),
    }
}

fn unusable(address: &Address, source: Cause) -> OpenError {
    OpenError::Server { place: address.to_string(), source }
}
