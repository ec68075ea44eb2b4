//! Segments: the file of texts, and the rows of the index file that say what is where in it.
//!
//! Segments lie in the file one after the other, each a row of blocks, from a page's boundary on. A segment is written and
//! synced first, and then the transaction of the index is committed that has its row and its lists. So what the index's
//! snapshot names is in the file, and what lies behind the last segment is cut off at a start.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, Row};

use super::block::{self, Block, PAGE_BYTES};
use super::blocks::Snapshot;
use super::window::{MANY, PAUSE, Window};
use super::{Error, lists};
use crate::message::Moment;
use crate::paths::{folder, sync_folder};

const SEGMENTS: &str = "\
    SELECT number, first_seq, last_seq, place, pages, messages,
           earliest_second, earliest_nanosecond, latest_second, latest_nanosecond, crc
    FROM text_segment ORDER BY number";
const SET: &str = "\
    INSERT OR REPLACE INTO text_segment (
        number, first_seq, last_seq, place, pages, messages,
        earliest_second, earliest_nanosecond, latest_second, latest_nanosecond, crc
    ) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
/// Bytes that are written together.
const WRITE_BYTES: usize = 1 << 20;
const DAMAGED: Error = Error::Damaged("the rows of segments do not belong together");

/// The file of texts. It is read by many and written by one.
#[derive(Debug)]
pub(in crate::store::sqlite) struct TextFile {
    pub(super) file: File,
    /// Time after which a block that is being overwritten is read again.
    pub(super) pause: Duration,
}

/// The row of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Counts from 1.
    pub(super) number: i64,
    /// The first arrival number.
    pub(super) first_seq: i64,
    /// The last arrival number.
    pub(super) last_seq: i64,
    /// Its first page in the file.
    pub(super) place: u32,
    /// Its pages.
    pub(super) pages: u32,
    /// Messages that were not removed.
    pub(super) messages: u32,
    /// No message is earlier.
    pub(super) earliest: Moment,
    /// No message is later.
    pub(super) latest: Moment,
}

impl TextFile {
    /// Opens the file beside the index for the one who writes it, or creates it, and cuts off what the index does not name.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the index names more than there is; otherwise why the file or the index cannot be used.
    pub(in crate::store::sqlite) fn open(path: &Path, index: &Connection) -> Result<Self, Error> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        sync_folder(folder(path))?;
        let segments = segments(index)?;
        let end = segments.last().map_or(0, |last| last.byte(last.pages));
        match file.metadata()?.len() {
            length if length < end => return Err(Error::Damaged("the file of texts is too short")),
            length if length > end => file.set_len(end)?,
            _ => {}
        }
        let opened = Self { file, pause: PAUSE };
        opened.release(&segments);
        Ok(opened)
    }

    /// Opens the file to read it as it is.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub(in crate::store::sqlite) fn open_to_read(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, pause: PAUSE })
    }

    /// Closes blocks: writes them as a segment at the end of the file, syncs it, and adds the row and the lists to the
    /// caller's transaction. Nothing happens if they hold no messages.
    ///
    /// # Errors
    /// Why the file or the index cannot be used. The transaction has to be rolled back then, and closing may be tried again.
    pub(in crate::store::sqlite) fn close(&self, index: &Connection, blocks: &Snapshot) -> Result<(), Error> {
        let last = segments(index)?.pop();
        let mut segment = Segment::after(last.as_ref());
        let mut gathered = lists::Gathered::new();
        for block in blocks.blocks() {
            let block = block?;
            gathered.add(segment.pages, &block)?;
            segment.add(&block)?;
        }
        // All of them may have been removed.
        if segment.messages == 0 {
            return Ok(());
        }
        self.write(&segment, blocks)?;
        segment.save(index)?;
        gathered.write(index, segment.number)
    }

    fn write(&self, segment: &Segment, blocks: &Snapshot) -> Result<(), Error> {
        let mut place = segment.byte(0);
        // What a try before has left may hold texts that were removed since.
        self.file.set_len(place)?;
        let mut bytes = Vec::with_capacity(WRITE_BYTES);
        for block in blocks.bytes() {
            // One whose text was removed takes more pages than its bytes need.
            let end = bytes.len() + block::page_bytes(Block::new(block)?.pages);
            bytes.extend_from_slice(block);
            bytes.resize(end, 0);
            if bytes.len() >= WRITE_BYTES {
                self.file.write_all_at(&bytes, place)?;
                place += u64::try_from(bytes.len()).unwrap_or_default();
                bytes.clear();
            }
        }
        self.file.write_all_at(&bytes, place)?;
        Ok(self.file.sync_data()?)
    }

    /// Gives the disk space of segments without messages back, where the file system can. No reader may still use an older
    /// snapshot of the index than the one that `segments` are from.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(unused_variables, clippy::unused_self, reason = "other systems have no such call")
    )]
    fn release(&self, segments: &[Segment]) {
        #[cfg(target_os = "linux")]
        for empty in segments.iter().filter(|segment| segment.messages == 0) {
            use rustix::fs::FallocateFlags as Flags;
            let flags = Flags::PUNCH_HOLE | Flags::KEEP_SIZE;
            let bytes = empty.byte(empty.pages) - empty.byte(0);
            if rustix::fs::fallocate(&self.file, flags, empty.byte(0), bytes).is_err() {
                return;
            }
        }
    }

    /// Hands over each block of a segment with its page, in order.
    pub(super) fn blocks(
        &self,
        segment: &Segment,
        mut each: impl FnMut(u32, &Block<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut window = Window::new(self, segment, MANY);
        let mut page = 0;
        while page < segment.pages {
            let block = window.block(page)?;
            each(page, &block)?;
            page += block.pages;
        }
        Ok(())
    }
}

/// The segments of the index's snapshot, in order.
pub(super) fn segments(index: &Connection) -> Result<Vec<Segment>, Error> {
    let mut statement = index.prepare_cached(SEGMENTS)?;
    let mut rows = statement.query(())?;
    let mut segments: Vec<Segment> = Vec::new();
    while let Some(row) = rows.next()? {
        let segment = Segment::read(row)?;
        let expected = Segment::after(segments.last());
        let follows = segment.number == expected.number
            && segment.place == expected.place
            && segments.last().is_none_or(|last| last.last_seq < segment.first_seq);
        if !follows || segment.place.checked_add(segment.pages).is_none() {
            return Err(DAMAGED);
        }
        segments.push(segment);
    }
    Ok(segments)
}

impl Segment {
    /// One without blocks, after `last`.
    fn after(last: Option<&Self>) -> Self {
        Self {
            number: last.map_or(1, |last| last.number.saturating_add(1)),
            first_seq: 0,
            last_seq: 0,
            place: last.map_or(0, |last| last.place.saturating_add(last.pages)),
            pages: 0,
            messages: 0,
            earliest: Moment::MAX,
            latest: Moment::MIN,
        }
    }

    /// Extends it by a block.
    fn add(&mut self, block: &Block<'_>) -> Result<(), Error> {
        if self.pages == 0 {
            self.first_seq = block.first_seq;
        }
        self.last_seq = block.last_seq;
        self.pages += block.pages;
        for entry in block.entries() {
            if let Some(live) = entry?.live {
                self.messages += 1;
                self.earliest = self.earliest.min(live.moment);
                self.latest = self.latest.max(live.moment);
            }
        }
        Ok(())
    }

    /// Where in the file the page begins that is number `page` of the segment, in bytes.
    pub(super) fn byte(&self, page: u32) -> u64 {
        (u64::from(self.place) + u64::from(page)) * u64::try_from(PAGE_BYTES).unwrap_or_default()
    }

    fn read(row: &Row<'_>) -> Result<Self, Error> {
        let moment =
            |at| Ok::<_, rusqlite::Error>(Moment { second: row.get(at)?, nanosecond: row.get(at + 1)? });
        let read = || {
            let segment = Self {
                number: row.get(0)?,
                first_seq: row.get(1)?,
                last_seq: row.get(2)?,
                place: row.get(3)?,
                pages: row.get(4)?,
                messages: row.get(5)?,
                earliest: moment(6)?,
                latest: moment(8)?,
            };
            Ok((segment, row.get(10)?))
        };
        let (segment, crc): (_, u32) = match read() {
            Err(rusqlite::Error::IntegralValueOutOfRange(..)) => return Err(DAMAGED),
            read => read?,
        };
        if crc == segment.crc() { Ok(segment) } else { Err(DAMAGED) }
    }

    /// Writes the row.
    pub(super) fn save(&self, index: &Connection) -> Result<(), Error> {
        index.prepare_cached(SET)?.execute((
            self.number,
            self.first_seq,
            self.last_seq,
            self.place,
            self.pages,
            self.messages,
            self.earliest.second,
            self.earliest.nanosecond,
            self.latest.second,
            self.latest.nanosecond,
            self.crc(),
        ))?;
        Ok(())
    }

    fn crc(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        for wide in [self.number, self.first_seq, self.last_seq, self.earliest.second, self.latest.second] {
            hasher.update(&wide.to_le_bytes());
        }
        for narrow in
            [self.place, self.pages, self.messages, self.earliest.nanosecond, self.latest.nanosecond]
        {
            hasher.update(&narrow.to_le_bytes());
        }
        hasher.finalize()
    }

    /// Whether all of its blocks can be passed over for this range of instants.
    pub(super) fn is_outside(&self, moments: &std::ops::Range<Moment>) -> bool {
        self.messages == 0 || self.latest < moments.start || self.earliest >= moments.end
    }
}
