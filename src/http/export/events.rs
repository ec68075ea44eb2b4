//! The events of an export: the log, from where it begins to the end that it has by then.

use super::{Pages, Reached, Rows};
use crate::event::{EVENTS_MAX, LogRead};
use crate::store::{self, Store};

/// Size at which a page ends, in bytes of its rows. The event that crosses it is on the page.
const PAGE_BYTES: usize = 1 << 20;

/// The events that a read of the log lets through, with no regard to its own limit.
#[derive(Debug)]
pub(in crate::http) struct Events {
    read: LogRead,
    /// How many there may be yet.
    left: u64,
}

impl Events {
    /// `limit` of them at most.
    pub(in crate::http) fn new(read: LogRead, limit: Option<u64>) -> Self {
        Self { read, left: limit.unwrap_or(u64::MAX) }
    }
}

impl Pages for Events {
    const NAME: &'static str = "events";
    const COLUMNS: &'static [&'static str] = Rows::OF_EVENTS;

    fn read(&mut self, store: &dyn Store, rows: &mut Rows) -> Result<Reached, store::Error> {
        self.read.limit = u32::try_from(self.left).unwrap_or(u32::MAX).min(EVENTS_MAX);
        let left = &mut self.left;
        let reached = store.read_log(&self.read, &mut |recorded| {
            rows.event(&recorded);
            *left -= 1;
            rows.len() < PAGE_BYTES
        })?;
        let Some(reached) = reached else { return Ok(Reached::Gone) };
        if reached.end || self.left == 0 {
            return Ok(Reached::End);
        }
        self.read.start = self.read.start.on_from(reached.next);
        Ok(Reached::More)
    }
}
