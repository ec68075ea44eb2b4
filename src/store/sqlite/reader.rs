//! The connections that read, and the choice for each query: by derived data, or by a scan of the messages while derived
//! data is missing.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::connection::{self, explain};
use super::failed::Failed;
use super::index::IndexView;
use super::indexer::Shared;
use super::kept::Edition;
use super::named::{self, Named, Share};
use super::order::{ByNumber, ByTime, Order};
use super::phone_number::{ANY, OTHER, PhoneNumber};
use super::plain::{self, Plain};
use super::ranked::Ranked;
use super::rows::{self, timestamp};
use super::search::Search;
use super::{Tuning, cursors, erasure, lock, log, volume};
use crate::cursor::{Cursor, CursorName};
use crate::erasure::{Erasure, Step, Tombstone, Tombstones};
use crate::event::{Arrived, Event, LogRead, Position, Reached, Recorded, Source};
use crate::message::{Moment, Name, Timestamp};
use crate::query::{Filter, Listing, Page, Stats, Volume};
use crate::store::Error;
use crate::store::matches::{listing, to_u64};
use crate::telemetry::chain;

/// Instructions of SQLite's virtual machine between two checks of the deadline.
const STEPS_BETWEEN_CHECKS: i32 = 10_000;
/// Maximum number of messages above the watermark that a reader adds to the aggregates itself.
const TAIL_MAX: i64 = 50_000;

const ANY_ROW: &str = "SELECT count(*) FROM (SELECT 1 FROM event LIMIT 1)";
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
        self.run(|session| {
            let listed = session.list(filter, page);
            session.or_by_scan(listed, filter, |messages| listing(messages, page))
        })
    }

    pub(super) fn volume(&self, filter: &Filter, step_seconds: u32) -> Result<Option<Volume>, Error> {
        let step = i64::from(step_seconds.max(1));
        self.run(|session| {
            let counted = if filter.id.is_none() && filter.search.is_none() {
                session.ordered(filter, |ordered| {
                    volume::in_order(ordered.order, &ordered.range, step).map(Some)
                })
            } else {
                Ok(None)
            };
            session.or_by_scan(counted, filter, |messages| volume::by_scan(messages, step))
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

    pub(super) fn find(&self, keys: &[(Source, Name)]) -> Result<Vec<Event>, Error> {
        self.run(|session| {
            let messages = session.messages()?;
            Ok(rows::with_keys(&messages, keys)?)
        })
    }

    pub(super) fn read_log(
        &self,
        read: &LogRead,
        each: &mut dyn FnMut(Recorded) -> bool,
    ) -> Result<Option<Reached>, Error> {
        self.run(|session| {
            let events = session.messages()?;
            Ok(log::read(&events, read, self.tuning.log_window.into(), each)?)
        })
    }

    pub(super) fn event_at(&self, position: Position) -> Result<Option<Recorded>, Error> {
        self.run(|session| {
            let events = session.messages()?;
            Ok(log::event_at(&events, position)?)
        })
    }

    pub(super) fn cursors(&self) -> Result<Vec<Cursor>, Error> {
        self.run(|session| {
            let events = session.messages()?;
            Ok(cursors::all(&events)?)
        })
    }

    pub(super) fn cursor(&self, name: &CursorName) -> Result<Option<Cursor>, Error> {
        self.run(|session| {
            let events = session.messages()?;
            Ok(cursors::one(&events, name)?)
        })
    }

    /// The arrival numbers of events to erase, and where to go on looking for more.
    pub(super) fn selected(&self, selection: &Erasure, after: i64) -> Result<(Vec<i64>, Option<i64>), Error> {
        self.run(|session| {
            let events = session.messages()?;
            Ok(erasure::selected(&events, selection, after, self.tuning.log_window.into())?)
        })
    }

    pub(super) fn count_selected(&self, selection: &Erasure, after: i64) -> Result<Step, Error> {
        self.run(|session| {
            let events = session.messages()?;
            Ok(erasure::count(&events, selection, after, self.tuning.log_window.into())?)
        })
    }

    pub(super) fn tombstones(
        &self,
        after: Option<&Tombstone>,
        limit: u32,
    ) -> Result<Option<Tombstones>, Error> {
        self.run(|session| {
            let events = session.messages()?;
            Ok(erasure::tombstones(&events, after, limit)?)
        })
    }

    pub(super) fn erased(&self, keys: &[(Source, Name)]) -> Result<Vec<bool>, Error> {
        self.run(|session| {
            let events = session.messages()?;
            Ok(erasure::erased(&events, keys)?)
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

    /// The result that derived data has given; without one, that of a scan of the messages.
    fn or_by_scan<T>(
        &mut self,
        derived: Result<Option<T>, Failed>,
        filter: &Filter,
        scan: impl FnOnce(&Plain<'_>) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        match derived {
            Ok(Some(result)) => return Ok(result),
            Ok(None) => {}
            Err(Failed::Index(error)) if !interrupted(&error) => {
                tracing::warn!(error = chain(&error), "the index cannot be read");
                self.shared.distrust();
                self.connections.index = None;
            }
            Err(failed) => return Err(failed),
        }
        let messages = self.messages()?;
        scan(&Plain::new(&messages, filter))
    }

    /// Lists by derived data; none if that is not available, or does not know the filter.
    fn list(&mut self, filter: &Filter, page: &Page) -> Result<Option<Listing>, Failed> {
        if let Some(id) = &filter.id {
            let messages = self.messages()?;
            return listing(&Named::find(&messages, id, filter)?, page).map(Some);
        }
        let crowds = &self.shared.crowds;
        self.ordered(filter, |ordered| {
            let Ordered { messages, order, range, .. } = ordered;
            let Some(search) = &filter.search else {
                let Ordered { dataset_id: edition, pair, latest, .. } = *ordered;
                let range = range.clone();
                let ranked = Ranked { messages, order: *order, range, crowds, edition, pair, latest };
                return listing(&ranked, page).map(Some);
            };
            let Some(index) = ordered.index else { return Ok(None) };
            let narrowed = ordered.is_narrowed(filter);
            let search_for =
                Search { messages, index, filter, order: *order, range: range.clone(), narrowed };
            listing(&search_for.run(search, page)?, page).map(Some)
        })
    }

    /// Calls `work` with the messages that the parties, the source and the times of a filter leave, in order; none if derived
    /// data is not available, or does not tell these messages from others.
    fn ordered<T>(
        &mut self,
        filter: &Filter,
        work: impl FnOnce(&Ordered<'_>) -> Result<Option<T>, Failed>,
    ) -> Result<Option<T>, Failed> {
        let number = |party: &Option<String>| {
            party.as_deref().map_or(ANY, |written| PhoneNumber::of_party(Some(written)))
        };
        let pair = (number(&filter.from), number(&filter.to));
        let of_pair = pair != (ANY, ANY);
        if of_pair || filter.search.is_some() {
            self.open_index()?;
        }
        let ReadConnections { messages, index } = &mut self.connections;
        let messages = messages.transaction_with_behavior(TransactionBehavior::Deferred)?;

        let mut derived = self.shared.derived();
        let Some(aggregates) = derived.up_to_date(&messages, TAIL_MAX)? else { return Ok(None) };
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

        let range = match named::of_source(&messages, filter.source.as_deref())? {
            Share::All => range(filter),
            Share::None => Moment::MIN..Moment::MIN,
            Share::Some => return Ok(None),
        };
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
        let ordered =
            Ordered { messages: &messages, index: index.as_ref(), order, range, pair, dataset_id, latest };
        // All parties that are no phone number count as one, so that only their absence says something.
        if (pair.0 == OTHER || pair.1 == OTHER) && ordered.total()? > 0 {
            return Ok(None);
        }
        work(&ordered)
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

/// Messages in order, by derived data, of one snapshot.
struct Ordered<'a> {
    messages: &'a Connection,
    index: Option<&'a IndexView<'a>>,
    order: &'a dyn Order,
    range: Range<Moment>,
    pair: (PhoneNumber, PhoneNumber),
    dataset_id: Edition,
    latest: i64,
}

impl Ordered<'_> {
    fn total(&self) -> Result<u64, Failed> {
        Ok(self.order.rank(self.range.end)?.saturating_sub(self.order.rank(self.range.start)?))
    }

    /// Whether the filter leaves some messages out, whatever their texts.
    fn is_narrowed(&self, filter: &Filter) -> bool {
        self.pair != (ANY, ANY) || filter.since.is_some() || filter.until.is_some() || self.range.is_empty()
    }
}

/// The moments that a filter lets through.
fn range(filter: &Filter) -> Range<Moment> {
    let since = filter.since.map_or(Moment::MIN, Timestamp::moment);
    since..filter.until.map_or(Moment::MAX, Timestamp::moment).max(since)
}

fn stats(messages: &Transaction<'_>, shared: &Shared) -> Result<Stats, Failed> {
    let mut derived = shared.derived();
    let aggregates = derived
        .up_to_date(messages, TAIL_MAX)?
        .filter(|aggregates| !aggregates.has_other_senders())
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
