//! The connections that read, and the choice for each query: by derived data, or by a scan of the messages while derived
//! data is missing.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::connection::{self, explain};
use super::failed::Failed;
use super::identity::{SEPARATOR, name_of_source};
use super::index::key::List;
use super::index::{Mark, parties};
use super::named::{self, Named, Share};
use super::ordered::{BuiltIn, InTime, Ordered};
use super::party::Party;
use super::plain::{self, Plain};
use super::recent::{Part, Recents};
use super::rows::{self, timestamp};
use super::search::Search;
use super::texts::TextFile;
use super::view::{Shared, State, View};
use super::{Tuning, cursors, erasure, lock, log, volume};
use crate::cursor::{Cursor, CursorName};
use crate::erasure::{Erasure, Step, Tombstone, Tombstones};
use crate::event::{Arrived, Event, LogRead, Position, Reached, Recorded, Source};
use crate::message::{Moment, Name, Timestamp};
use crate::query::{Filter, Listing, Page, SenderCount, Stats, Volume};
use crate::store::Error;
use crate::store::matches::listing;
use crate::telemetry::chain;

/// Instructions of SQLite's virtual machine between two checks of the deadline.
const STEPS_BETWEEN_CHECKS: i32 = 10_000;
/// Longest time that a reader waits for derived data to have what has arrived. A scan of the messages takes longer.
const VIEW_PATIENCE: Duration = Duration::from_secs(2);
/// Number of times that a reader looks for snapshots that belong together, while messages are removed or a part is closed.
const TRIES: usize = 20;

const ANY_ROW: &str = "SELECT count(*) FROM (SELECT 1 FROM event LIMIT 1)";
/// The `+` keeps SQLite from reading all rows in the order of `seq`, and sorting them.
const FIRST: &str = "\
    SELECT ts_second, ts_nanosecond, ts_digits FROM message WHERE +seq <= ?1 ORDER BY ts_second, ts_nanosecond LIMIT 1";
const LAST: &str = "\
    SELECT ts_second, ts_nanosecond, ts_digits FROM message WHERE +seq <= ?1
    ORDER BY ts_second DESC, ts_nanosecond DESC LIMIT 1";

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
    /// The index files, once they were needed.
    index: Option<IndexFiles>,
}

/// The index files as a reader has them open.
#[derive(Debug)]
struct IndexFiles {
    /// Which index they are of.
    generation: u64,
    conn: Connection,
    texts: TextFile,
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

    /// Waits until derived data has everything that the messages have, or is not there, or for [`VIEW_PATIENCE`].
    pub(super) fn wait_for_view(&self) -> Result<(), Error> {
        self.run(|session| {
            let now = State::read(&session.connections.messages)?;
            drop(session.shared.view(&now, Instant::now() + VIEW_PATIENCE));
            Ok(())
        })
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
                session.derived(|derived| {
                    let Selection { list, range, others, is_wider, parties: _ } =
                        derived.selection(filter)?;
                    if is_wider {
                        return Ok(None);
                    }
                    volume::in_order(&list, others.as_ref(), &range, step).map(Some)
                })
            } else {
                Ok(None)
            };
            session.or_by_scan(counted, filter, |messages| volume::by_scan(messages, step))
        })
    }

    pub(super) fn stats(&self) -> Result<Stats, Error> {
        self.run(|session| {
            let counted = session.derived(|derived| {
                let View { state, total, senders, top, .. } = derived.view;
                let aggregates = (*total, *senders, top.clone());
                stats(derived.messages, aggregates, state.latest).map(Some)
            });
            session.or_else(counted, |messages| stats(messages, plain::aggregates(messages)?, i64::MAX))
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
        self.or_else(derived, |messages| scan(&Plain::new(messages, filter)))
    }

    /// The result that derived data has given; without one, that of the messages themselves.
    fn or_else<T>(
        &mut self,
        derived: Result<Option<T>, Failed>,
        scan: impl FnOnce(&Connection) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        match derived {
            Ok(Some(result)) => return Ok(result),
            Ok(None) => {}
            Err(Failed::Index(error)) if !interrupted(&error) => {
                tracing::warn!(error = chain(&error), "the index cannot be read");
                if let Some(index) = self.connections.index.take().filter(|_| connection::is_damage(&error)) {
                    self.shared.distrust(index.generation);
                }
            }
            Err(failed) => return Err(failed),
        }
        scan(&*self.messages()?)
    }

    /// Lists by derived data; none if that is not available, or does not know the filter.
    fn list(&mut self, filter: &Filter, page: &Page) -> Result<Option<Listing>, Failed> {
        if let Some(id) = &filter.id {
            let messages = self.messages()?;
            return listing(&Named::find(&messages, id, filter)?, page).map(Some);
        }
        let deadline = self.deadline;
        self.derived(|derived| {
            let Selection { list, parties, range, others, is_wider } = derived.selection(filter)?;
            let in_time = |list| InTime { list, range: range.clone() };
            match (&filter.search, &others) {
                (None, None) if !is_wider => return listing(&in_time(&list), page).map(Some),
                (None, Some(others)) => {
                    return listing(&BuiltIn { all: in_time(&list), others: in_time(others) }, page)
                        .map(Some);
                }
                _ => {}
            }
            // Blocks of texts know the parties, and no sources.
            let is_wider = is_wider || others.is_some() || list.list() != parties;
            let Derived { messages, index, texts, parts, .. } = *derived;
            let rest = is_wider.then_some(filter);
            let search =
                Search { messages, index, texts, parts, list: &list, parties, range, rest, deadline };
            listing(&search.run(filter.search.as_ref(), page)?, page).map(Some)
        })
    }

    /// Calls `work` with derived data and the messages that it was derived from; none if there is none.
    fn derived<T>(
        &mut self,
        mut work: impl FnMut(&Derived<'_>) -> Result<Option<T>, Failed>,
    ) -> Result<Option<T>, Failed> {
        let deadline = Instant::now() + VIEW_PATIENCE;
        for _ in 0..TRIES {
            let now = State::read(&self.connections.messages)?;
            let Some(view) = self.shared.view(&now, deadline) else { return Ok(None) };
            self.open_index(&view)?;
            let ReadConnections { messages, index } = &mut self.connections;
            let Some(IndexFiles { conn, texts, .. }) = index else { return Ok(None) };
            let index =
                conn.transaction_with_behavior(TransactionBehavior::Deferred).map_err(Failed::Index)?;
            let mark = Mark::read(&index).map_err(Failed::Index)?;
            // Last, so that there are all messages that the others name.
            let messages = messages.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let state = State::read(&messages)?;
            if state.dataset_id != view.state.dataset_id {
                return Ok(None);
            }
            let removed = view.state.removed;
            if !self.shared.is_current(view.generation) {
                // The files may be those of the next index.
                drop((index, messages));
                self.connections.index = None;
                continue;
            }
            let is_covered = (view.base..=view.state.latest).contains(&mark.upto);
            if (mark.removed, state.removed) != (removed, removed) || !is_covered {
                // Messages were removed between the snapshots, or a part was closed that this view does not have.
                continue;
            }
            let parts: Vec<Part> = view.parts.iter().filter(|part| part.upto > mark.upto).cloned().collect();
            return work(&Derived { messages: &messages, index: &index, texts, view: &view, parts: &parts });
        }
        Ok(None)
    }

    /// Opens the index files that a view goes with, unless they are open.
    fn open_index(&mut self, view: &View) -> Result<(), Failed> {
        let index = &mut self.connections.index;
        if index.as_ref().is_none_or(|files| files.generation != view.generation) {
            *index = None;
            let conn = connection::reader(&self.shared.path, self.tuning.index_cache_kib / 4)
                .map_err(Failed::Index)?;
            let texts = TextFile::open_to_read(&self.shared.texts_path)
                .map_err(|_| Failed::Index(rusqlite::Error::InvalidPath(self.shared.texts_path.clone())))?;
            *index = Some(IndexFiles { generation: view.generation, conn, texts });
        }
        if let Some(files) = index {
            watch(&mut files.conn, self.deadline).map_err(Failed::Index)?;
        }
        Ok(())
    }
}

/// Derived data, and the messages that it was derived from.
struct Derived<'a> {
    messages: &'a Connection,
    index: &'a Connection,
    texts: &'a TextFile,
    view: &'a View,
    /// Those of the view that the snapshot of the index does not have.
    parts: &'a [Part],
}

impl<'a> Derived<'a> {
    /// What a filter without an id and a text selects.
    fn selection(&self, filter: &Filter) -> Result<Selection<'a>, Failed> {
        let party = |name: &Option<String>| match name {
            // No name begins as that of a source does.
            Some(name) if name.starts_with(SEPARATOR) => Ok(None),
            Some(name) => self.number(name),
            None => Ok(Some(Party::ANY)),
        };
        let of_parties = match (party(&filter.from)?, party(&filter.to)?) {
            (Some(sender), Some(recipient)) => Some(List { sender, recipient }),
            _ => None,
        };
        let share = named::of_source(self.messages, filter.source.as_deref())?;
        let (Some(of_parties), Share::All | Share::Some) = (of_parties, share) else {
            // Nothing at all.
            return Ok(Selection::of(self.ordered(List::ALL)?, List::ALL, Moment::MIN..Moment::MIN));
        };
        let list = self.ordered(of_parties)?;
        let selection = Selection::of(list, of_parties, range(filter));
        let Some(name) = filter.source.as_ref().filter(|_| share == Share::Some) else {
            return Ok(selection);
        };
        let is_built_in = *name == Source::WEBHOOK.as_str();
        if is_built_in && of_parties == List::ALL {
            return Ok(Selection { others: Some(self.ordered(List::OTHER_SOURCES)?), ..selection });
        }
        let of_source = if is_built_in { None } else { self.number(&name_of_source(name))? };
        let of_source = of_source.map(|source| self.ordered(List { sender: Party::ANY, recipient: source }));
        Ok(match of_source.transpose()? {
            Some(list) if of_parties == List::ALL => Selection { list, ..selection },
            // The shorter one; the rest of the filter is looked at message by message.
            Some(list) if list.count(&selection.range)? < selection.list.count(&selection.range)? => {
                Selection { list, is_wider: true, ..selection }
            }
            Some(_) => Selection { is_wider: true, ..selection },
            None if is_built_in => Selection { is_wider: true, ..selection },
            // No message of it.
            None => Selection { range: Moment::MIN..Moment::MIN, ..selection },
        })
    }

    fn number(&self, name: &str) -> Result<Option<Party>, Failed> {
        parties::find(self.index, &self.view.names, name).map_err(Failed::Index)
    }

    fn ordered(&self, list: List) -> Result<Ordered<'a>, Failed> {
        Ordered::new(self.messages, self.index, list, Recents::of(self.parts, list))
    }
}

/// What a filter selects.
struct Selection<'a> {
    /// A list that has all of it.
    list: Ordered<'a>,
    /// The sender and the recipient of all of it.
    parties: List,
    range: Range<Moment>,
    /// Those of the list that are not selected, since they are not of the built-in source.
    others: Option<Ordered<'a>>,
    /// The list has more than is selected, and it takes a look at each message to tell.
    is_wider: bool,
}

impl<'a> Selection<'a> {
    /// All of the list of these parties in a range of time.
    fn of(list: Ordered<'a>, parties: List, range: Range<Moment>) -> Self {
        Self { list, parties, range, others: None, is_wider: false }
    }
}

/// The moments that a filter lets through.
fn range(filter: &Filter) -> Range<Moment> {
    let since = filter.since.map_or(Moment::MIN, Timestamp::moment);
    since..filter.until.map_or(Moment::MAX, Timestamp::moment).max(since)
}

/// The statistics with these aggregates over the messages up to an arrival number.
fn stats(
    messages: &Connection,
    (total_messages, senders_count, messages_per_sender): (u64, u64, Vec<SenderCount>),
    upto: i64,
) -> Result<Stats, Failed> {
    let instant = |sql| messages.prepare_cached(sql)?.query_row([upto], |row| timestamp(row, 0)).optional();
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

#[cfg(test)]
mod tests {
    use super::super::migrate;
    use super::*;

    #[test]
    fn the_first_and_the_last_instant_are_read_from_the_end_of_their_order() {
        let messages = migrate::example(usize::try_from(migrate::VERSION).unwrap()).unwrap();
        for sql in [FIRST, LAST] {
            let mut plan = messages.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = plan.query_map([1], |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
            assert_eq!(steps, ["SCAN event USING INDEX event_by_instant"], "{sql}");
        }
    }
}
