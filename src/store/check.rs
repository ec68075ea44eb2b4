//! Checks a store: the engine's files, the readability of each event, and the derived data against the messages. Changes
//! nothing, and works on one snapshot.
//!
//! Problems are reported as counts, without any part of an event.

use super::{OpenError, Settings, Url, open_read_only};
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
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash);
    }

    /// Adds the folded text of the message with an arrival number.
    pub(super) fn add_text(&mut self, seq: i64, folded: &str) {
        let parts = folded
            .as_bytes()
            .chunks(8)
            .map(|part| part.iter().fold(0, |number: i64, byte| number << 8 | i64::from(*byte)));
        let length = i64::try_from(folded.len()).unwrap_or(i64::MAX);
        self.add(&[seq, length].into_iter().chain(parts).collect::<Vec<i64>>());
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
    fn a_sum_tells_texts_apart() {
        let sum = |seq, text| {
            let mut sum = Sum::default();
            sum.add_text(seq, text);
            sum
        };
        let texts = ["", "a", "b", "aaaaaaaa", "aaaaaaaaa", "aaaaaaaab", "\0", "\0a"];
        for (n, text) in texts.iter().enumerate() {
            assert_ne!(sum(1, text), sum(2, text), "{text:?}");
            for other in &texts[n + 1..] {
                assert_ne!(sum(1, text), sum(1, other), "{text:?} {other:?}");
            }
        }
    }
}
