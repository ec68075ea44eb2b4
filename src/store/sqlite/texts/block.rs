//! The block: a few messages in order of arrival with their folded texts. Its bytes are the same in memory and in the file.
//!
//! It takes one page of the file, 4 KiB, unless a single text is longer; that one has a block of its own, of several pages.
//!
//! | bytes | content (integers are little-endian) |
//! |---|---|
//! | 0–3 | CRC-32 of the bytes from 4 to the end |
//! | 4–7 | length in bytes |
//! | 8–11 | pages in the file |
//! | 12–15 | length of the head |
//! | 16–31 | first and last arrival number |
//! | head | for each message, as [varints](super::varint): how much greater its arrival number is than the one before; the length of its text and 1; seconds, sender and recipient, as differences from the message before; nanoseconds |
//! | texts | each with a byte 0xFF after it, which UTF-8 does not have: so no match reaches from one text into the next |
//!
//! Of a message that was removed only the arrival number is left, with 0 instead of the length.

use std::ops::RangeInclusive;

use super::{Error, Text, varint};
use crate::message::Moment;

/// Bytes of a page of the file of texts.
pub(super) const PAGE_BYTES: usize = 4096;
const HEADER_BYTES: usize = 32;
/// Ends each text.
const END: u8 = 0xff;

/// A block that can be read; its bytes have been compared with their CRC or are from this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block<'a> {
    /// Pages that it takes in the file.
    pub(super) pages: u32,
    /// The first arrival number.
    pub(super) first_seq: i64,
    /// The last arrival number.
    pub(super) last_seq: i64,
    head: &'a [u8],
    /// The texts, each with the byte 0xFF after it.
    pub(super) texts: &'a [u8],
}

/// A message in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// The arrival number.
    pub(super) seq: i64,
    /// The rest, unless the message was removed.
    pub(super) live: Option<Live<'a>>,
}

/// What a block has of a message that was not removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live<'a> {
    /// The instant.
    pub(super) moment: Moment,
    /// The number of the sender.
    pub(super) sender: i64,
    /// The number of the recipient.
    pub(super) recipient: i64,
    /// The place of the byte after the text in the texts of the block.
    pub(super) end: usize,
    folded: &'a [u8],
}

impl<'a> Live<'a> {
    /// The folded text.
    pub(super) fn folded(&self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.folded).map_err(|_| DAMAGED)
    }
}

const DAMAGED: Error = Error::Damaged("a block cannot be read");

/// The length in bytes and the pages of the block at the beginning of `bytes`, as they say themselves; none if they hold no
/// block.
pub(super) fn size(bytes: &[u8]) -> Option<(usize, u32)> {
    let length = usize::try_from(u32_at(bytes, 4)?).ok()?;
    let pages = u32_at(bytes, 8)?;
    let fits = (HEADER_BYTES..=page_bytes(pages)).contains(&length);
    fits.then_some((length, pages))
}

/// Whether the block that takes all of `bytes` has the CRC that it says.
pub(super) fn is_intact(bytes: &[u8]) -> bool {
    bytes.get(4..).is_some_and(|rest| u32_at(bytes, 0) == Some(crc32fast::hash(rest)))
}

/// The bytes of so many pages.
pub(super) fn page_bytes(pages: u32) -> usize {
    usize::try_from(pages).unwrap_or(usize::MAX).saturating_mul(PAGE_BYTES)
}

fn u32_at(bytes: &[u8], place: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(place..)?.first_chunk()?))
}

fn i64_at(bytes: &[u8], place: usize) -> Option<i64> {
    Some(i64::from_le_bytes(*bytes.get(place..)?.first_chunk()?))
}

impl<'a> Block<'a> {
    /// The block that takes all of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        Self::parts(bytes).ok_or(DAMAGED)
    }

    fn parts(bytes: &'a [u8]) -> Option<Self> {
        let head_bytes = usize::try_from(u32_at(bytes, 12)?).ok()?;
        let (head, texts) = bytes.get(HEADER_BYTES..)?.split_at_checked(head_bytes)?;
        Some(Self {
            pages: u32_at(bytes, 8)?,
            first_seq: i64_at(bytes, 16)?,
            last_seq: i64_at(bytes, 24)?,
            head,
            texts,
        })
    }

    /// The messages, in order of arrival.
    pub(super) fn entries(&self) -> Entries<'a> {
        Entries {
            head: self.head,
            texts: self.texts,
            place: 0,
            last: Last { seq: self.first_seq, ..Last::default() },
            last_seq: self.last_seq,
        }
    }

    /// The block without the messages with these arrival numbers, in ascending order; it takes the same pages.
    pub(super) fn without(&self, seqs: &[i64]) -> Result<Vec<u8>, Error> {
        let mut kept = Builder::default();
        for entry in self.entries() {
            let Entry { seq, live } = entry?;
            match live.filter(|_| seqs.binary_search(&seq).is_err()) {
                Some(Live { moment, sender, recipient, end: _, folded }) => {
                    kept.add(seq, Some((moment, sender, recipient, folded)));
                }
                None => kept.add(seq, None),
            }
        }
        Ok(kept.finish(self.pages))
    }
}

/// Goes through the messages of a block.
#[derive(Debug)]
pub(super) struct Entries<'a> {
    head: &'a [u8],
    texts: &'a [u8],
    /// Where in the texts the next one begins.
    place: usize,
    last: Last,
    last_seq: i64,
}

/// The message before, from which the next one is a difference.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    seq: i64,
    second: i64,
    sender: i64,
    recipient: i64,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if !self.head.is_empty() {
            return Some(self.entry().ok_or(DAMAGED));
        }
        let whole = self.place == self.texts.len() && self.last.seq == self.last_seq;
        self.place = self.texts.len();
        self.last.seq = self.last_seq;
        if whole { None } else { Some(Err(DAMAGED)) }
    }
}

impl<'a> Entries<'a> {
    fn entry(&mut self) -> Option<Entry<'a>> {
        let head = &mut std::mem::take(&mut self.head);
        let seq = self.last.seq.checked_add_unsigned(varint::take(head)?)?;
        self.last.seq = seq;
        let Some(length) = usize::try_from(varint::take(head)?).ok()?.checked_sub(1) else {
            self.head = head;
            return Some(Entry { seq, live: None });
        };
        let second = self.last.second.wrapping_add(varint::take_signed(head)?);
        let sender = self.last.sender.wrapping_add(varint::take_signed(head)?);
        let recipient = self.last.recipient.wrapping_add(varint::take_signed(head)?);
        let nanosecond = u32::try_from(varint::take(head)?).ok()?;
        let end = self.place.checked_add(length)?;
        let folded = self.texts.get(self.place..end)?;
        if self.texts.get(end) != Some(&END) {
            return None;
        }
        self.place = end + 1;
        self.last = Last { seq, second, sender, recipient };
        self.head = head;
        Some(Entry {
            seq,
            live: Some(Live { moment: Moment { second, nanosecond }, sender, recipient, end, folded }),
        })
    }
}

/// A block in the making.
#[derive(Debug, Default)]
pub(super) struct Builder {
    head: Vec<u8>,
    texts: Vec<u8>,
    first_seq: i64,
    last: Last,
}

impl Builder {
    /// Whether it has no messages.
    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty()
    }

    /// Adds a message; false, and to no avail, if the block is not empty and would grow past a page.
    pub(super) fn push(&mut self, text: &Text<'_>) -> bool {
        let Text { seq, moment, sender, recipient, folded } = *text;
        let (empty, head, texts, last) = (self.is_empty(), self.head.len(), self.texts.len(), self.last);
        // A text that is too long for the page is not copied to find that out.
        let fits = empty || self.bytes() + folded.len() < PAGE_BYTES;
        if fits {
            self.add(seq, Some((moment, sender, recipient, folded.as_bytes())));
            if empty || self.bytes() <= PAGE_BYTES {
                return true;
            }
            self.head.truncate(head);
            self.texts.truncate(texts);
            self.last = last;
        }
        false
    }

    /// Adds a message: instant, sender, recipient and folded text, or nothing if it was removed.
    fn add(&mut self, seq: i64, live: Option<(Moment, i64, i64, &[u8])>) {
        if self.is_empty() {
            self.first_seq = seq;
            self.last.seq = seq;
        }
        let (head, last) = (&mut self.head, &mut self.last);
        varint::put(head, seq.wrapping_sub(last.seq).cast_unsigned());
        last.seq = seq;
        let Some((moment, sender, recipient, folded)) = live else {
            varint::put(head, 0);
            return;
        };
        varint::put(head, u64::try_from(folded.len()).unwrap_or(u64::MAX).saturating_add(1));
        varint::put_signed(head, moment.second.wrapping_sub(last.second));
        varint::put_signed(head, sender.wrapping_sub(last.sender));
        varint::put_signed(head, recipient.wrapping_sub(last.recipient));
        varint::put(head, u64::from(moment.nanosecond));
        *last = Last { seq, second: moment.second, sender, recipient };
        self.texts.extend_from_slice(folded);
        self.texts.push(END);
    }

    /// The first to the last arrival number.
    pub(super) fn seqs(&self) -> RangeInclusive<i64> {
        if self.is_empty() { RangeInclusive::new(1, 0) } else { self.first_seq..=self.last.seq }
    }

    fn bytes(&self) -> usize {
        HEADER_BYTES + self.head.len() + self.texts.len()
    }

    /// The bytes of the block, which takes `pages` pages at least.
    pub(super) fn finish(&self, pages: u32) -> Vec<u8> {
        let small = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let length = self.bytes();
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&small(length).to_le_bytes());
        bytes.extend_from_slice(&small(length.div_ceil(PAGE_BYTES)).max(pages).to_le_bytes());
        bytes.extend_from_slice(&small(self.head.len()).to_le_bytes());
        bytes.extend_from_slice(&self.first_seq.to_le_bytes());
        bytes.extend_from_slice(&self.last.seq.to_le_bytes());
        bytes.extend_from_slice(&self.head);
        bytes.extend_from_slice(&self.texts);
        let crc = crc32fast::hash(bytes.get(4..).unwrap_or_default());
        if let Some(place) = bytes.first_chunk_mut() {
            *place = crc.to_le_bytes();
        }
        bytes
    }

    /// Makes it empty for the next block.
    pub(super) fn clear(&mut self) {
        self.head.clear();
        self.texts.clear();
        self.last = Last::default();
    }
}
