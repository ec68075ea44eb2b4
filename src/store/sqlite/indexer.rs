//! The thread that derives: it takes in what has arrived, follows what was removed, and writes the index files, all behind the
//! messages. It never holds up an acknowledgement: it reads the messages as any reader does and writes files of its own.

use std::cell::Cell;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, Transaction};

use super::failed::Failed;
use super::identity::order_key;
use super::index::entries::{Entries, Listed};
use super::index::key::List;
use super::index::{self, Index, Mark, senders};
use super::memory::{Memory, Removed};
use super::party::Party;
use super::rows::{text, text_or_null};
use super::view::{Shared, State};
use super::{Tuning, connection, rows, texts};
use crate::message::Moment;
use crate::telemetry::chain;

/// Between two looks at what has arrived, unless a reader asks.
const TURN: Duration = Duration::from_millis(50);
/// Events that are taken in from one snapshot.
const ARRIVALS_AT_ONCE: i64 = 5_000;
/// Removals that are followed in one transaction.
const REMOVALS_AT_ONCE: i64 = 10_000;
/// Pause after a failure, doubled each time.
const RETRY: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);

const REMOVALS: &str = "\
    SELECT number, seq, identity, sender, recipient,
        CASE WHEN ts_nanosecond BETWEEN 0 AND 999999999 THEN ts_second END, ts_nanosecond FROM removed
    WHERE number > ?1 ORDER BY number LIMIT ?2";

/// The running thread. Dropping it stops it.
#[derive(Debug)]
pub(super) struct Indexer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Indexer {
    /// Starts it for the database at this path.
    pub(super) fn start(database: &Path, tuning: Tuning, shared: Arc<Shared>) -> std::io::Result<Self> {
        let mut worker = Worker {
            database: database.to_owned(),
            tuning,
            shared: Arc::clone(&shared),
            generation: 0,
            open: None,
        };
        let run = move || {
            let _guard = Withdrawal(Arc::clone(&worker.shared));
            worker.run();
        };
        let thread = std::thread::Builder::new().name("lyftr-index".into()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Indexer {
    fn drop(&mut self) {
        self.shared.stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the index panicked");
        }
    }
}

/// Withdraws the view at the end of the thread, also if that panics.
struct Withdrawal(Arc<Shared>);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.withdraw(false);
    }
}

struct Worker {
    database: PathBuf,
    tuning: Tuning,
    shared: Arc<Shared>,
    /// Counts the indexes that there have been.
    generation: u64,
    open: Option<Open>,
}

struct Open {
    messages: Connection,
    index: Index,
    memory: Memory,
}

/// Why the index cannot go on as it is.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the messages are not those that the index was made from")]
    Other,
    #[error("the index was deleted or replaced")]
    Removed,
    #[error("the index is damaged")]
    Damaged,
    #[error("the index cannot be looked at")]
    Unseen(#[from] std::io::Error),
    #[error("the messages cannot be read")]
    Messages(#[source] rusqlite::Error),
    #[error(transparent)]
    Index(#[from] rusqlite::Error),
    #[error(transparent)]
    Texts(texts::Error),
    #[error("the service is stopping")]
    Stopping,
}

impl From<texts::Error> for Broken {
    fn from(error: texts::Error) -> Self {
        match error {
            texts::Error::Index(error) => Self::Index(error),
            other => Self::Texts(other),
        }
    }
}

impl From<Failed> for Broken {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Database(error) => Self::Messages(error),
            Failed::Index(error) => Self::Index(error),
        }
    }
}

impl Broken {
    /// Whether it must be rebuilt; otherwise it can be taken up again where it was.
    fn is_lost(&self) -> bool {
        match self {
            Self::Other | Self::Removed | Self::Damaged | Self::Texts(texts::Error::Damaged(_)) => true,
            Self::Index(error) => connection::is_damage(error),
            Self::Unseen(_) | Self::Messages(_) | Self::Texts(_) | Self::Stopping => false,
        }
    }
}

impl Worker {
    fn run(&mut self) {
        let mut retry = RETRY;
        while !self.shared.is_stopping() {
            let pause = match self.turn() {
                Ok(()) => {
                    retry = RETRY;
                    TURN
                }
                Err(Broken::Stopping) => break,
                Err(broken) => {
                    tracing::warn!(error = chain(&broken), "the index cannot be written");
                    self.open = None;
                    self.shared.withdraw(broken.is_lost());
                    if broken.is_lost() {
                        index::remove(&self.shared);
                    }
                    retry = (2 * retry).min(RETRY_MAX);
                    retry
                }
            };
            self.shared.rest(pause);
        }
        if let Some(open) = self.open.take() {
            open.index.close(&self.shared);
        }
    }

    /// Does what there is to do.
    fn turn(&mut self) -> Result<(), Broken> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        if self.shared.is_distrusted(self.generation) {
            return Err(Broken::Damaged);
        }
        if !open.index.is_in_place(&self.shared)? {
            return Err(Broken::Removed);
        }
        // While one step of an erasure follows another, wiping would begin anew with each.
        if !self.bring_up_to_date(&mut open)? {
            open.index.wipe(&self.shared)?;
        }
        open.index.checkpoint(&self.shared)?;
        self.open = Some(open);
        Ok(())
    }

    /// Opens the index files.
    fn open(&mut self) -> Result<Open, Broken> {
        let reader = connection::reader(&self.database, self.tuning.reader_cache_kib);
        let messages = reader.map_err(Broken::Messages)?;
        let (snapshot, state) = snapshot(&messages)?;
        self.shared.stored(state.latest);
        let index = Index::open(&self.shared, self.tuning, &snapshot, &state)?;
        drop(snapshot);
        index.checkpoint(&self.shared)?;
        let Mark { dataset_id, upto, removed } = index.mark;
        let memory = Memory::load(&index.conn, State { dataset_id, latest: upto, removed })?;
        self.generation += 1;
        Ok(Open { messages, index, memory })
    }

    /// Follows what was removed and takes in what has arrived until nothing is left, and publishes that. Returns whether there was
    /// anything to follow.
    fn bring_up_to_date(&mut self, open: &mut Open) -> Result<bool, Broken> {
        let mut has_followed = false;
        loop {
            let (snapshot, state) = snapshot(&open.messages)?;
            let before = open.memory.state;
            if state.dataset_id != before.dataset_id || state.latest < before.latest {
                return Err(Broken::Other);
            }
            if open.memory.state.removed < state.removed {
                if self.shared.is_stopping() {
                    return Err(Broken::Stopping);
                }
                follow(&mut open.index, &mut open.memory, &snapshot, state.removed)?;
                // The next one has a snapshot of its own: one for all would hold the messages' log.
                drop(snapshot);
                open.index.checkpoint(&self.shared)?;
                has_followed = true;
                continue;
            }
            let is_all = open.memory.take_in(&snapshot, &state, &open.index.conn, ARRIVALS_AT_ONCE)?;
            self.shared.taken_in(open.memory.state.latest);
            drop(snapshot);
            if open.memory.open.len() >= self.tuning.part_messages || open.memory.open.texts.is_full() {
                let left = usize::try_from(state.latest - open.memory.state.latest).unwrap_or(usize::MAX);
                if left > 2 * self.tuning.part_messages {
                    // Reads had better not wait for so many.
                    self.shared.withdraw(false);
                }
                self.close_part(open)?;
                open.index.checkpoint(&self.shared)?;
            }
            if is_all {
                break;
            }
        }
        let view = open.memory.view(&open.index.conn, self.generation, open.index.mark.upto)?;
        self.shared.publish(view);
        Ok(has_followed)
    }

    /// Writes the open part into the index files. Readers find what arrives meanwhile.
    fn close_part(&self, open: &mut Open) -> Result<(), Broken> {
        let Open { messages, index, memory } = open;
        let part = memory.begin_part();
        let listed: Vec<Listed> = part.runs.iter().flat_map(|run| run.iter().cloned()).collect();
        let mark = Mark { upto: part.upto, ..index.mark };
        let writing = index.conn.unchecked_transaction()?;
        index.texts.close(&writing, &part.texts)?;
        let mut failed = None;
        let is_unread = Cell::new(false);
        let order_key_of = |seq| rows::order_key_if_there(messages, seq).inspect_err(|_| is_unread.set(true));
        let inserted = Entries::new(&writing).insert(&listed, order_key_of, || {
            failed = self.between(messages, &writing, memory, index.mark.upto).err();
            failed.is_none() && !self.shared.is_stopping()
        });
        let of_messages = is_unread.get();
        let is_done = inserted
            .map_err(|error| if of_messages { Broken::Messages(error) } else { Broken::Index(error) })?;
        if let Some(broken) = failed {
            return Err(broken);
        }
        if !is_done {
            return Err(Broken::Stopping);
        }
        senders::add_all(&writing, listed.iter().map(|message| message.sender).collect())?;
        memory.parties.save(&writing)?;
        index.set_mark(&mark)?;
        writing.commit()?;
        index.mark = mark;
        memory.end_part();
        Ok(())
    }

    /// Lets readers find what has arrived while a part is written. What was removed has to wait.
    /// `upto`: the watermark before that.
    fn between(
        &self,
        messages: &Connection,
        writing: &Connection,
        memory: &mut Memory,
        upto: i64,
    ) -> Result<(), Broken> {
        let (snapshot, state) = snapshot(messages)?;
        let before = memory.state;
        let may_take_in = state.dataset_id == before.dataset_id
            && state.removed == before.removed
            && memory.open.len() < 2 * self.tuning.part_messages
            && !memory.open.texts.is_full();
        if may_take_in
            && state.latest > before.latest
            && memory.take_in(&snapshot, &state, writing, ARRIVALS_AT_ONCE)?
        {
            self.shared.publish(memory.view(writing, self.generation, upto)?);
        }
        Ok(())
    }
}

/// A snapshot of the messages, and their state in it.
fn snapshot(messages: &Connection) -> Result<(Transaction<'_>, State), Broken> {
    let snapshot = messages.unchecked_transaction().map_err(Broken::Messages)?;
    let state = State::read(&snapshot).map_err(Broken::Messages)?;
    Ok((snapshot, state))
}

/// Takes the next messages that are gone out of everything that is derived, up to the removal `last`.
fn follow(index: &mut Index, memory: &mut Memory, snapshot: &Connection, last: i64) -> Result<(), Broken> {
    let (removed, number) = removals(&index.conn, memory, snapshot)?;
    let number = number.unwrap_or(last);
    memory.remove(&index.conn, &removed)?;
    let mark = Mark { removed: number, ..index.mark };
    let listed: Vec<Listed> =
        removed.iter().map(|one| one.listed.clone()).filter(|one| one.seq <= mark.upto).collect();
    let writing = index.conn.unchecked_transaction()?;
    if !listed.is_empty() {
        take_out(&writing, index, &listed)?;
    }
    forget_names(&writing, memory, &removed)?;
    index.set_mark(&mark)?;
    writing.commit()?;
    index.mark = mark;
    if !listed.is_empty() {
        index.has_traces();
    }
    memory.state.removed = number;
    Ok(())
}

/// The next messages that are gone and were taken in before that, and the number of the last removal that was looked at; none if
/// there are no more.
fn removals(
    index: &Connection,
    memory: &mut Memory,
    snapshot: &Connection,
) -> Result<(Vec<Removed>, Option<i64>), Failed> {
    let mut statement = snapshot.prepare_cached(REMOVALS)?;
    let mut rows = statement.query((memory.state.removed, REMOVALS_AT_ONCE))?;
    let (mut removed, mut number) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        number = Some(row.get(0)?);
        let seq: i64 = row.get(1)?;
        let Some(second) = row.get::<_, Option<i64>>(5)?.filter(|_| seq <= memory.state.latest) else {
            continue;
        };
        let sender: Option<String> = row.get(3)?;
        let parties = &memory.parties;
        let known = |name| parties.known(index, name).map_err(Failed::Index);
        let listed = Listed {
            moment: Moment { second, nanosecond: row.get(6)? },
            order_key: order_key(row, 2)?,
            seq,
            sender: known(sender.as_deref())?,
            recipient: known(text_or_null(row, 4)?)?,
            source: parties.known_source(index, text(row, 2)?).map_err(Failed::Index)?,
        };
        removed.push(Removed { listed, sender: sender.unwrap_or_default() });
    }
    Ok((removed, number))
}

/// Takes messages out of the index files.
fn take_out(writing: &Transaction<'_>, index: &Index, listed: &[Listed]) -> Result<(), Broken> {
    Entries::new(writing).remove(listed, || true)?;
    let mut seqs: Vec<i64> = listed.iter().map(|message| message.seq).collect();
    seqs.sort_unstable();
    index.texts.remove(writing, &seqs)?;
    for message in listed {
        senders::take(writing, message.sender)?;
    }
    Ok(())
}

/// Forgets the names of removed messages that are no other message's sender, recipient or source.
fn forget_names(writing: &Transaction<'_>, memory: &mut Memory, removed: &[Removed]) -> rusqlite::Result<()> {
    let mut names: HashSet<Party> =
        removed.iter().flat_map(|one| [one.listed.sender, one.listed.recipient, one.listed.source]).collect();
    names.retain(|party| *party > Party::OTHER_SOURCE);
    if names.is_empty() {
        return Ok(());
    }
    let (entries, in_memory) = (Entries::new(writing), memory.open.parties());
    for party in names.difference(&in_memory) {
        let (of, to) = (List { sender: *party, ..List::ALL }, List { recipient: *party, ..List::ALL });
        if !entries.has_any(of)? && !entries.has_any(to)? {
            memory.parties.forget(writing, *party)?;
        }
    }
    Ok(())
}
