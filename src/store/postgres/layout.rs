//! How events lie in the database: their buckets, their arrival numbers, and where a release before this one kept them.

use sha2::{Digest as _, Sha256};

use crate::event::{Event, Source};

/// The number of buckets. Each event belongs to one, by its source and key; a table that one day has to be distributed is
/// distributed by it.
const BUCKETS: u8 = 64;
/// The bits of an arrival number that hold the bucket.
const BUCKET_BITS: u32 = 6;
/// The bits of an arrival number that hold the place in the batch.
const PLACE_BITS: u32 = 16;

/// Maximum number of events in a batch.
pub(super) const BATCH_MAX: usize = 1 << PLACE_BITS;

/// Where the events of a schema version are. An arrival number is the number of the batch, then the place in it, then, since
/// version 3, the bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// The sequence that numbers the batches.
    pub(super) batches: &'static str,
    /// The bits of an arrival number below the number of the batch.
    pub(super) bits: u32,
    /// The events, as an item of FROM, with the columns of this version.
    pub(super) events: &'static str,
}

/// Messages of an older release, as events.
const EVENTS_OF_MESSAGES: &str = "\
    (SELECT 0::smallint AS bucket, ''::text AS source, message_id AS key, 0::smallint AS kind, seq, sender, recipient,
            ts_second, ts_nanosecond, ts_digits, NULL::bigint AS received_ms, NULL::text AS type, NULL::text AS user_id,
            NULL::text AS thread, NULL::text AS ref, NULL::text AS account, text, NULL::text AS data
     FROM message) AS event";

impl Layout {
    /// The layout that this release works with.
    pub(super) const CURRENT: Self =
        Self { batches: "event_batch", bits: BUCKET_BITS + PLACE_BITS, events: "event" };
    const MESSAGES: Self = Self { batches: "message_batch", bits: PLACE_BITS, events: EVENTS_OF_MESSAGES };

    /// The layout of a schema version.
    pub(super) fn of_version(version: i64) -> Self {
        if version < 3 { Self::MESSAGES } else { Self::CURRENT }
    }

    /// The greatest arrival number that an event of a batch can have.
    pub(super) fn last_of(self, batch: i64) -> i64 {
        (batch << self.bits) | ((1 << self.bits) - 1)
    }
}

/// The number of the batch that an arrival number of the current layout was given in.
pub(super) fn batch_of(seq: i64) -> i64 {
    seq >> Layout::CURRENT.bits
}

/// What an event adds to the number of its batch to make its arrival number.
pub(super) fn place_and_bucket(place: usize, bucket: i16) -> i32 {
    i32::try_from(place << BUCKET_BITS).unwrap_or(i32::MAX) | i32::from(bucket)
}

/// The place in its batch of an event with this arrival number.
pub(super) fn place_of(seq: i64) -> usize {
    usize::try_from((seq >> BUCKET_BITS) & ((1 << PLACE_BITS) - 1)).unwrap_or(usize::MAX)
}

/// The name of a source as the table has it: empty for the built-in one, which most events are of.
pub(super) fn stored_source(source: &Source) -> &str {
    stored_name(source.as_str())
}

/// The same, for a name that is known to be one.
pub(super) fn stored_name(name: &str) -> &str {
    if name == Source::WEBHOOK.as_str() { "" } else { name }
}

/// The bucket of an event: a part of the SHA-256 of its source, as it is stored, and its key. The migration and the triggers
/// compute the same.
pub(super) fn bucket(source: &Source, key: &str) -> i16 {
    let mut hash = Sha256::new();
    hash.update(stored_source(source));
    // In no source and in no key.
    hash.update([0x1f]);
    hash.update(key);
    let first = hash.finalize().first().map_or(0, |first| first % BUCKETS);
    i16::from(first)
}

/// [`bucket`] of an event.
pub(super) fn bucket_of(event: &Event) -> i16 {
    bucket(&event.source, event.key.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_number_holds_batch_place_and_bucket() {
        for (batch, place, bucket) in [(1, 0, 0), (7, BATCH_MAX - 1, 63), ((1 << 41) - 1, 5, 9)] {
            let seq = (batch << Layout::CURRENT.bits) + i64::from(place_and_bucket(place, bucket));
            assert_eq!((batch_of(seq), place_of(seq), seq & 63), (batch, place, i64::from(bucket)));
            assert!(seq > 0 && seq <= Layout::CURRENT.last_of(batch));
            assert!(seq > Layout::CURRENT.last_of(batch - 1));
        }
        assert_eq!(Layout::of_version(2).last_of(3), 3 * 65_536 + 65_535);
    }

    /// It is in the database for ever: `SELECT get_byte(sha256('\x1f6d31'), 0) & 63` and the like.
    #[test]
    fn a_bucket_is_the_same_for_ever() {
        let shop = Source::new("shop").unwrap();
        assert_eq!((bucket(&Source::WEBHOOK, "m1"), bucket(&shop, "m1"), bucket(&shop, "é")), (30, 59, 4));
    }
}
