//! Reads the blocks of a segment from the file.

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::thread;
use std::time::Duration;

use super::Error;
use super::block::{self, Block};
use super::segment::{Segment, TextFile};

/// Pages that are read together where blocks are read one after the other (64 KiB).
pub(super) const MANY: u32 = 16;
/// A block that has a wrong CRC may be one that is being overwritten, and is read again up to so many times.
const TRIES: u32 = 20;
/// Time between two of them.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// A few pages of a segment.
#[derive(Debug)]
pub(super) struct Window<'a> {
    file: &'a TextFile,
    segment: &'a Segment,
    /// Pages that are read together.
    ahead: u32,
    /// The first page that was read.
    first: u32,
    bytes: Vec<u8>,
}

/// Where a block ends, and which arrival numbers it has.
struct Place {
    pages: u32,
    first_seq: i64,
    last_seq: i64,
}

impl<'a> Window<'a> {
    /// Reads `ahead` pages together, [`MANY`] or 1.
    pub(super) fn new(file: &'a TextFile, segment: &'a Segment, ahead: u32) -> Self {
        Self { file, segment, ahead, first: 0, bytes: Vec::new() }
    }

    /// The block that begins at `page` of the segment.
    pub(super) fn block(&mut self, page: u32) -> Result<Block<'_>, Error> {
        let mut tries = 1;
        let place = loop {
            let found = self.find(page)?;
            let bytes = found.and_then(|(place, length)| self.bytes.get(place..)?.get(..length));
            if let (Some((place, length)), Some(bytes)) = (found, bytes)
                && block::is_intact(bytes)
            {
                break place..place + length;
            }
            if tries == TRIES {
                return Err(Error::Damaged("a block has changed"));
            }
            tries += 1;
            thread::sleep(self.file.pause);
            self.bytes.clear();
        };
        let block = Block::new(self.bytes.get(place).unwrap_or_default())?;
        if block.first_seq < self.segment.first_seq || block.last_seq > self.segment.last_seq {
            return Err(Error::Damaged("a block is of another segment"));
        }
        Ok(block)
    }

    /// The page of the block that has the message with this arrival number, if there is one in these pages, at whose begin a block
    /// begins. For the one who writes the file: a block that is being overwritten is not waited for.
    pub(super) fn page_with(&mut self, seq: i64, mut pages: Range<u32>) -> Result<Option<u32>, Error> {
        while !pages.is_empty() {
            let mut page = pages.start.midpoint(pages.end);
            // In the middle of a long block none begins, whatever its text is: texts hold no NUL, which the length and the pages of
            // every block have.
            let place = loop {
                if let Some(place) = self.place_of(page)? {
                    break place;
                }
                if page == pages.start {
                    return Err(Error::Damaged("a block has changed"));
                }
                page -= 1;
            };
            if seq < place.first_seq {
                pages.end = page;
            } else if seq > place.last_seq {
                pages.start = page.saturating_add(place.pages);
            } else {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// The place of the intact block that begins at `page`; none if there is none.
    fn place_of(&mut self, page: u32) -> Result<Option<Place>, Error> {
        let found = self.find(page)?;
        let bytes = found.and_then(|(place, length)| self.bytes.get(place..)?.get(..length));
        let Some(bytes) = bytes.filter(|bytes| block::is_intact(bytes)) else { return Ok(None) };
        let Block { pages, first_seq, last_seq, .. } = Block::new(bytes)?;
        Ok(Some(Place { pages, first_seq, last_seq }))
    }

    /// Where the block at `page` is in the bytes, and its length; none if there is no block.
    fn find(&mut self, page: u32) -> Result<Option<(usize, usize)>, Error> {
        let place = page.checked_sub(self.first).map(block::page_bytes);
        let place = match place.filter(|place| *place < self.bytes.len()) {
            Some(place) => place,
            None => self.load(page, self.ahead)?,
        };
        let Some((length, pages)) = self.bytes.get(place..).and_then(block::size) else { return Ok(None) };
        if pages > self.segment.pages.saturating_sub(page) {
            return Ok(None);
        }
        if self.bytes.len() - place < length {
            return Ok(Some((self.load(page, pages.max(self.ahead))?, length)));
        }
        Ok(Some((place, length)))
    }

    /// Reads so many pages, or as many as the segment still has, and returns the place of the first one: 0.
    fn load(&mut self, page: u32, pages: u32) -> Result<usize, Error> {
        let pages = pages.min(self.segment.pages.saturating_sub(page));
        if pages == 0 {
            return Err(Error::Damaged("a list names a block that is not there"));
        }
        self.first = page;
        self.bytes.resize(block::page_bytes(pages), 0);
        let place = self.segment.byte(page);
        match self.file.file.read_exact_at(&mut self.bytes, place) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Error::Damaged("the file of texts is too short"))
            }
            read => Ok(read.map(|()| 0)?),
        }
    }
}
