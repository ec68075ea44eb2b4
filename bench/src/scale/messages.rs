//! The messages of a store: by their number and the seed alone, so that any can be made again.

use std::fmt::Write;

use super::chance::Chance;
use super::texts::{COMMON, COMMON_ONE_IN, RARE, RARE_MESSAGES, SELDOM, SELDOM_ONE_IN, Texts};
use crate::request::scramble;

/// How many different numbers send, most of them seldom.
pub const SENDERS: u64 = 200_000;
/// Who receives, the main one first, and how many of 100 messages go to each.
pub const RECIPIENTS: [(&str, u64); 3] = [("+14155550100", 90), ("+442079460000", 8), ("+4930901820", 2)];
/// 2025-01-15T00:00:00Z, when the last message is sent.
pub const END: i64 = 1_736_899_200;
/// Seconds of a day.
pub const DAY: i64 = 86_400;
/// Messages that come as they are sent are of these last seconds.
pub const LIVE_SPAN: i64 = 60 * DAY;
/// Those that are brought in later are of these seconds before.
const BACK_SPAN: i64 = 730 * DAY;
/// Of so many blocks of [`BLOCK`] messages one is brought in later.
const BACK_ONE_IN: u64 = 5;
const BLOCK: u64 = 1000;
/// Messages that come at about the same time.
const BURST: u64 = 5;
/// How much earlier than it arrives a message may have been sent, in seconds.
const JITTER: u64 = 4;
/// Part of the messages that were sent live.
pub const LIVE_PART: f64 = 1.0 - 1.0 / BACK_ONE_IN as f64;
/// Changes whenever the messages do, so that a store that was kept is not taken for another one.
pub const EDITION: u32 = 1;

/// A message as it lies in the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// Who sent it.
    pub sender: String,
    /// Who it is for.
    pub recipient: &'static str,
    /// When it was sent, in seconds since 1970.
    pub second: i64,
    /// Nanoseconds into that second.
    pub nanosecond: u32,
    /// Digits of the fraction that were written.
    pub digits: u32,
    /// What it says.
    pub text: String,
}

/// Makes the messages of a store.
#[derive(Debug)]
pub struct Messages {
    seed: u64,
    size: u64,
    texts: Texts,
}

impl Messages {
    /// The messages of a store of this size.
    pub fn new(seed: u64, size: u64) -> Self {
        Self { seed, size, texts: Texts::new() }
    }

    /// How many there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Message number `index`, counted from 0 in the order of arrival.
    pub fn message(&self, index: u64) -> Message {
        let mut chance = Chance::new(self.seed, index);
        let id = id(self.seed, index, &mut chance);
        let sender = sender(chance.rank(SENDERS));
        let recipient = recipient(chance.below(100));
        let second = self.second(index, &mut chance);
        let digits = if chance.below(10) < 3 { 1 + chance.below(9) } else { 0 };
        let digits = u32::try_from(digits).unwrap_or_default();
        let fraction = chance.below(10_u64.pow(digits)) * 10_u64.pow(9 - digits);
        let nanosecond = u32::try_from(fraction).unwrap_or_default();
        let mut markers = Vec::new();
        if self.is_rare(index) {
            markers.push(RARE);
        }
        if chance.one_in(SELDOM_ONE_IN) {
            markers.push(SELDOM);
        }
        if chance.one_in(COMMON_ONE_IN) {
            markers.push(COMMON);
        }
        let text = self.texts.write(&mut chance, &markers);
        Message { id, sender, recipient, second, nanosecond, digits, text }
    }

    fn second(&self, index: u64, chance: &mut Chance) -> i64 {
        let begin = END - LIVE_SPAN;
        if is_back_filled(index) {
            return begin - 1 - chance.below(BACK_SPAN.cast_unsigned()).cast_signed();
        }
        let burst = u128::from(index / BURST * BURST);
        let passed = burst * u128::from(LIVE_SPAN.cast_unsigned()) / u128::from(self.size);
        let jitter = chance.below(JITTER).cast_signed();
        begin + i64::try_from(passed).unwrap_or_default() - jitter
    }

    /// One of each of [`RARE_MESSAGES`] equal parts.
    fn is_rare(&self, index: u64) -> bool {
        let part = self.size / RARE_MESSAGES;
        part > 0 && index / part < RARE_MESSAGES && index % part == scramble(self.seed) % part
    }
}

/// The number of the sender of this rank, of which 0 sends most. Ranks and numbers are not in the same order.
pub fn sender(rank: u64) -> String {
    // 7,919 has no divisor in common with the number of senders, so no two share a number.
    format!("+9198{:08}", rank * 7_919 % SENDERS * 487)
}

fn recipient(percent: u64) -> &'static str {
    let mut upto = 0;
    let found = RECIPIENTS.iter().find(|(_, share)| {
        upto += share;
        percent < upto
    });
    found.unwrap_or(&RECIPIENTS[0]).0
}

fn is_back_filled(index: u64) -> bool {
    index / BLOCK % BACK_ONE_IN == BACK_ONE_IN - 1
}

/// An id as services make them: nine of ten are random, with or without hyphens, one counts up.
fn id(seed: u64, index: u64, chance: &mut Chance) -> String {
    // `scramble` is a bijection, so this half alone keeps all ids apart. The complement keeps them apart from
    // those of the load's requests.
    let [first, second] = [!chance.any(), !scramble(seed.wrapping_add(index))];
    let mut id = String::with_capacity(36);
    // Writing into a String cannot fail.
    let _ = match chance.below(10) {
        0 => write!(id, "scale-{index:012}"),
        1..=4 => {
            let [a, b, c] = [first >> 32, first >> 16 & 0xffff, first & 0xffff];
            write!(id, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", second >> 48, second & 0xffff_ffff_ffff)
        }
        _ => write!(id, "{first:016x}{second:016x}"),
    };
    id
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn all(size: u64) -> Vec<Message> {
        let messages = Messages::new(7, size);
        (0..size).map(|index| messages.message(index)).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_messages() {
        let [one, other] = [7, 8].map(|seed| Messages::new(seed, 10_000));
        for index in [0, 1, 4_321] {
            assert_eq!(one.message(index), Messages::new(7, 10_000).message(index));
            assert_ne!(one.message(index), other.message(index));
        }
    }

    #[test]
    fn ids_and_senders_of_all_ranks_are_unique() {
        let messages = all(20_000);
        let ids: HashSet<_> = messages.iter().map(|message| &message.id).collect();
        assert_eq!(ids.len(), messages.len());
        let senders: HashSet<_> = (0..SENDERS).map(sender).collect();
        assert_eq!(senders.len() as u64, SENDERS);
        assert!(senders.iter().all(|sender| sender.len() == 13), "{:?}", sender(SENDERS - 1));
    }

    #[test]
    fn senders_have_a_heavy_tail_and_one_recipient_is_the_main_one() {
        let messages = all(20_000);
        let mut counts = HashMap::new();
        for message in &messages {
            *counts.entry(message.sender.clone()).or_insert(0) += 1;
        }
        let heaviest = counts.iter().max_by_key(|(_, count)| **count).unwrap();
        assert_eq!(*heaviest.0, sender(0));
        assert!((900..1_400).contains(heaviest.1), "{heaviest:?}");
        assert!(counts.len() > 5_000, "{}", counts.len());
        let main = messages.iter().filter(|message| message.recipient == RECIPIENTS[0].0).count();
        assert!((17_500..18_500).contains(&main), "{main}");
    }

    #[test]
    fn four_of_five_are_live_and_nearly_in_order() {
        let messages = all(20_000);
        let begin = END - LIVE_SPAN;
        let early = i64::try_from(JITTER).unwrap();
        let live: Vec<_> =
            messages.iter().map(|message| message.second).filter(|s| *s >= begin - early).collect();
        assert!((15_990..16_010).contains(&live.len()), "{}", live.len());
        assert!(live.is_sorted_by(|one, next| next - one > -early));
        assert!(live.iter().all(|second| *second < END));
        let earliest = messages.iter().map(|message| message.second).min().unwrap();
        assert!((begin - BACK_SPAN..begin - BACK_SPAN * 9 / 10).contains(&earliest), "{earliest}");
    }

    #[test]
    fn fractions_have_the_digits_they_say() {
        let messages = all(10_000);
        let mut seen = HashSet::new();
        for Message { nanosecond, digits, .. } in &messages {
            assert_eq!(nanosecond % 10_u32.pow(9 - digits), 0);
            assert!(*nanosecond < 1_000_000_000);
            seen.insert(*digits);
        }
        assert_eq!(seen.len(), 10);
        let whole = messages.iter().filter(|message| message.digits == 0).count();
        assert!((6_500..7_500).contains(&whole), "{whole}");
    }

    #[test]
    fn markers_are_as_frequent_as_they_say() {
        for size in [10_000, 40_000] {
            let texts: Vec<_> = all(size).into_iter().map(|message| message.text.to_lowercase()).collect();
            let holding = |marker| texts.iter().filter(|text| text.contains(marker)).count() as u64;
            assert_eq!(holding(RARE), RARE_MESSAGES);
            assert!(holding(SELDOM) <= 5 * size / SELDOM_ONE_IN);
            let common = holding(COMMON) * COMMON_ONE_IN;
            assert!((size * 3 / 4..size * 5 / 4).contains(&common), "{common}");
        }
    }
}
