//! Random numbers that can be drawn again: the same seed and index give the same ones on every machine.

use fastrand::Rng;

/// Keeps the generators of neighbouring indexes apart: 2⁶⁴ divided by the golden ratio.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The generator that belongs to `index`.
pub fn rng(seed: u64, index: u64) -> Rng {
    Rng::with_seed(Rng::with_seed(seed).u64(..) ^ index.wrapping_mul(STRIDE))
}

/// A part of a whole number, rounded down.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no part is negative")]
pub fn part(whole: f64, part: f64) -> u64 {
    (whole * part) as u64
}

/// A rank below `end` by Zipf's law: rank 0 is twice as likely as rank 1, three times as likely as rank 2.
pub fn rank(rng: &mut Rng, end: u64) -> u64 {
    part(((end + 1) as f64).powf(rng.f64()), 1.0).clamp(1, end.max(1)) - 1
}

/// One of a list that is not empty, all equally likely.
pub fn pick<'a, T>(rng: &mut Rng, list: &'a [T]) -> &'a T {
    &list[rng.usize(..list.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_index_draw_the_same() {
        // Where this changes, figures are no longer those of the same messages.
        assert_eq!(rng(1, 0).u64(..), 7_494_446_975_856_485_542);
        assert_ne!(rng(1, 0).u64(..), rng(1, 1).u64(..));
        assert_ne!(rng(1, 0).u64(..), rng(2, 0).u64(..));
    }
}
