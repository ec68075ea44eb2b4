//! Keys: entries of the tree as byte strings that sort as the entries do.
//!
//! | part | bytes |
//! |---|---|
//! | sender, recipient | a [number](push_number) each |
//! | second | 5: its distance from the first one that fits, big-endian |
//! | nanosecond | a number, so that a whole second takes 1 byte |
//! | tie | its UTF-8, with FF behind each 00; then 00 |
//! | arrival number | a number |
//!
//! No part of a key is the beginning of another value of the same part. So all keys of a list, of an instant or of a tie
//! begin with the same bytes, and no others do.

use super::damaged;
use crate::message::Moment;
use crate::store::sqlite::party::Party;

/// Less than it are the keys of every list.
pub(super) const END: &[u8] = &[0xff];

/// Ends a tie. Behind it stands an arrival number, whose first byte is less than [`ESCAPED`].
const TIE_END: u8 = 0;
/// Stands behind a byte of a tie that equals [`TIE_END`].
const ESCAPED: u8 = 0xff;

/// Seconds before 1970 that fit, and seconds from then on: 17,000 years each.
const SECONDS_EACH_WAY: i64 = 1 << 39;
const SECOND_BYTES: usize = 5;
const NANOSECONDS: u32 = 1_000_000_000;

/// A list of messages: all, those of a sender, those of a recipient, or those from one to the other. A source other than the
/// built-in one has a list as if it were a recipient, and all of these sources have one together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::store::sqlite) struct List {
    pub(in crate::store::sqlite) sender: Party,
    pub(in crate::store::sqlite) recipient: Party,
}

impl List {
    /// Every message.
    pub(in crate::store::sqlite) const ALL: Self = Self { sender: Party::ANY, recipient: Party::ANY };

    /// Every message of any source but the built-in one.
    pub(in crate::store::sqlite) const OTHER_SOURCES: Self =
        Self { sender: Party::ANY, recipient: Party::OTHER_SOURCE };

    /// The lists that a message from one to the other is in. `source` is [`Party::ANY`] for the built-in one.
    pub(in crate::store::sqlite) fn of(
        sender: Party,
        recipient: Party,
        source: Party,
    ) -> impl Iterator<Item = Self> {
        let any = Party::ANY;
        let lists = [(any, any), (sender, any), (any, recipient), (sender, recipient)];
        let of_source = (source != any).then_some([(any, source), (any, Party::OTHER_SOURCE)]);
        let lists = lists.into_iter().chain(of_source.into_iter().flatten());
        lists.map(|(sender, recipient)| Self { sender, recipient })
    }
}

/// A message as an entry of a list. Sorts as the tree does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store::sqlite) struct Entry {
    pub(in crate::store::sqlite) list: List,
    pub(in crate::store::sqlite) moment: Moment,
    /// In a crowd the order key of the message, else empty.
    pub(in crate::store::sqlite) tie: String,
    pub(in crate::store::sqlite) seq: i64,
}

/// Appends what the keys of all entries of a list begin with.
pub(super) fn push_list(list: List, key: &mut Vec<u8>) {
    push_number(list.sender.0.cast_unsigned(), key);
    push_number(list.recipient.0.cast_unsigned(), key);
}

/// Appends what the keys of all entries of a list at a moment begin with. A second that is farther away than those of any
/// timestamp is taken for the farthest one that fits.
pub(super) fn push_instant(list: List, moment: Moment, key: &mut Vec<u8>) {
    push_list(list, key);
    let second = moment.second.clamp(-SECONDS_EACH_WAY, SECONDS_EACH_WAY - 1) + SECONDS_EACH_WAY;
    let [_, _, _, second @ ..]: [u8; 8] = second.to_be_bytes();
    key.extend_from_slice(&second);
    push_number(moment.nanosecond.into(), key);
}

/// Appends the rest of a key to an instant.
pub(super) fn push_rest(tie: &str, seq: i64, key: &mut Vec<u8>) {
    push_tie(tie, key);
    push_number(seq.cast_unsigned(), key);
}

/// Appends the tie of a key to an instant: less than every entry with this tie, greater than every one with a lesser tie.
pub(super) fn push_tie(tie: &str, key: &mut Vec<u8>) {
    for byte in tie.bytes() {
        key.push(byte);
        if byte == TIE_END {
            key.push(ESCAPED);
        }
    }
    key.push(TIE_END);
}

/// The entry of a key; an error if the key is none that the functions above make.
pub(super) fn decode(key: &[u8]) -> rusqlite::Result<Entry> {
    take_entry(key).ok_or_else(damaged)
}

fn take_entry(mut key: &[u8]) -> Option<Entry> {
    let rest = &mut key;
    let (list, moment) = take_instant(rest)?;
    let tie = take_tie(rest)?;
    let seq = take_integer(rest)?;
    rest.is_empty().then_some(Entry { list, moment, tie, seq })
}

/// The instant that a key begins with, if the key has no tie.
pub(super) fn untied_instant(key: &[u8]) -> Option<&[u8]> {
    let mut rest = key;
    take_instant(&mut rest)?;
    let is_untied = matches!(rest, [TIE_END, next, ..] if *next != ESCAPED);
    key.strip_suffix(rest).filter(|_| is_untied)
}

fn take_instant(rest: &mut &[u8]) -> Option<(List, Moment)> {
    let list = List { sender: Party(take_integer(rest)?), recipient: Party(take_integer(rest)?) };
    let (second, behind) = rest.split_first_chunk::<SECOND_BYTES>()?;
    let second = second.iter().fold(0, |sum, byte| sum << 8 | i64::from(*byte)) - SECONDS_EACH_WAY;
    *rest = behind;
    let nanosecond = u32::try_from(take_number(rest)?).ok().filter(|nanosecond| *nanosecond < NANOSECONDS)?;
    Some((list, Moment { second, nanosecond }))
}

fn take_tie(rest: &mut &[u8]) -> Option<String> {
    let mut tie = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == TIE_END)?;
        let (part, behind) = rest.split_at_checked(end)?;
        tie.extend_from_slice(part);
        match behind {
            [_, ESCAPED, behind @ ..] => {
                tie.push(TIE_END);
                *rest = behind;
            }
            [_, behind @ ..] => {
                *rest = behind;
                return String::from_utf8(tie).ok();
            }
            [] => return None,
        }
    }
}

fn take_integer(rest: &mut &[u8]) -> Option<i64> {
    i64::try_from(take_number(rest)?).ok()
}

/// Appends a number in 1 to 9 bytes that sort as numbers do: 4 bits say how many bytes follow the first one, the others
/// are the number, big-endian.
pub(super) fn push_number(number: u64, bytes: &mut Vec<u8>) {
    let following = following(number);
    let number = u128::from(following) << (8 * following + 4) | u128::from(number);
    // Its bytes come first then, and the rest of the 16 is left out.
    let number = number << (8 * (15 - following));
    bytes.extend(number.to_be_bytes().into_iter().take(1 + usize::from(following)));
}

/// Takes a number from the front of `rest`; none if the bytes are not those that [`push_number`] appends.
pub(super) fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let length = *rest.first()? >> 4;
    let (number, behind) = rest.split_at_checked(1 + usize::from(length))?;
    let number = number.iter().fold(0, |sum: u128, byte| sum << 8 | u128::from(*byte));
    let number = u64::try_from(number & ((1 << (8 * length + 4)) - 1)).ok()?;
    *rest = behind;
    (following(number) == length).then_some(number)
}

/// How many bytes follow the first one, which has room for 4 bits.
fn following(number: u64) -> u8 {
    (0..8).find(|bytes| number >> (8 * bytes + 4) == 0).unwrap_or(8)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(entry: &Entry) -> Vec<u8> {
        let mut key = Vec::new();
        push_instant(entry.list, entry.moment, &mut key);
        push_rest(&entry.tie, entry.seq, &mut key);
        key
    }

    fn entry(sender: i64, recipient: i64, second: i64, nanosecond: u32, tie: &str, seq: i64) -> Entry {
        let list = List { sender: Party(sender), recipient: Party(recipient) };
        Entry { list, moment: Moment { second, nanosecond }, tie: tie.to_owned(), seq }
    }

    /// Integers of all lengths, many of them small or near to another.
    fn integers() -> impl Strategy<Value = i64> {
        prop_oneof![
            0..20_i64,
            (0..63_u32, -1..2_i64).prop_map(|(bits, near)| ((1 << bits) + near).max(0)),
            0..=i64::MAX
        ]
    }

    fn seconds() -> impl Strategy<Value = i64> {
        prop_oneof![-2..2_i64, 1_700_000_000..1_700_000_002_i64, -62_167_219_200..253_402_300_800_i64]
    }

    fn nanoseconds() -> impl Strategy<Value = u32> {
        prop_oneof![Just(0), 0..20_u32, 0..NANOSECONDS]
    }

    fn entries() -> impl Strategy<Value = Entry> {
        let parts =
            (0..3_i64, integers(), seconds(), nanoseconds(), "|[ab\u{0}\u{1}\u{1f}é]{0,3}", integers());
        parts.prop_map(|(sender, recipient, second, nanosecond, tie, seq)| {
            entry(sender, recipient, second, nanosecond, &tie, seq)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn keys_sort_as_entries_do(one in entries(), other in entries(), shared in 0..6) {
            // Most pairs differ in their first parts, which would hide the later ones.
            let (mut other, from) = (other, &one);
            if shared > 0 { other.list.sender = from.list.sender; }
            if shared > 1 { other.list.recipient = from.list.recipient; }
            if shared > 2 { other.moment.second = from.moment.second; }
            if shared > 3 { other.moment.nanosecond = from.moment.nanosecond; }
            if shared > 4 { other.tie.clone_from(&from.tie); }
            prop_assert_eq!(encode(&one).cmp(&encode(&other)), one.cmp(&other));
            prop_assert!(*encode(&one) < *END);
        }

        #[test]
        fn an_entry_comes_back_from_its_key(entry in entries()) {
            let key = encode(&entry);
            prop_assert_eq!(decode(&key).unwrap(), entry.clone());
            let mut instant = Vec::new();
            push_instant(entry.list, entry.moment, &mut instant);
            prop_assert_eq!(untied_instant(&key), entry.tie.is_empty().then_some(&*instant));
        }

        #[test]
        fn of_bytes_that_are_no_key_none_is_read(entry in entries(), at in 0..30_usize, byte: u8, cut: bool) {
            let mut key = encode(&entry);
            let at = at % key.len();
            if cut { key.truncate(at); } else { key[at] = byte; }
            match decode(&key) {
                Ok(read) => prop_assert_eq!(&encode(&read), &key, "two keys for one entry"),
                Err(error) => prop_assert!(error.to_string().contains("malformed"), "{}", error),
            }
            let _does_not_panic = untied_instant(&key);
        }

        #[test]
        fn any_bytes_may_be_decoded(key: Vec<u8>) {
            if let Ok(read) = decode(&key) {
                prop_assert_eq!(encode(&read), key);
            }
        }
    }

    #[test]
    fn a_key_of_a_whole_second_is_short() {
        let (phone, second, seq) = (919_876_543_210, 1_760_000_000, 20_000_000);
        for ((sender, recipient), bytes) in
            [((0, 0), 13), ((phone, 0), 18), ((0, phone), 18), ((phone, phone), 23)]
        {
            assert_eq!(encode(&entry(sender, recipient, second, 0, "", seq)).len(), bytes);
        }
    }

    #[test]
    fn moments_beyond_all_timestamps_come_before_and_after_them() {
        let key = |moment| {
            let mut key = Vec::new();
            push_instant(List { sender: Party(7), recipient: Party::ANY }, moment, &mut key);
            key
        };
        let (first, last) = (-62_167_219_200, 253_402_300_799);
        let timestamps =
            [Moment { second: first, nanosecond: 0 }, Moment { second: last, nanosecond: 999_999_999 }];
        let [first, last] = timestamps.map(key);
        assert!(key(Moment::MIN) < first && first < last && last < key(timestamps[1].next()));
        assert!(key(timestamps[1].next()) < key(Moment::MAX));
        let mut after = Vec::new();
        push_instant(List { sender: Party(7), recipient: Party(1) }, Moment::MIN, &mut after);
        assert!(key(Moment::MAX) < after, "and stay in their list");
    }
}
