//! A database that is read as it is: checked, or backed up message by message.

use std::path::Path;
use std::time::{Duration, Instant};

use super::connection::{Connections, Session};
use super::layout::Layout;
use super::{
    Address, TAKE_TIME, batch_sequence, check, horizon, migrate, newer, refused, rows, tombstones, unusable,
};
use crate::event::Arrived;
use crate::store::backup::{self, Progress, Target};
use crate::store::check::{Error as CheckError, Tell};
use crate::store::{Error, OpenError, ReadOnly, Settings, copy, create_backup};

/// Longest time that batches under way may take to end, beyond the time that one of ours may take: other processes may
/// have a longer timeout.
const SETTLE_TIMEOUT: Duration = Duration::from_mins(1);
/// Time between two looks at whether they have ended.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
/// Longest time that a check may take.
const CHECK_TIMEOUT: Duration = Duration::from_hours(24);

fn count_sql(layout: Layout) -> String {
    format!("SELECT count(*) FROM {} WHERE seq <= $1", layout.events)
}

/// A [`ReadOnly`] database on a server.
#[derive(Debug)]
pub struct ReadOnlyPostgres {
    connections: Connections,
    timeout: Duration,
    layout: Layout,
    /// Whether the schema has tombstones.
    has_tombstones: bool,
}

impl ReadOnlyPostgres {
    /// Connects to the server. The schema stays as it is.
    ///
    /// # Errors
    /// [`OpenError`], for the person who runs the command.
    pub fn open(address: &Address, settings: Settings) -> Result<Self, OpenError> {
        let connections = Connections::new(address, settings.connections, settings.timeout)
            .map_err(|cause| unusable(address, cause))?;
        match connections.lend(migrate::found).map_err(|failed| refused(address, failed))? {
            0 => Err(OpenError::Unmade { path: address.to_string() }),
            found if found > migrate::VERSION => Err(newer(address, found)),
            found => {
                let layout = Layout::of_version(found);
                let has_tombstones = found >= tombstones::SINCE_VERSION;
                Ok(Self { connections, timeout: settings.timeout, layout, has_tombstones })
            }
        }
    }

    /// An arrival number that is at least that of each event stored before this call, and up to which no event
    /// can still appear. Waits for the batches that are under way; `None` if `go_on` says to stop.
    ///
    /// # Errors
    /// [`Error`], also when they do not end.
    fn settled(&self, mut go_on: impl FnMut() -> bool) -> Result<Option<i64>, Error> {
        let latest = self.connections.lend(|session| {
            batch_sequence::repair(session, self.layout, 0)?;
            horizon::latest(session, self.layout)
        })?;
        let begin = Instant::now();
        while self.connections.lend(|session| horizon::horizon(session, self.layout))? < latest {
            if !go_on() {
                return Ok(None);
            }
            if begin.elapsed() > self.timeout + SETTLE_TIMEOUT {
                let reason = "a batch of another process does not end";
                return Err(Error::Unavailable { reason, source: None });
            }
            std::thread::sleep(SETTLE_PAUSE);
        }
        Ok(Some(latest))
    }

    /// At most a batch of events after an arrival number and up to one that is [`settled`](Self::settled), in order.
    fn events(&self, after: i64, upto: i64) -> Result<Vec<Arrived>, Error> {
        let read =
            |session: &Session<'_>| rows::arrived_after(session, self.layout, after, upto, copy::BATCH);
        Ok(self.connections.lend(read)?)
    }

    /// The number of events up to an arrival number, counted one by one, and of the transactions that had erased some by then.
    fn count_upto(&self, upto: i64) -> Result<(u64, i64), Error> {
        let count = |session: &Session<'_>| {
            session.snapshot(|| {
                session.run(TAKE_TIME)?;
                let steps = if self.has_tombstones { tombstones::steps(session)? } else { 0 };
                Ok((rows::count(&session.row(&count_sql(self.layout), &[&upto])?, 0)?, steps))
            })
        };
        Ok(self.connections.lend_for(CHECK_TIMEOUT, count)?)
    }

    /// Adds all tombstones to a backup.
    fn add_tombstones(&self, target: &mut dyn Target) -> Result<(), Error> {
        if !self.has_tombstones {
            return Ok(());
        }
        let mut after = None;
        loop {
            let read = |session: &Session<'_>| {
                session.snapshot(|| tombstones::after(session, after.as_ref(), copy::TOMBSTONES))
            };
            let Some(some) = self.connections.lend(read)? else { return Ok(()) };
            let Some(last) = some.hashes.last() else { return Ok(()) };
            after = Some(*last);
            target.adopt(&some)?;
        }
    }

    /// Takes the events out of a backup that were erased after `steps` erasing transactions. Returns how many there were, and
    /// how many events up to an arrival number the database has by then.
    fn remove_erased(&self, target: &mut dyn Target, steps: i64, upto: i64) -> Result<(u64, u64), Error> {
        let read = |session: &Session<'_>| {
            session.snapshot(|| {
                session.run(TAKE_TIME)?;
                let count = rows::count(&session.row(&count_sql(self.layout), &[&upto])?, 0)?;
                Ok((tombstones::since(session, steps)?, count))
            })
        };
        let (erased, count) = self.connections.lend_for(CHECK_TIMEOUT, read)?;
        let removed = erased.map_or(Ok(0), |erased| target.remove(&erased))?;
        Ok((removed, count))
    }
}

impl ReadOnly for ReadOnlyPostgres {
    fn check(&self, tell: &mut Tell<'_>) -> Result<u64, CheckError> {
        let check = |session: &Session<'_>| session.snapshot(|| check::check(session, tell));
        Ok(self.connections.lend_for(CHECK_TIMEOUT, check).map_err(Error::from)?)
    }

    fn backup(
        &self,
        to: &Path,
        go_on: &mut dyn FnMut(Progress) -> bool,
    ) -> Result<Option<u64>, backup::Error> {
        let Some(upto) = self.settled(|| go_on(Progress::default()))? else { return Ok(None) };
        let mut target = create_backup(to)?;
        let (mut expected, steps) = self.count_upto(upto)?;
        let mut progress = Progress { done: 0, total: expected };
        let mut goes_on = go_on(progress);
        copy::each_batch(
            |after| self.events(after, upto),
            |batch| {
                if goes_on {
                    target.add(batch)?;
                    progress.done += u64::try_from(batch.len()).unwrap_or(0);
                    goes_on = go_on(progress);
                }
                Ok(goes_on)
            },
        )?;
        if !goes_on {
            return Ok(None);
        }
        let mut found = progress.done;
        self.add_tombstones(target.as_mut())?;
        if self.has_tombstones && self.connections.lend(tombstones::steps).map_err(Error::from)? != steps {
            let (removed, count) = self.remove_erased(target.as_mut(), steps, upto)?;
            found = found.saturating_sub(removed);
            expected = count;
        }
        if expected == found { Ok(Some(found)) } else { Err(backup::Error::Differs { expected, found }) }
    }
}
