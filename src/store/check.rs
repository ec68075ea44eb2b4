//! Checks a store: the engine's files, the readability of each event, and the derived data against the messages. Changes
//! nothing, and works on one snapshot.
//!
//! Problems are reported as counts, without any part of an event.

use super::{OpenError, Settings, Url, open_read_only};
use crate::query::fold;
use crate::telemetry::chain;

/// A report while a store is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The check of this part begins.
    Part(&'static str),
    /// Something is wrong: its place, the expected value, and the value found.
    Problem(String),
    /// Something is worth knowing, and harmless.
    Remark(String),
}

/// The receiver of reports.
pub type Tell<'a> = dyn FnMut(Report) + 'a;

/// The reason why a check failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read.
    #[error("the check failed: {}", chain(.0))]
    Store(super::Error),
}

impl From<super::Error> for Error {
    fn from(error: super::Error) -> Self {
        Self::Store(error)
    }
}

/// Checks the store at `url`; returns the number of its events.
///
/// # Errors
/// [`Error`] if the check cannot be carried out. A problem that it finds is reported to `tell` instead.
pub fn check(url: &Url, settings: Settings, tell: &mut Tell<'_>) -> Result<u64, Error> {
    open_read_only(url, settings)?.check(tell)
}

/// Reports two numbers that should be equal and are not.
pub(super) fn compare(place: &str, expected: u64, found: u64, tell: &mut Tell<'_>) {
    if expected != found {
        tell(Report::Problem(format!("{place}: expected {expected}, found {found}")));
    }
}

/// The count and the sum of hashes of many items, in any order. Compares two lists that are too long for memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) count: u64,
    sum: u64,
}

impl Sum {
    /// Adds an item that consists of numbers.
    pub(super) fn add(&mut self, thing: &[i64]) {
        let hash = thing.iter().fold(0, |hash: u64, part| mix(hash ^ part.cast_unsigned()));
        self.add_times(hash, 1);
    }

    /// Adds each group of three characters of the folded text, once.
    pub(super) fn add_text(&mut self, text: &str, groups: &mut Vec<u64>) {
        groups.clear();
        let folded = fold(text);
        let mut chars = folded.chars().map(u64::from);
        let (Some(mut first), Some(mut second)) = (chars.next(), chars.next()) else { return };
        for third in chars {
            groups.push(group(first, second, third));
            (first, second) = (second, third);
        }
        groups.sort_unstable();
        groups.dedup();
        for group in groups {
            self.add_times(mix(*group), 1);
        }
    }

    /// Adds a group of three characters for each of the `texts` that contain it.
    pub(super) fn add_group(&mut self, text: &str, texts: u64) {
        let mut chars = text.chars().map(u64::from);
        let group = match (chars.next(), chars.next(), chars.next(), chars.next()) {
            (Some(first), Some(second), Some(third), None) => group(first, second, third),
            // No text has a group of another length.
            _ => u64::MAX,
        };
        self.add_times(mix(group), texts);
    }

    fn add_times(&mut self, hash: u64, times: u64) {
        self.count = self.count.wrapping_add(times);
        self.sum = self.sum.wrapping_add(hash.wrapping_mul(times));
    }

    /// Reports a sum that differs from the expected one.
    pub(super) fn compare(expected: Self, found: Self, place: &str, tell: &mut Tell<'_>) {
        if expected.count != found.count {
            compare(place, expected.count, found.count, tell);
        } else if expected != found {
            let count = found.count;
            tell(Report::Problem(format!("{place}: {count}, as expected, but not those of the messages")));
        }
    }
}

/// A character has 21 bits.
fn group(first: u64, second: u64, third: u64) -> u64 {
    first << 42 | second << 21 | third
}

/// Spreads a number over all bits (the end of splitmix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_does_not_depend_on_the_order_and_tells_lists_apart() {
        let sum = |things: &[[i64; 2]]| {
            let mut sum = Sum::default();
            for thing in things {
                sum.add(thing);
            }
            sum
        };
        assert_eq!(sum(&[[1, 2], [3, 4]]), sum(&[[3, 4], [1, 2]]));
        for other in [[[2, 1], [3, 4]], [[1, 4], [3, 2]], [[1, 2], [1, 2]], [[-1, 2], [3, 4]]] {
            assert_ne!(sum(&[[1, 2], [3, 4]]), sum(&other), "{other:?}");
        }
    }

    #[test]
    fn texts_and_their_groups_have_the_same_sum() {
        let (mut texts, mut groups) = (Sum::default(), Sum::default());
        for text in ["ABab", "ab", "", "aBaz", "aaaaa", "ПРИ😀"] {
            texts.add_text(text, &mut Vec::new());
        }
        for (group, count) in [("aba", 2), ("bab", 1), ("baz", 1), ("aaa", 1), ("при", 1), ("ри😀", 1)]
        {
            groups.add_group(group, count);
        }
        assert_eq!(texts, groups);
    }
}
