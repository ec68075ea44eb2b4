//! Wipes what erasing has left in the files: in the free space of pages, and in the write-ahead log. In short pieces, between
//! which batches are stored.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::super::checkpoint::{self, Checkpoint};
use super::super::connection::explain;
use super::super::free_space;
use super::Writer;
use crate::erasure::Wiped;
use crate::store::Error;
use crate::telemetry::chain;

/// Time after which a piece of the work ends: a batch may wait for it.
const PIECE_TIME: Duration = Duration::from_millis(5);
/// How long emptying the log waits for readers, while a batch may wait for it.
const READERS_PATIENCE: Duration = Duration::from_millis(5);

const COUNTS: &str = "SELECT erasures, wiped FROM erasure";
const SET_WIPED: &str = "UPDATE erasure SET wiped = ?1";
const LAST_REMOVED: &str = "SELECT coalesce(max(number), 0) FROM removed";
const FORGET_REMOVED: &str = "DELETE FROM removed WHERE number < (SELECT min(number) FROM removed) + ?1";
/// Number of rows of the change log that are deleted at once.
const FORGOTTEN_AT_ONCE: i64 = 200;

/// The work that is left after erasing.
#[derive(Debug, Default)]
pub(super) struct Wiping {
    /// Something was erased, and not everything that it left is wiped.
    is_due: bool,
    pass: Option<Pass>,
}

/// A pass over the pages in whose free space something may be left.
#[derive(Debug)]
struct Pass {
    /// The number of events that were gone when it began. What was erased since may be on pages that it has seen before, and is
    /// left to the next pass.
    erasures: i64,
    /// The pages that it has yet to see.
    pages: Vec<u32>,
}

impl Wiping {
    /// Something was erased.
    pub(super) fn begin(&mut self) {
        self.is_due = true;
    }

    /// Finds out whether there is work that another process, or a connection before this one, has left.
    pub(super) fn look(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let (erasures, wiped) = counts(conn)?;
        (self.is_due, self.pass) = (erasures != wiped, None);
        Ok(())
    }
}

impl Writer {
    /// [`Store::wipe`](crate::store::Store::wipe): one piece of the work.
    pub(in super::super) fn wipe(&mut self) -> Result<Wiped, Error> {
        self.checkpoint(false);
        let pass = self.wiping.pass.take();
        let followed = self.shared.followed();
        let pass = match self.write(self.patience(), |open| clean(&open.conn, pass, followed))? {
            Left::Nothing => {
                self.wiping = Wiping::default();
                return Ok(Wiped::Done);
            }
            Left::InIndex => {
                self.wiping.begin();
                self.shared.ask();
                return Ok(Wiped::Held);
            }
            Left::ChangeLog => {
                self.wiping.begin();
                return Ok(Wiped::NotYet);
            }
            Left::Pages(pass) => pass,
        };
        let Pass { erasures, ref pages } = pass;
        let is_clean = pages.is_empty();
        (self.wiping.is_due, self.wiping.pass) = (true, Some(pass));
        if !is_clean {
            return Ok(Wiped::NotYet);
        }
        if !self.empty_log()? {
            return Ok(Wiped::Held);
        }
        // Only now: a process that ends before this leaves the rest of the work to the next one.
        let is_all = self.write(self.patience(), |open| {
            open.conn.prepare_cached(SET_WIPED)?.execute([erasures])?;
            let (erasures, wiped) = counts(&open.conn)?;
            Ok(erasures == wiped)
        })?;
        self.wiping = Wiping { is_due: !is_all, pass: None };
        Ok(if is_all { Wiped::Done } else { Wiped::NotYet })
    }

    /// Does a piece of the work, if there is any and nobody waits for it.
    pub(in super::super) fn wipe_if_due(&mut self) {
        if self.wiping.is_due
            && let Err(error) = self.wipe()
        {
            tracing::debug!(error = chain(&error), "what was erased could not be wiped yet");
        }
    }

    /// Moves the write-ahead log into the database and cuts its file off; returns false if a reader needs the log, or too much
    /// of it is left to be moved.
    fn empty_log(&mut self) -> Result<bool, Error> {
        let Some(open) = self.open.as_ref().filter(|_| !self.doubt.exists()) else { return Ok(false) };
        if self.left_bytes() >= self.tuning.wal_step_bytes {
            self.steps.request();
            return Ok(false);
        }
        let emptied = open
            .conn
            .busy_timeout(READERS_PATIENCE)
            .and_then(|()| checkpoint::run(&open.conn, "TRUNCATE"))
            .map_err(|error| {
                self.doubt.weigh(&error);
                explain(error)
            });
        let Checkpoint { complete, .. } = emptied?;
        if complete {
            self.log_begins_anew();
        }
        Ok(complete)
    }
}

/// What is yet to be wiped.
enum Left {
    /// Everything is wiped.
    Nothing,
    /// The index has yet to follow what was removed; until then the table `removed` says what that was.
    InIndex,
    /// The rest of the table `removed`, which the index has followed, and what comes after that.
    ChangeLog,
    /// The rest of a pass over the pages, and the log.
    Pages(Pass),
}

/// Cleans pages for a while. `followed`: the last removal that has left nothing in the index files.
fn clean(conn: &Connection, pass: Option<Pass>, followed: i64) -> rusqlite::Result<Left> {
    let begin = Instant::now();
    let (erasures, wiped) = counts(conn)?;
    if erasures == wiped {
        return Ok(Left::Nothing);
    }
    // Also if more was erased since it began: where that happens again and again, a pass that began anew would never end.
    let mut pass = if let Some(pass) = pass {
        pass
    } else {
        let last: i64 = conn.prepare_cached(LAST_REMOVED)?.query_row((), |row| row.get(0))?;
        if last > followed {
            return Ok(Left::InIndex);
        }
        while conn.prepare_cached(FORGET_REMOVED)?.execute([FORGOTTEN_AT_ONCE])? > 0 {
            if begin.elapsed() >= PIECE_TIME {
                return Ok(Left::ChangeLog);
            }
        }
        Pass { erasures, pages: free_space::pages(conn, free_space::IDENTITIES)? }
    };
    while let Some(page) = pass.pages.pop() {
        free_space::clean(conn, page)?;
        if begin.elapsed() >= PIECE_TIME {
            break;
        }
    }
    Ok(Left::Pages(pass))
}

fn counts(conn: &Connection) -> rusqlite::Result<(i64, i64)> {
    conn.prepare_cached(COUNTS)?.query_row((), |row| Ok((row.get(0)?, row.get(1)?)))
}

#[cfg(test)]
mod tests {
    use super::super::super::migrate;
    use super::*;

    #[test]
    fn a_pass_goes_on_although_more_is_erased() {
        let conn = migrate::example(usize::try_from(migrate::VERSION).unwrap()).unwrap();
        let erase = || conn.execute("UPDATE erasure SET erasures = erasures + 1", ()).unwrap();
        erase();
        let Left::Pages(mut pass) = clean(&conn, None, 0).unwrap() else { panic!("there are pages") };
        assert_eq!(pass.erasures, 1);
        pass.pages = vec![2];
        erase();
        let Left::Pages(pass) = clean(&conn, Some(pass), 0).unwrap() else { panic!("it goes on") };
        assert_eq!((pass.erasures, pass.pages), (1, vec![]));
        let Left::Pages(pass) = clean(&conn, None, 0).unwrap() else { panic!("the next one") };
        assert_eq!(pass.erasures, 2);
    }
}
