//! Events in a PostgreSQL database, which any number of processes may share.
//!
//! A batch is one statement. One process at a time derives the data that lists, counts and searches need, behind the
//! writers; each read adds up the derived data and the remainder, in one snapshot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::matches::listing;
use super::{Backlog, Cause, Error, OpenError, Outcome, Settings, Space, Store};
use crate::cursor::{Cursor, CursorName, Move, Moved};
use crate::erasure::{Erasure, Step, Tombstone, Tombstones, Wiped};
use crate::event::{Arrived, Event, LogRead, Position, Reached, Recorded, Source};
use crate::message::{Message, Moment, Name, Timestamp};
use crate::query::{Filter, Listing, Page, Search, Stats, Volume};

mod address;
mod aggregates;
mod ahead;
mod batch_sequence;
mod by_id;
mod certificate;
mod change;
mod check;
mod conditions;
mod connection;
mod cursors;
mod dial;
mod erase;
mod horizon;
mod indexer;
mod insert;
mod keeper;
mod layout;
mod locks;
mod log;
mod migrate;
mod parameter;
mod plain;
mod read_only;
mod rows;
mod search;
mod tls;
mod tombstones;
mod totals;
mod transaction;
mod volume;

pub use address::Address;
pub use dial::CONNECT_TIMEOUT;
pub use read_only::ReadOnlyPostgres;

use aggregates::{Aggregates, Timeline};
use by_id::ById;
use connection::{Connections, PgError, Session};
use indexer::{Indexer, IndexerProgress};
use keeper::Keeper;
use layout::Layout;
use plain::Plain;

/// Longest time of a migration, by this process or by one that it waits for.
const MIGRATION_TIMEOUT: Duration = Duration::from_hours(1);
/// Longest time of a readiness check.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// Lifts the statement timeout for one transaction.
const TAKE_TIME: &str = "SET LOCAL statement_timeout = 0";
/// Maximum number of attempts for a batch that conflicts with another transaction.
const TRIES_MAX: u32 = 3;

/// Any event, and the messages of a moment.
const ANY_ROW: &str = "\
    SELECT (SELECT count(*) FROM (SELECT seq FROM event LIMIT 1) AS found),
           (SELECT count(*) FROM (SELECT seq FROM message WHERE ts_second = 0 LIMIT 1) AS found)";
/// Adds nothing; fails if events could not be added, as on a read-only server or for a user with read rights only.
const ADD_NONE: &str = "\
    INSERT INTO event (bucket, source, key, kind, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, received_ms,
                       type, user_id, thread, ref, account, text, data)
    SELECT bucket, source, key, kind, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits, received_ms,
           type, user_id, thread, ref, account, text, data
    FROM event WHERE false";
/// Fails if the functions that store events are missing.
const ADDING: &str = "SELECT 'event_add'::regproc::oid, 'event_add_messages'::regproc::oid";
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
    keeper: Keeper,
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
            keeper: Keeper::default(),
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
        Ok(self.connections.lend(|session| horizon::horizon(session, Layout::CURRENT))?)
    }

    /// Runs a read in one snapshot.
    fn read<T>(&self, query: impl FnOnce(&Session<'_>) -> Result<T, PgError>) -> Result<T, Error> {
        Ok(self.connections.lend(|session| session.snapshot(|| query(session)))?)
    }
}

impl Store for Postgres {
    fn insert(&self, batch: &[Event]) -> Result<Vec<Outcome>, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(PgError::Closed.into());
        }
        if batch.is_empty() {
            return Ok(Vec::new());
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
                        self.connections
                            .lend(|session| batch_sequence::repair(session, Layout::CURRENT, seen))?;
                    }
                }
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, Error> {
        self.read(|session| list(session, filter, page, self.tuning.few))
    }

    fn messages(&self, filter: &Filter, page: &Page) -> Result<Vec<Message>, Error> {
        if is_impossible(filter) {
            return Ok(Vec::new());
        }
        if filter.id.is_some() || filter.search.is_some() {
            return Ok(self.list(filter, page)?.data);
        }
        self.read(|session| ahead::page(session, filter, page))
    }

    fn stats(&self) -> Result<Stats, Error> {
        self.read(|session| Aggregates::read(session)?.stats(session))
    }

    fn volume(&self, filter: &Filter, step_seconds: u32) -> Result<Option<Volume>, Error> {
        if is_impossible(filter) {
            return Ok(Some(Volume::default()));
        }
        self.read(|session| volume::volume(session, filter, step_seconds))
    }

    fn read_log(
        &self,
        read: &LogRead,
        each: &mut dyn FnMut(Recorded) -> bool,
    ) -> Result<Option<Reached>, Error> {
        Ok(self.connections.lend(|session| {
            // Before the snapshot, which so has every event up to it.
            let horizon = horizon::horizon(session, Layout::CURRENT)?;
            session.snapshot(|| log::read(session, horizon, read, each))
        })?)
    }

    fn event_at(&self, position: Position) -> Result<Option<Recorded>, Error> {
        self.read(|session| log::event_at(session, position))
    }

    fn arrived(&self, after: i64, limit: u32) -> Result<Vec<Arrived>, Error> {
        Ok(self.connections.lend(|session| {
            let horizon = horizon::horizon(session, Layout::CURRENT)?;
            rows::arrived_after(session, Layout::CURRENT, after, horizon, limit)
        })?)
    }

    fn find(&self, keys: &[(Source, Name)]) -> Result<Vec<Event>, Error> {
        let keys: Vec<_> = keys.iter().map(|(source, key)| (source, key)).collect();
        Ok(self.connections.lend(|session| rows::stored(session, &keys))?)
    }

    fn cursors(&self) -> Result<Vec<Cursor>, Error> {
        Ok(self.connections.lend(cursors::all)?)
    }

    fn cursor(&self, name: &CursorName) -> Result<Option<Cursor>, Error> {
        Ok(self.connections.lend(|session| cursors::one(session, name))?)
    }

    fn move_cursor(&self, to: &Move) -> Result<Moved, Error> {
        Ok(self.connections.lend(|session| cursors::move_to(session, to))?)
    }

    fn delete_cursor(&self, name: &CursorName) -> Result<bool, Error> {
        Ok(self.connections.lend(|session| cursors::delete(session, name))?)
    }

    fn erase(&self, erasure: &Erasure, after: i64) -> Result<Step, Error> {
        let selected = self.read(|session| erase::select(session, erasure, after))?;
        Ok(self.connections.lend(|session| erase::erase(session, erasure, &selected))?)
    }

    fn count_selected(&self, erasure: &Erasure, after: i64) -> Result<Step, Error> {
        self.read(|session| erase::count(session, erasure, after))
    }

    fn wipe(&self) -> Result<Wiped, Error> {
        Ok(Wiped::ByServer)
    }

    fn is_keeper(&self) -> Result<bool, Error> {
        Ok(self.connections.lend(|session| self.keeper.take_place(session))?)
    }

    fn tombstones(&self, after: Option<&Tombstone>, limit: u32) -> Result<Option<Tombstones>, Error> {
        self.read(|session| tombstones::after(session, after, limit))
    }

    fn adopt_tombstones(&self, tombstones: &Tombstones) -> Result<bool, Error> {
        let adopt = |session: &Session<'_>| session.transaction(|| tombstones::adopt(session, tombstones));
        Ok(self.connections.lend(adopt)?)
    }

    fn erased(&self, keys: &[(Source, Name)]) -> Result<Vec<bool>, Error> {
        self.read(|session| tombstones::are_erased(session, keys))
    }

    fn ready(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(PgError::Closed.into());
        }
        let version: i64 = self.connections.lend_for(READY_TIMEOUT, |session| {
            session.row(ANY_ROW, &[])?;
            session.query(ADD_NONE, &[])?;
            session.query(ADDING, &[])?;
            session.row(WRITE, &[])?;
            let version = migrate::found(session)?;
            if version == migrate::VERSION {
                batch_sequence::repair(session, Layout::CURRENT, self.progress.greatest_batch())?;
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
    if is_impossible(filter) {
        return Ok(Listing::new(page, Vec::new(), 0, false, false));
    }
    if let Some(id) = &filter.id {
        return listing(&ById::find(session, id, filter)?, page);
    }
    let aggregates = Aggregates::read(session)?;
    if let Some(search) = &filter.search {
        return listing(
            &search::TextSearch { session, aggregates: &aggregates, few }.search(filter, search, page)?,
            page,
        );
    }
    let by_column = [&filter.from, &filter.to, &filter.source].into_iter().any(Option::is_some);
    if by_column || aggregates.is_void {
        return listing(&Plain::new(session, &aggregates, filter)?, page);
    }
    let since = filter.since.map_or(Moment::MIN, Timestamp::moment);
    let until = filter.until.map_or(Moment::MAX, Timestamp::moment).max(since);
    listing(&Timeline::new(session, &aggregates, since..until)?, page)
}

/// Whether no message can match: the server rejects a text with NUL, and no message has one.
fn is_impossible(filter: &Filter) -> bool {
    let Filter { id, source, from, to, since: _, until: _, search } = filter;
    let texts = [id, source, from, to].into_iter().flatten().map(String::as_str);
    texts.chain(search.as_ref().map(Search::folded)).any(|text| text.contains('\0'))
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
