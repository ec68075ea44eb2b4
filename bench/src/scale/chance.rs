//! Chance that can be repeated: the same seed and index draw the same numbers on every machine.

use crate::request::scramble;

/// The step of splitmix64.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// A row of numbers (splitmix64).
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// The row that belongs to `index`; rows of other indexes and seeds have nothing to do with it.
    pub fn new(seed: u64, index: u64) -> Self {
        Self(scramble(seed ^ scramble(index)))
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        let drawn = scramble(self.0);
        self.0 = self.0.wrapping_add(STEP);
        drawn
    }

    /// A number below `end`, all equally likely; 0 if there is none below.
    pub fn below(&mut self, end: u64) -> u64 {
        let product = u128::from(self.any()) * u128::from(end);
        u64::try_from(product >> 64).unwrap_or_default()
    }

    /// Whether something happens that happens once in `times`.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A number from 0 up to 1.
    pub fn part(&mut self) -> f64 {
        (self.any() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A rank below `end` by Zipf's law: rank 0 is twice as likely as rank 1, three times as likely as rank 2.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a power of a number over 1 lies between 1 and that number"
    )]
    pub fn rank(&mut self, end: u64) -> u64 {
        let rank = ((end + 1) as f64).powf(self.part()) as u64;
        rank.clamp(1, end.max(1)) - 1
    }

    /// One of a list that is not empty, all equally likely.
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[usize::try_from(self.below(list.len() as u64)).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_index_draw_the_same() {
        let draw = |seed, index| Chance::new(seed, index).any();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn draws_stay_below_their_end() {
        let mut chance = Chance::new(1, 1);
        for end in [1, 2, 3, 200_000] {
            assert!((0..1000).all(|_| chance.below(end) < end));
            assert!((0..1000).all(|_| chance.rank(end) < end));
        }
        assert_eq!(chance.below(0), 0);
    }

    #[test]
    fn ranks_have_a_heavy_tail() {
        let mut chance = Chance::new(1, 1);
        let ranks: Vec<_> = (0..100_000).map(|_| chance.rank(200_000)).collect();
        // ln 2 / ln 200,001 is 5.7 %, and half of all lie below the root.
        let first = ranks.iter().filter(|rank| **rank == 0).count();
        assert!((5_000..6_500).contains(&first), "{first}");
        let below_root = ranks.iter().filter(|rank| **rank < 447).count();
        assert!((48_000..52_000).contains(&below_root), "{below_root}");
        assert!(ranks.iter().any(|rank| *rank > 150_000));
    }
}
