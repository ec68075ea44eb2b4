//! Numbers that stand for senders, recipients and sources, so that an index entry takes a few bytes.

use crate::message::{Name, PHONE_DIGITS_MAX};

/// The sender or the recipient of messages as an integer. A phone number has its rank among all phone numbers, the shorter ones
/// first, from 1 on; any other name has a greater number, which the table `name` of the index gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Party(pub(super) i64);

impl Party {
    /// Any sender or any recipient.
    pub(super) const ANY: Self = Self(0);
    /// No sender or no recipient. Greater than every phone number, and less than every other name.
    pub(super) const NONE: Self = Self(1_111_111_111_111_111);
    /// Any source but the built-in one. Greater than [`NONE`](Self::NONE), and less than every other name.
    pub(super) const OTHER_SOURCE: Self = Self(Self::NONE.0 + 1);

    /// The number of a phone number; `None` for any other name.
    pub(super) fn of_phone_number(name: &str) -> Option<Self> {
        Name::phone_number(name).ok()?;
        let digits = name.get(1..)?;
        Some(Self(digits.parse::<i64>().ok()? + first_of_length(digits.len())))
    }

    /// The phone number that has this number; `None` if it is that of another name, or of none.
    pub(super) fn phone_number(self) -> Option<Name> {
        let digits = (1..=PHONE_DIGITS_MAX).rev().find(|len| self.0 >= first_of_length(*len))?;
        Name::phone_number(&format!("+{:0digits$}", self.0 - first_of_length(digits))).ok()
    }
}

/// The rank of the first phone number with so many digits: one more than there are shorter ones (1, 11, 111 …).
fn first_of_length(digits: usize) -> i64 {
    (0..digits).fold(0, |sum, _| sum * 10 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_phone_number_comes_back_as_it_was_written(written in "\\+[0-9]{1,15}") {
            let party = Party::of_phone_number(&written).unwrap();
            prop_assert!(Party::ANY < party && party < Party::NONE);
            prop_assert_eq!(party.phone_number().unwrap(), Name::phone_number(&written).unwrap());
        }
    }

    #[test]
    fn no_two_phone_numbers_share_a_number() {
        let mut last = Party::ANY;
        for written in ["+0", "+1", "+9", "+00", "+01", "+99", "+000", "+999999999999999"] {
            let party = Party::of_phone_number(written).unwrap();
            assert!(party > last, "{written}");
            last = party;
        }
        let number = |written| Party::of_phone_number(written).unwrap().0;
        assert_eq!(number("+9") + 1, number("+00"));
        assert_eq!(number("+999999999999999") + 1, Party::NONE.0);
    }

    #[test]
    fn what_is_no_phone_number_has_no_number_of_its_own() {
        for bad in ["", "+", "1", "+1234567890123456", "+1a", " 1", "Bot"] {
            assert_eq!(Party::of_phone_number(bad), None, "{bad:?}");
        }
        for party in [Party::ANY, Party(-1), Party::NONE, Party(Party::NONE.0 + 1), Party(i64::MAX)] {
            assert_eq!(party.phone_number(), None, "{party:?}");
        }
    }
}
