//! The connections that read, and the choice for each query: by derived data, or by a scan of the messages while derived
//! data is missing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::connection::{self, explain};
use super::failed::Failed;
use super::index::IndexView;
use super::indexer::Shared;
use super::order::{ByNumber, ByTime, Order};
use super::phone_number::{ANY, PhoneNumber};
use super::plain::{self, Plain};
use super::ranked::Ranked;
use super::rows::{self, timestamp};
use super::search::Search;
use super::{Tuning, lock};
use crate::message::{Message, MessageId, Moment, Timestamp};
use crate::query::{Filter, Listing, Page, Stats};
use crate::store::matches::{listing, to_u64};
use crate::store::{Arrived, Error};
use crate::telemetry::chain;

/// Instructions of SQLite's virtual machine between two checks of the deadline.
const STEPS_BETWEEN_CHECKS: i32 = 10_000;
/// Maximum number of messages in the tail that a reader adds to the aggregates itself.
const TAIL_MAX: i64 = 50_000;

const ANY_ROW: &str = "SELECT count(*) FROM (SELECT 1 FROM message LIMIT 1)";
const FIRST: &str =
    "SELECT ts_second, ts_nanosecond, ts_digits FROM message ORDER BY ts_second, ts_nanosecond LIMIT 1";
const LAST: &str = "\
    SELECT ts_second, ts_nanosecond, ts_digits FROM message ORDER BY ts_second DESC, ts_nanosecond DESC LIMIT 1";

/// A pool of connections that grows with use; its caller bounds the number of concurrent reads.
#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    tuning: Tuning,
    shared: Arc<Shared>,
    idle: Mutex<Vec<ReadConnections>>,
}

/// The connections of one reader.
#[derive(Debug)]
struct ReadConnections {
    messages: Connection,
    /// The connection to the index, with the generation of the index file.
    index: Option<(u64, Connection)>,
}

impl Readers {
    /// Opens a first connection at once: while one is open, SQLite keeps the write-ahead log and its shared memory, and reads
    /// work even when the disk is full and has no room for new ones.
    pub(super) fn open(path: &Path, tuning: Tuning, shared: Arc<Shared>) -> Result<Self, Error> {
        let readers = Self { path: path.to_owned(), tuning, shared, idle: Mutex::default() };
        readers.run(|session| {
            let messages = session.messages()?;
            Ok(messages.query_row(ANY_ROW, (), |row| row.get::<_, i64>(0))?)
        })?;
        Ok(readers)
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        lock(&self.idle).clear();
    }

    pub(super) fn list(&self, filter: &Filter, page: &Page) -> Result<Listing, Error> {
        self.run(|session| match session.list(filter, page) {
            Ok(Some(listing)) => Ok(listing),
            Ok(None) => session.list_by_scan(filter, page),
            Err(Failed::Index(error)) if !interrupted(&error) => {
                tracing::warn!(error = chain(&error), "the index cannot be read");
                session.shared.distrust();
                session.connections.index = None;
                session.list_by_scan(filter, page)
            }
            Err(failed) => Err(failed),
        })
    }

    pub(super) fn stats(&self) -> Result<Stats, Error> {
        self.run(|session| {
            let shared = session.shared;
            stats(&session.messages()?, shared)
        })
    }

    pub(super) fn arrived(&self, after: i64, limit: u32) -> Result<Vec<Arrived>, Error> {
        self.run(|session| {
            let messages = session.messages()?;
            Ok(rows::arrived(&messages, after, limit)?)
        })
    }

    pub(super) fn find(&self, ids: &[MessageId]) -> Result<Vec<Message>, Error> {
        self.run(|session| {
            let messages = session.messages()?;
            Ok(rows::with_ids(&messages, ids)?)
        })
    }

    /// Runs `read` within [`Tuning::read_timeout`]. After an error its connections are closed.
    fn run<T>(&self, read: impl FnOnce(&mut ReadSession<'_>) -> Result<T, Failed>) -> Result<T, Error> {
        let idle = lock(&self.idle).pop();
        let run = || {
            let connections = match idle {
                Some(connections) => connections,
                None => ReadConnections {
                    messages: connection::reader(&self.path, self.tuning.reader_cache_kib)?,
                    index: None,
                },
            };
            let deadline = Instant::now() + self.tuning.read_timeout;
            let mut session =
                ReadSession { connections, deadline, tuning: self.tuning, shared: &self.shared };
            watch(&mut session.connections.messages, deadline)?;
            let result = read(&mut session)?;
            Ok((result, session.connections))
        };
        let (result, connections) = run().map_err(|failed: Failed| match failed {
            Failed::Database(error) | Failed::Index(error) => explain(error),
        })?;
        lock(&self.idle).push(connections);
        Ok(result)
    }
}

/// A read under way.
struct ReadSession<'a> {
    connections: ReadConnections,
    deadline: Instant,
    tuning: Tuning,
    shared: &'a Shared,
}

impl ReadSession<'_> {
    /// Begins a read snapshot of the messages.
    fn messages(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connections.messages.transaction_with_behavior(TransactionBehavior::Deferred)
    }

    /// Lists by a scan of the messages.
    fn list_by_scan(&mut self, filter: &Filter, page: &Page) -> Result<Listing, Failed> {
        let messages = self.messages()?;
        listing(&Plain::new(&messages, filter), page)
    }

    /// Lists by derived data; none if that is not available.
    fn list(&mut self, filter: &Filter, page: &Page) -> Result<Option<Listing>, Failed> {
        let phone_number = |written: &Option<String>| written.as_deref().map_or(Some(ANY), PhoneNumber::of);
        let pair = phone_number(&filter.from).zip(phone_number(&filter.to));
        let of_pair = pair.is_some_and(|pair| pair != (ANY, ANY));
        if of_pair || filter.search.is_some() {
            self.open_index()?;
        }
        let ReadConnections { messages, index } = &mut self.connections;
        let messages = messages.transaction_with_behavior(TransactionBehavior::Deferred)?;

        let mut derived = self.shared.derived();
        let Some(aggregates) = derived.up_to_date(&messages, TAIL_MAX)? else { return Ok(None) };
        let Some(pair) = pair else { return Ok(Some(Listing::new(page, Vec::new(), 0, false, false))) };
        let (times, dataset_id, latest) = (aggregates.times(), aggregates.edition(), aggregates.upto());
        // The snapshot of the index is taken while the aggregates are locked, so that the two belong together.
        let index = match index {
            Some((generation, conn)) if *generation == self.shared.generation() => {
                Some(IndexView::new(conn).map_err(Failed::Index)?)
            }
            _ => None,
        };
        let numbers = index.as_ref().and_then(|index| aggregates.numbers(index.state.numbers_upto));
        let recent = match &numbers {
            Some(numbers) if of_pair => aggregates.recent_of(pair.0, pair.1, numbers.upto),
            _ => Vec::new(),
        };
        drop(derived);

        let since = filter.since.map_or(Moment::MIN, Timestamp::moment);
        let until = filter.until.map_or(Moment::MAX, Timestamp::moment).max(since);
        let range = since..until;
        let by_time = ByTime { messages: &messages, ranks: times };
        let by_number = match (&index, numbers) {
            (Some(index), Some(numbers)) if of_pair => Some(ByNumber { index, numbers, pair, recent }),
            _ => None,
        };
        let order: &dyn Order = match &by_number {
            Some(by_number) => by_number,
            None if of_pair => return Ok(None),
            None => &by_time,
        };
        let Some(search) = &filter.search else {
            let crowds = &self.shared.crowds;
            let ranked =
                Ranked { messages: &messages, order, range, crowds, edition: dataset_id, pair, latest };
            return listing(&ranked, page).map(Some);
        };
        let Some(index) = &index else { return Ok(None) };
        let narrowed = of_pair || filter.since.is_some() || filter.until.is_some();
        let search_for = Search { messages: &messages, index, filter, order, range, narrowed };
        listing(&search_for.run(search, page)?, page).map(Some)
    }

    /// Opens a connection to the current index file, if there is one and it is not open yet.
    fn open_index(&mut self) -> Result<(), Failed> {
        // First the lock of the derived data, which may take a wait: the generation must belong to the same index file.
        let is_open = self.shared.derived().is_some();
        let generation = self.shared.generation();
        let index = &mut self.connections.index;
        if index.as_ref().is_none_or(|(opened, _)| *opened != generation) {
            *index = None;
            if is_open {
                let conn = connection::reader(&self.shared.path, self.tuning.index_cache_kib / 4)
                    .map_err(Failed::Index)?;
                *index = Some((generation, conn));
            }
        }
        if let Some((_, conn)) = index {
            watch(conn, self.deadline).map_err(Failed::Index)?;
        }
        Ok(())
    }
}

fn stats(messages: &Transaction<'_>, shared: &Shared) -> Result<Stats, Failed> {
    let mut derived = shared.derived();
    let aggregates = derived
        .up_to_date(messages, TAIL_MAX)?
        .map(|aggregates| (aggregates.total(), to_u64(aggregates.senders()), aggregates.top()));
    drop(derived);
    let (total_messages, senders_count, messages_per_sender) = match aggregates {
        Some(aggregates) => aggregates,
        None => plain::aggregates(messages)?,
    };
    let instant = |sql| messages.prepare_cached(sql)?.query_row((), |row| timestamp(row, 0)).optional();
    Ok(Stats {
        total_messages,
        senders_count,
        messages_per_sender,
        first_message_ts: instant(FIRST)?,
        last_message_ts: instant(LAST)?,
    })
}

/// Interrupts the statements of a connection once the deadline has passed.
fn watch(conn: &mut Connection, deadline: Instant) -> rusqlite::Result<()> {
    conn.progress_handler(STEPS_BETWEEN_CHECKS, Some(move || Instant::now() > deadline))
}

fn interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ErrorCode::OperationInterrupted)
}
