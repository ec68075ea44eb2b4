//! How many entries of a sorted index come before a key, without counting them one by one.
//!
//! The index is cut into steps of about a thousand entries, whose sizes are kept. What comes before a key is then
//! a sum over the steps and a count inside one of them, however large the index grows. The keys are cut where
//! the entries are, so it does not matter how they are spread.

use std::ops::Range;

/// The steps of an index whose keys are `K`. They cover all keys from the least one on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ranks<K> {
    steps: Vec<Step<K>>,
}

/// The entries from `first` up to the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step<K> {
    pub(super) first: K,
    pub(super) count: u64,
    /// With more entries than this, the step is to be cut.
    cut_above: u64,
}

impl<K> Step<K> {
    /// Entries that share one key cannot be cut, so a step that stayed large is left alone until it doubles.
    pub(super) fn new(first: K, count: u64, size: u64) -> Self {
        Self { first, count, cut_above: 2 * count.max(size) }
    }
}

impl<K: Copy + Ord> Ranks<K> {
    /// Of an index without entries, whose keys begin at `least`.
    pub(super) fn empty(least: K, size: u64) -> Self {
        Self { steps: vec![Step::new(least, 0, size)] }
    }

    /// As they were kept; none if they do not begin at `least` or are not in order.
    pub(super) fn from_steps(steps: Vec<Step<K>>, least: K) -> Option<Self> {
        let begins = steps.first().is_some_and(|step| step.first == least);
        (begins && steps.is_sorted_by(|one, other| one.first < other.first)).then_some(Self { steps })
    }

    pub(super) fn steps(&self) -> &[Step<K>] {
        &self.steps
    }

    /// Entries in all.
    pub(super) fn total(&self) -> u64 {
        self.steps.iter().map(|step| step.count).sum()
    }

    /// Notes an entry.
    pub(super) fn add(&mut self, key: K) {
        let index = self.step_of(key);
        if let Some(step) = self.steps.get_mut(index) {
            step.count += 1;
        }
    }

    /// Entries before `key`. `count` counts those of a range inside one step.
    pub(super) fn rank<E>(&self, key: K, count: impl FnOnce(Range<K>) -> Result<u64, E>) -> Result<u64, E> {
        let (before, rest) = self.steps.split_at(self.step_of(key));
        let before: u64 = before.iter().map(|step| step.count).sum();
        match rest.first() {
            Some(step) if step.first < key => Ok(before + count(step.first..key)?),
            _ => Ok(before),
        }
    }

    /// The step that holds the entry with so many before it: its first key, and how many come before that.
    pub(super) fn step_at(&self, rank: u64) -> Option<(K, u64)> {
        let mut before = 0;
        self.steps.iter().find_map(|step| {
            let found = (rank < before + step.count).then_some((step.first, before));
            before += step.count;
            found
        })
    }

    /// Cuts each step that has grown too large. `keys` gives those of a range, in order.
    pub(super) fn cut<E>(
        &mut self,
        size: u64,
        mut keys: impl FnMut(Range<K>, &mut dyn FnMut(K)) -> Result<(), E>,
        end: K,
    ) -> Result<(), E> {
        if self.steps.iter().all(|step| step.count <= step.cut_above) {
            return Ok(());
        }
        let ends: Vec<K> = self.steps.iter().skip(1).map(|step| step.first).chain([end]).collect();
        let mut steps = Vec::with_capacity(self.steps.len() + 2);
        for (step, end) in self.steps.iter().zip(ends) {
            if step.count <= step.cut_above {
                steps.push(*step);
                continue;
            }
            let mut pieces = Cutter::new(step.first, size);
            keys(step.first..end, &mut |key| pieces.add(key))?;
            steps.extend(pieces.finish());
        }
        self.steps = steps;
        Ok(())
    }

    fn step_of(&self, key: K) -> usize {
        self.steps.partition_point(|step| step.first <= key).saturating_sub(1)
    }
}

/// Makes steps of keys that come in order.
#[derive(Debug)]
struct Cutter<K> {
    size: u64,
    first: K,
    count: u64,
    last: Option<K>,
    steps: Vec<Step<K>>,
}

impl<K: Copy + Ord> Cutter<K> {
    fn new(first: K, size: u64) -> Self {
        Self { size, first, count: 0, last: None, steps: Vec::new() }
    }

    fn add(&mut self, key: K) {
        if self.count >= self.size && self.last != Some(key) {
            self.steps.push(Step::new(self.first, self.count, self.size));
            (self.first, self.count) = (key, 0);
        }
        self.count += 1;
        self.last = Some(key);
    }

    fn finish(mut self) -> Vec<Step<K>> {
        self.steps.push(Step::new(self.first, self.count, self.size));
        self.steps
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 4;

    fn within(keys: &[i32], range: &Range<i32>) -> Vec<i32> {
        keys.iter().copied().filter(|key| range.contains(key)).collect()
    }

    /// Ranks over `keys`, which were added one by one.
    fn ranks(keys: &[i32]) -> Ranks<i32> {
        let mut ranks = Ranks::empty(i32::MIN, SIZE);
        let mut sorted: Vec<i32> = Vec::new();
        for key in keys {
            ranks.add(*key);
            sorted.insert(sorted.partition_point(|other| other <= key), *key);
            let all = |range: Range<i32>, each: &mut dyn FnMut(i32)| -> Result<(), Infallible> {
                within(&sorted, &range).into_iter().for_each(each);
                Ok(())
            };
            ranks.cut(SIZE, all, i32::MAX).unwrap();
        }
        ranks
    }

    fn count(keys: &[i32]) -> impl Fn(Range<i32>) -> Result<u64, Infallible> {
        |range| Ok(u64::try_from(within(keys, &range).len()).unwrap())
    }

    proptest! {
        #[test]
        fn a_rank_is_the_number_of_entries_before(mut keys in vec(-30..30_i32, 0..200), key in -40..40_i32) {
            let ranks = ranks(&keys);
            keys.sort_unstable();
            let before = keys.partition_point(|other| *other < key);
            prop_assert_eq!(ranks.rank(key, count(&keys)).unwrap(), u64::try_from(before).unwrap());
            prop_assert_eq!(ranks.total(), u64::try_from(keys.len()).unwrap());
        }

        #[test]
        fn the_step_of_a_rank_begins_at_or_before_it(mut keys in vec(-30..30_i32, 0..200)) {
            let ranks = ranks(&keys);
            keys.sort_unstable();
            for (rank, key) in (0_u64..).zip(&keys) {
                let (first, before) = ranks.step_at(rank).unwrap();
                prop_assert!(before <= rank && first <= *key);
                prop_assert_eq!(count(&keys)(i32::MIN..first).unwrap(), before);
            }
            prop_assert_eq!(ranks.step_at(ranks.total()), None);
        }

        #[test]
        fn no_step_is_large_unless_its_keys_are_equal(keys in vec(-30..30_i32, 0..400)) {
            let ranks = ranks(&keys);
            let equal = |key: i32| keys.iter().filter(|other| **other == key).count();
            let crowd = u64::try_from((-30..30).map(equal).max().unwrap()).unwrap();
            for step in ranks.steps() {
                prop_assert!(step.count <= 2 * (SIZE + crowd));
            }
        }
    }

    #[test]
    fn steps_that_are_none_are_refused() {
        let step = |first| Step::new(first, 1, SIZE);
        assert!(Ranks::from_steps(vec![step(0), step(5)], 0).is_some());
        assert!(Ranks::from_steps(vec![step(1), step(5)], 0).is_none());
        assert!(Ranks::from_steps(vec![step(0), step(5), step(5)], 0).is_none());
        assert!(Ranks::<i32>::from_steps(Vec::new(), 0).is_none());
    }
}
