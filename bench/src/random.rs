//! Random numbers that can be drawn again: the same seed and index give the same ones on every machine.

use fastrand::Rng;

/// Keeps the generators of neighbouring indexes apart: 2⁶⁴ divided by the golden ratio.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// The generator that belongs to `index`.
pub fn rng(seed: u64, index: u64) -> Rng {
    Rng::with_seed(Rng::with_seed(seed).u64(..) ^ index.wrapping_mul(STRIDE))
}

/// A rank below `end` by Zipf's law: rank 0 is twice as likely as rank 1, three times as likely as rank 2.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a power of a number over 1 lies between 1 and that number"
)]
pub fn rank(rng: &mut Rng, end: u64) -> u64 {
    let rank = ((end + 1) as f64).powf(rng.f64()) as u64;
    rank.clamp(1, end.max(1)) - 1
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
        // Stores that were kept rest on it: where this changes, `messages::DATASET` must change too.
        assert_eq!(rng(1, 0).u64(..), 7_494_446_975_856_485_542);
        assert_ne!(rng(1, 0).u64(..), rng(1, 1).u64(..));
        assert_ne!(rng(1, 0).u64(..), rng(2, 0).u64(..));
    }

    #[test]
    fn ranks_have_a_heavy_tail() {
        let mut rng = rng(1, 1);
        let ranks: Vec<_> = (0..100_000).map(|_| rank(&mut rng, 200_000)).collect();
        // ln 2 / ln 200,001 is 5.7 %, and half of all lie below the root.
        let below = |end| ranks.iter().filter(|rank| **rank < end).count();
        assert!((5_000..6_500).contains(&below(1)), "{}", below(1));
        assert!((48_000..52_000).contains(&below(447)), "{}", below(447));
        assert_eq!(below(200_000), 100_000);
    }
}
