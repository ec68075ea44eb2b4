//! The messages of a store: they follow from their number and the seed alone, so that any can be made again.

use anyhow::{Context, Result};
use fastrand::Rng;
use lyftr::event::Source;
use lyftr::message::{Message, Name, Timestamp};

use crate::random::{rank, rng};

mod texts;

pub use texts::{ABSENT, RARE_MESSAGES};
use texts::{MARKERS, RARE, Texts};

/// Different phone numbers that send, most of them seldom.
pub const SENDERS: u64 = 200_000;
/// Phone numbers that receive, the main one first, and up to which percent of the messages go to them.
pub const RECIPIENTS: [(&str, u64); 3] = [("+14155550100", 90), ("+442079460000", 98), ("+4930901820", 100)];
/// 2025-01-15T00:00:00Z, when the last message is sent.
pub const END: i64 = 1_736_899_200;
/// Seconds of a day.
pub const DAY: i64 = 86_400;
/// Live messages, which arrive as they are sent, are of these last seconds.
pub const LIVE_SPAN: i64 = 60 * DAY;
/// The others are imported later, and of these seconds before.
const IMPORTED_SPAN: i64 = 730 * DAY;
/// Every other imported message has this instant, as a provider that knows only the day writes it: a tenth of all.
pub const CROWD: i64 = END - LIVE_SPAN - 100 * DAY;
/// One of so many blocks of [`BLOCK`] messages is imported.
const IMPORTED_ONE_IN: u64 = 5;
const BLOCK: u64 = 1000;
/// Part of the messages that are live.
pub const LIVE_PART: f64 = 1.0 - 1.0 / IMPORTED_ONE_IN as f64;
/// Messages that come at about the same time.
const BURST: u64 = 5;
/// How much earlier than it arrives a message may have been sent, in seconds.
const JITTER: u64 = 4;

/// Makes the messages of a store.
#[derive(Debug)]
pub struct Messages {
    pub seed: u64,
    pub size: u64,
    texts: Texts,
}

impl Messages {
    pub fn new(seed: u64, size: u64) -> Self {
        Self { seed, size, texts: Texts::new() }
    }

    /// Message number `index`, counted from 0 in the order of arrival.
    pub fn message(&self, index: u64) -> Result<Message> {
        let mut rng = rng(self.seed, index);
        let id = id(index, &mut rng);
        let from = sender(rank(&mut rng, SENDERS));
        let to = recipient(rng.u64(..100));
        let second = self.second(index, &mut rng);
        let digits = if second != CROWD && rng.u8(..10) < 3 { rng.u8(1..=9) } else { 0 };
        let nanosecond = rng.u32(..10_u32.pow(digits.into())) * 10_u32.pow(9 - u32::from(digits));
        let mut markers: Vec<_> = self.is_rare(index).then_some(RARE).into_iter().collect();
        markers.extend(MARKERS.iter().filter(|(_, one_in)| rng.u64(..one_in) == 0).map(|(marker, _)| marker));
        let text = self.texts.write(&mut rng, &markers);
        let invalid = || format!("message {index} breaks a rule");
        Ok(Message {
            message_id: Name::new(&id).ok().with_context(invalid)?,
            from: Some(Name::phone_number(&from).ok().with_context(invalid)?),
            to: Some(Name::phone_number(to).ok().with_context(invalid)?),
            source: Source::WEBHOOK,
            ts: Timestamp::from_parts(second, nanosecond, digits).with_context(invalid)?,
            text: Some(text.into()),
        })
    }

    fn second(&self, index: u64, rng: &mut Rng) -> i64 {
        let begin = END - LIVE_SPAN;
        if index / BLOCK % IMPORTED_ONE_IN == IMPORTED_ONE_IN - 1 {
            return if index.is_multiple_of(2) { CROWD } else { begin - rng.i64(1..=IMPORTED_SPAN) };
        }
        let burst = u128::from(index / BURST * BURST);
        let passed = burst * u128::from(LIVE_SPAN.cast_unsigned()) / u128::from(self.size);
        begin + i64::try_from(passed).unwrap_or_default() - rng.u64(..JITTER).cast_signed()
    }

    /// One of each of [`RARE_MESSAGES`] equal parts.
    fn is_rare(&self, index: u64) -> bool {
        let part = self.size / RARE_MESSAGES;
        part > 0 && index / part < RARE_MESSAGES && index % part == rng(self.seed, part).u64(..part)
    }
}

/// The phone number of the sender of this rank, of which 0 sends most. Ranks and numbers are not in the same order.
pub fn sender(rank: u64) -> String {
    // 7,919 has no divisor in common with the number of senders, so no two share a phone number.
    format!("+9198{:08}", rank * 7_919 % SENDERS * 487)
}

fn recipient(percent: u64) -> &'static str {
    RECIPIENTS.iter().find(|(_, upto)| percent < *upto).unwrap_or(&RECIPIENTS[0]).0
}

/// An id as services make them: nine of ten are random, with or without hyphens, one counts up.
fn id(index: u64, rng: &mut Rng) -> String {
    let random = format!("{:032x}", rng.u128(..));
    match rng.u8(..10) {
        0 => format!("scale-{index:012}"),
        1..=4 => [&random[..8], &random[8..12], &random[12..16], &random[16..20], &random[20..]].join("-"),
        _ => random,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn all(seed: u64, size: u64) -> Vec<Message> {
        let messages = Messages::new(seed, size);
        (0..size).map(|index| messages.message(index).unwrap()).collect()
    }

    #[test]
    fn the_seed_alone_makes_the_messages_and_ids_are_unique() {
        assert_eq!(all(7, 1_000), all(7, 1_000));
        let mut messages = [all(7, 5_000), all(8, 5_000)].concat();
        messages.retain(|message| !message.message_id.as_str().starts_with("scale-"));
        let ids: HashSet<_> = messages.iter().map(|message| &message.message_id).collect();
        assert_eq!(ids.len(), messages.len());
    }

    #[test]
    fn senders_have_a_heavy_tail() {
        let senders: HashSet<_> = (0..SENDERS).map(sender).collect();
        assert_eq!(senders.len() as u64, SENDERS);
        let mut counts = HashMap::new();
        for message in all(7, 10_000) {
            *counts.entry(message.from).or_insert(0) += 1;
        }
        let heaviest = counts.iter().max_by_key(|(_, count)| **count).unwrap();
        assert_eq!(*heaviest.0, Name::new(&sender(0)).ok());
        assert!((500..650).contains(heaviest.1), "{heaviest:?}");
        assert!(counts.len() > 3_000, "{}", counts.len());
    }

    #[test]
    fn four_of_five_are_live_and_nearly_in_order() {
        let seconds: Vec<_> = all(7, 10_000).iter().map(|message| message.ts.second()).collect();
        let (begin, early) = (END - LIVE_SPAN, JITTER.cast_signed());
        let live: Vec<_> = seconds.iter().filter(|second| **second >= begin - early).collect();
        assert!((7_990..8_010).contains(&live.len()), "{}", live.len());
        assert!(live.is_sorted_by(|one, next| *next - *one > -early));
        assert!(seconds.iter().all(|second| (begin - IMPORTED_SPAN..END).contains(second)));
    }

    #[test]
    fn markers_are_as_frequent_as_they_say() {
        let texts: Vec<_> = all(7, 20_000).into_iter().filter_map(|message| message.text).collect();
        let holding = |marker| texts.iter().filter(|text| text.to_lowercase().contains(marker)).count();
        assert_eq!(holding(RARE), 20);
        assert!(holding(MARKERS[0].0) <= 10 && (150..250).contains(&holding(MARKERS[1].0)));
        assert_eq!(ABSENT.map(holding), [0, 0]);
    }
}
