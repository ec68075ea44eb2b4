//! The comparison of the search index with itself, and with the texts that it should hold.

use rusqlite::Connection;

use super::Error;
use super::lists::{self, Gathered};
use super::segment::{TextFile, segments};

const LISTS_OF_NONE: &str = "SELECT count(*) FROM text_list AS list WHERE NOT EXISTS (
    SELECT 1 FROM text_segment WHERE number = list.id >> 15 AND messages > 0)";

impl TextFile {
    /// Reads all segments that the index's snapshot names: hands over the arrival number and the folded text of each message,
    /// in order of arrival, and compares the lists with lists made anew.
    ///
    /// # Errors
    /// [`Error::Damaged`] with what does not fit; otherwise why the file or the index cannot be read.
    pub(in crate::store::sqlite) fn check(
        &self,
        index: &Connection,
        each: &mut dyn FnMut(i64, &str),
    ) -> Result<(), Error> {
        for segment in segments(index)?.into_iter().filter(|segment| segment.messages > 0) {
            let mut gathered = Gathered::new();
            let (mut messages, mut last) = (0, None);
            self.blocks(&segment, |page, block| {
                for entry in block.entries() {
                    let entry = entry?;
                    if last.replace(entry.seq).is_some_and(|last| last >= entry.seq) {
                        return Err(Error::Damaged("messages are not in order of arrival"));
                    }
                    let Some(live) = entry.live else { continue };
                    if live.moment < segment.earliest || live.moment > segment.latest {
                        return Err(Error::Damaged("a message is outside the time of its segment"));
                    }
                    messages += 1;
                    each(entry.seq, live.folded()?);
                }
                gathered.add(page, block)
            })?;
            if messages != segment.messages {
                return Err(Error::Damaged("a segment has more or fewer messages than it says"));
            }
            if lists::written(index, segment.number)? != gathered.written() {
                return Err(Error::Damaged("lists name other blocks than those that hold their slots"));
            }
        }
        match index.query_row(LISTS_OF_NONE, (), |row| row.get(0))? {
            0_i64 => Ok(()),
            _ => Err(Error::Damaged("there are lists of a segment without messages")),
        }
    }
}
