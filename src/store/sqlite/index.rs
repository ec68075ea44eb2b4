//! The index file, `app.db-index`: what is derived from the messages and too large for memory. It is written
//! behind the messages, never before an acknowledgement, and is made anew when it is missing or damaged.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Row, Transaction, TransactionBehavior, params};

use super::Tuning;
use super::connection;
use super::files::{FileId, beside};
use super::kept::{Arrival, Edition, Kept, NumberKey, Numbers};
use super::phone_number::{ANY, PhoneNumber as Number};
use super::ranks::{Ranks, Step};
use crate::message::Moment;
use crate::query::fold;
use crate::store::matches::Entry;

const SCHEMA: &str = include_str!("index/schema.sql");
/// Counts up with every change of the schema; an index of another version is made anew.
pub(super) const VERSION: i64 = 1;
const NEW_STATE: &str = "INSERT INTO state (only, edition, numbers_upto, texts_upto) VALUES (1, ?1, 0, 0)";
const STATE: &str = "SELECT edition, numbers_upto, texts_upto FROM state";
const SENDERS: &str = "SELECT number, messages FROM sender";
pub(super) const TIME_STEPS: &str = "SELECT ts_second, ts_nanosecond, entries FROM time_step";
pub(super) const NUMBER_STEPS: &str =
    "SELECT sender, recipient, ts_second, ts_nanosecond, entries FROM number_step";

const ADD_NUMBER: &str = "\
    INSERT INTO by_number (sender, recipient, ts_second, ts_nanosecond, seq) VALUES (?1, ?2, ?3, ?4, ?5)";
const ADD_TO_SENDER: &str = "\
    INSERT INTO sender (number, messages) VALUES (?1, ?2) ON CONFLICT (number) DO UPDATE SET messages = messages + excluded.messages";
const ADD_TIME_STEP: &str = "INSERT INTO time_step (ts_second, ts_nanosecond, entries) VALUES (?1, ?2, ?3)";
const ADD_NUMBER_STEP: &str = "\
    INSERT INTO number_step (sender, recipient, ts_second, ts_nanosecond, entries) VALUES (?1, ?2, ?3, ?4, ?5)";
const CLEAR_STEPS: &str = "DELETE FROM time_step; DELETE FROM number_step";
const NUMBERS_UPTO: &str = "UPDATE state SET numbers_upto = ?1";
const ADD_TEXT: &str = "INSERT INTO by_text (rowid, folded) VALUES (?1, ?2)";
const TEXTS_UPTO: &str = "UPDATE state SET texts_upto = ?1";

const KEYS: &str = "\
    SELECT sender, recipient, ts_second, ts_nanosecond FROM by_number
    WHERE (sender, recipient, ts_second, ts_nanosecond) >= (?1, ?2, ?3, ?4)
      AND (sender, recipient, ts_second, ts_nanosecond) <= (?5, ?6, ?7, ?8)
    ORDER BY sender, recipient, ts_second, ts_nanosecond";
const KEY_AFTER: &str = "\
    SELECT sender, recipient, ts_second, ts_nanosecond FROM by_number
    WHERE (sender, recipient, ts_second, ts_nanosecond) >= (?1, ?2, ?3, ?4)
    ORDER BY sender, recipient, ts_second, ts_nanosecond LIMIT 1 OFFSET ?5";
const COUNT: &str = "\
    SELECT count(*) FROM by_number
    WHERE (sender, recipient, ts_second, ts_nanosecond) >= (?1, ?2, ?3, ?4)
      AND (sender, recipient, ts_second, ts_nanosecond) <= (?5, ?6, ?7, ?8)";
const ENTRIES: &str = "\
    SELECT ts_second, ts_nanosecond, seq FROM by_number
    WHERE sender = ?1 AND recipient = ?2
      AND (ts_second, ts_nanosecond) >= (?3, ?4) AND (ts_second, ts_nanosecond) <= (?5, ?6)
    ORDER BY ts_second, ts_nanosecond, seq LIMIT ?7";
const AT: &str = "\
    SELECT seq FROM by_number
    WHERE sender = ?1 AND recipient = ?2 AND ts_second = ?3 AND ts_nanosecond = ?4 AND seq > ?5
    ORDER BY seq LIMIT ?6";
const MATCHES: &str = "SELECT rowid FROM by_text WHERE by_text MATCH ?1";

/// The connection that writes the index.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    file: FileId,
    conn: Connection,
    tuning: Tuning,
    texts_upto: i64,
}

/// How far the index has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) edition: Edition,
    pub(super) numbers_upto: i64,
    pub(super) texts_upto: i64,
}

/// Figures that are to be written.
#[derive(Debug)]
pub(super) struct Batch {
    /// They are all that have arrived up to this number since the index was written.
    pub(super) upto: i64,
    /// In order of arrival.
    pub(super) arrivals: Vec<Arrival>,
    /// The messages by time, these included.
    pub(super) times: std::sync::Arc<Ranks<Moment>>,
    /// The index without them.
    pub(super) numbers: Numbers,
}

impl Index {
    /// Opens the index of the messages called `edition`, of which the latest is `latest`. What is there and is
    /// not the index of these messages is deleted.
    pub(super) fn open(path: &Path, tuning: Tuning, edition: Edition, latest: i64) -> rusqlite::Result<Self> {
        let fits =
            |state: &State| state.edition == edition && state.numbers_upto.max(state.texts_upto) <= latest;
        match open(path, tuning).and_then(|conn| Ok((state(&conn)?, conn))) {
            Ok((state, conn)) if fits(&state) => return Self::adopt(path, conn, state, tuning),
            // Locked, or no room for the log: it stays, and is tried again.
            Err(error) if connection::may_pass(&error) => return Err(error),
            _ => {}
        }
        remove(path);
        let mut conn = open(path, tuning)?;
        let making = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        making.execute_batch(SCHEMA)?;
        making.execute(NEW_STATE, [edition])?;
        making.pragma_update(None, "user_version", VERSION)?;
        making.commit()?;
        if latest > 0 {
            tracing::info!("the index is made anew from the messages");
        }
        Self::adopt(path, conn, State { edition, numbers_upto: 0, texts_upto: 0 }, tuning)
    }

    fn adopt(path: &Path, conn: Connection, state: State, tuning: Tuning) -> rusqlite::Result<Self> {
        let file =
            FileId::at(path).ok().flatten().ok_or_else(|| rusqlite::Error::InvalidPath(path.to_owned()))?;
        let (path, texts_upto) = (path.to_owned(), state.texts_upto);
        Ok(Self { path, file, conn, tuning, texts_upto })
    }

    /// Whether the file that the path leads to is still the one that is written.
    pub(super) fn in_place(&self) -> std::io::Result<bool> {
        Ok(FileId::at(&self.path)? == Some(self.file))
    }

    /// Messages up to this one can be found by their text.
    pub(super) fn texts_upto(&self) -> i64 {
        self.texts_upto
    }

    /// The figures as they were written last.
    pub(super) fn load(&self) -> rusqlite::Result<Kept> {
        let state = state(&self.conn)?;
        let senders: HashMap<Number, u64> = self
            .conn
            .prepare(SENDERS)?
            .query_map((), |row| Ok((Number(row.get(0)?), row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let times = self.steps(TIME_STEPS, Moment::MIN, |row| Ok((moment(row, 0)?, row.get(2)?)))?;
        let ranks = self.steps(NUMBER_STEPS, NumberKey::MIN, |row| Ok((number_key(row)?, row.get(4)?)))?;
        let numbers = Numbers { upto: state.numbers_upto, ranks: ranks.into() };
        Ok(Kept::new(state.edition, senders, times, numbers, self.tuning.step_size))
    }

    fn steps<K: Copy + Ord>(
        &self,
        sql: &str,
        least: K,
        step: impl Fn(&Row<'_>) -> rusqlite::Result<(K, u64)>,
    ) -> rusqlite::Result<Ranks<K>> {
        let steps: Vec<_> = self
            .conn
            .prepare(sql)?
            .query_map((), |row| {
                step(row).map(|(first, count)| Step::new(first, count, self.tuning.step_size))
            })?
            .collect::<Result<_, _>>()?;
        if steps.is_empty() {
            return Ok(Ranks::empty(least, self.tuning.step_size));
        }
        Ranks::from_steps(steps, least).ok_or_else(damaged)
    }

    /// Writes a batch. Tells `expect` what the index will be before it is; none if it was stopped.
    pub(super) fn write(
        &mut self,
        batch: &Batch,
        stop: &AtomicBool,
        expect: impl FnOnce(Numbers),
    ) -> rusqlite::Result<Option<()>> {
        let upto = batch.upto;
        if upto == batch.numbers.upto {
            return Ok(Some(()));
        }
        let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Some(ranks) = write_numbers(&transaction, batch, self.tuning.step_size, stop)? else {
            return Ok(None);
        };
        write_senders(&transaction, &batch.arrivals)?;
        write_steps(&transaction, &batch.times, &ranks)?;
        transaction.execute(NUMBERS_UPTO, [upto])?;
        expect(Numbers { upto, ranks: ranks.into() });
        transaction.commit()?;
        Ok(Some(()))
    }

    /// Makes these texts findable, which are all that arrived up to `upto` and since the last call.
    pub(super) fn write_texts(&mut self, texts: &[(i64, String)], upto: i64) -> rusqlite::Result<()> {
        let transaction = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut add = transaction.prepare_cached(ADD_TEXT)?;
        for (seq, text) in texts {
            add.execute((seq, fold(text)))?;
        }
        drop(add);
        transaction.execute(TEXTS_UPTO, [upto])?;
        transaction.commit()?;
        self.texts_upto = upto;
        Ok(())
    }

    /// Moves the write-ahead log into the file, if it is large. `idle`: there is time.
    pub(super) fn checkpoint(&self, idle: bool) -> rusqlite::Result<()> {
        let due = self.tuning.index_log_bytes;
        if self.log_bytes() >= if idle { due } else { 8 * due } {
            self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()))?;
        }
        Ok(())
    }

    /// Leaves one file behind, if that is quickly done.
    pub(super) fn close(self) {
        if self.log_bytes() < self.tuning.index_log_bytes {
            let _left_as_it_is = self.conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(beside(&self.path, "-wal")).map_or(0, |log| log.len())
    }
}

/// Adds the entries of a batch, in the order of the index, so that each of its pages is written once.
fn write_numbers(
    conn: &Connection,
    batch: &Batch,
    step_size: u64,
    stop: &AtomicBool,
) -> rusqlite::Result<Option<Ranks<NumberKey>>> {
    let mut entries: Vec<(NumberKey, i64)> = Vec::with_capacity(3 * batch.arrivals.len());
    for arrival in &batch.arrivals {
        let Arrival { entry: Entry { moment, seq }, sender, recipient } = *arrival;
        for (sender, recipient) in [(sender, ANY), (ANY, recipient), (sender, recipient)] {
            entries.push((NumberKey { sender, recipient, moment }, seq));
        }
    }
    entries.sort_unstable();
    let mut ranks = batch.numbers.ranks.as_ref().clone();
    let mut add = conn.prepare_cached(ADD_NUMBER)?;
    for (n, (key, seq)) in entries.into_iter().enumerate() {
        if n % 1024 == 0 && stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        add.execute((key.sender.0, key.recipient.0, key.moment.second, key.moment.nanosecond, seq))?;
        ranks.add(key);
    }
    ranks.cut(step_size, |range, each| number_keys(conn, &range, each), NumberKey::MAX)?;
    Ok(Some(ranks))
}

fn write_steps(conn: &Connection, times: &Ranks<Moment>, numbers: &Ranks<NumberKey>) -> rusqlite::Result<()> {
    conn.execute_batch(CLEAR_STEPS)?;
    let mut add = conn.prepare_cached(ADD_TIME_STEP)?;
    for step in times.steps() {
        add.execute((step.first.second, step.first.nanosecond, step.count))?;
    }
    let mut add = conn.prepare_cached(ADD_NUMBER_STEP)?;
    for step in numbers.steps() {
        let NumberKey { sender, recipient, moment } = step.first;
        add.execute((sender.0, recipient.0, moment.second, moment.nanosecond, step.count))?;
    }
    Ok(())
}

fn write_senders(conn: &Connection, arrivals: &[Arrival]) -> rusqlite::Result<()> {
    let mut senders: Vec<Number> = arrivals.iter().map(|arrival| arrival.sender).collect();
    senders.sort_unstable();
    let mut add = conn.prepare_cached(ADD_TO_SENDER)?;
    for same in senders.chunk_by(|one, other| one == other) {
        if let Some(sender) = same.first() {
            add.execute(params![sender.0, same.len()])?;
        }
    }
    Ok(())
}

/// The index as one snapshot of it is.
#[derive(Debug)]
pub(super) struct IndexView<'conn> {
    conn: Transaction<'conn>,
    pub(super) state: State,
}

impl<'conn> IndexView<'conn> {
    /// A snapshot of this moment.
    pub(super) fn new(conn: &'conn mut Connection) -> rusqlite::Result<Self> {
        let conn = conn.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let state = state(&conn)?;
        Ok(Self { conn, state })
    }

    /// Entries in a range.
    pub(super) fn count(&self, range: &Range<NumberKey>) -> rusqlite::Result<u64> {
        self.conn.prepare_cached(COUNT)?.query_row(bounds(range), |row| row.get(0))
    }

    /// The key that comes `nth` from `first` on, counted from 0.
    pub(super) fn key_after(&self, first: NumberKey, nth: u64) -> rusqlite::Result<NumberKey> {
        let NumberKey { sender, recipient, moment } = first;
        let nth = i64::try_from(nth).unwrap_or(i64::MAX);
        let given = (sender.0, recipient.0, moment.second, moment.nanosecond, nth);
        self.conn.prepare_cached(KEY_AFTER)?.query_row(given, number_key)
    }

    /// Hands over the entries of a pair in order, at most `limit` of them.
    pub(super) fn entries(
        &self,
        (sender, recipient): (Number, Number),
        range: &Range<Moment>,
        limit: i64,
        each: &mut dyn FnMut(Entry) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let (from, last) = (range.start, range.end.previous());
        let given =
            (sender.0, recipient.0, from.second, from.nanosecond, last.second, last.nanosecond, limit);
        let mut statement = self.conn.prepare_cached(ENTRIES)?;
        let mut rows = statement.query(given)?;
        while let Some(row) = rows.next()? {
            each(Entry { moment: moment(row, 0)?, seq: row.get(2)? })?;
        }
        Ok(())
    }

    /// Hands over the entries of a key that arrived after `seq` in order of arrival, at most `limit` of them.
    pub(super) fn at(
        &self,
        key: NumberKey,
        seq: i64,
        limit: i64,
        each: &mut dyn FnMut(Entry) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<()> {
        let NumberKey { sender, recipient, moment } = key;
        let given = (sender.0, recipient.0, moment.second, moment.nanosecond, seq, limit);
        let mut statement = self.conn.prepare_cached(AT)?;
        let mut rows = statement.query(given)?;
        while let Some(row) = rows.next()? {
            each(Entry { moment, seq: row.get(0)? })?;
        }
        Ok(())
    }

    /// Hands over the arrival numbers of the texts that hold each of these strings of three characters, until
    /// `each` says no.
    pub(super) fn matches(
        &self,
        trigrams: &[String],
        mut each: impl FnMut(i64) -> bool,
    ) -> rusqlite::Result<()> {
        let quoted = |trigram: &String| format!("\"{}\"", trigram.replace('"', "\"\""));
        let all = trigrams.iter().map(quoted).collect::<Vec<_>>().join(" AND ");
        let mut statement = self.conn.prepare_cached(MATCHES)?;
        let mut rows = statement.query([all])?;
        while let Some(row) = rows.next()? {
            if !each(row.get(0)?) {
                break;
            }
        }
        Ok(())
    }
}

/// Deletes the index, whatever is left of it.
pub(super) fn remove(path: &Path) {
    for ending in ["", "-wal", "-shm"] {
        match std::fs::remove_file(beside(path, ending)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(error = %error, "a file of the index cannot be deleted");
            }
            _ => {}
        }
    }
}

fn open(path: &Path, tuning: Tuning) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = connection::open(path, flags, tuning.index_cache_kib)?;
    conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    // What a power cut takes away is derived again; NORMAL keeps the file whole.
    conn.pragma_update(None, "synchronous", "NORMAL")?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    // The service does not wait for this when it ends.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(conn)
}

/// How far it has come; an error if it is of another version.
pub(super) fn state(conn: &Connection) -> rusqlite::Result<State> {
    let version: i64 = conn.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    if version != VERSION {
        return Err(damaged());
    }
    conn.prepare_cached(STATE)?.query_row((), |row| {
        Ok(State { edition: row.get(0)?, numbers_upto: row.get(1)?, texts_upto: row.get(2)? })
    })
}

fn damaged() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
}

fn number_keys(
    conn: &Connection,
    range: &Range<NumberKey>,
    each: &mut dyn FnMut(NumberKey),
) -> rusqlite::Result<()> {
    let mut statement = conn.prepare_cached(KEYS)?;
    let mut rows = statement.query(bounds(range))?;
    while let Some(row) = rows.next()? {
        each(number_key(row)?);
    }
    Ok(())
}

type Bounds = (i64, i64, i64, u32, i64, i64, i64, u32);

fn bounds(range: &Range<NumberKey>) -> Bounds {
    let (from, end) = (range.start, range.end);
    let last = end.moment.previous();
    (
        from.sender.0,
        from.recipient.0,
        from.moment.second,
        from.moment.nanosecond,
        end.sender.0,
        end.recipient.0,
        last.second,
        last.nanosecond,
    )
}

/// The key in the first four columns.
pub(super) fn number_key(row: &Row<'_>) -> rusqlite::Result<NumberKey> {
    Ok(NumberKey { sender: Number(row.get(0)?), recipient: Number(row.get(1)?), moment: moment(row, 2)? })
}

/// The moment in two columns, from `first` on.
pub(super) fn moment(row: &Row<'_>, first: usize) -> rusqlite::Result<Moment> {
    Ok(Moment { second: row.get(first)?, nanosecond: row.get(first + 1)? })
}
