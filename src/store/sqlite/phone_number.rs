//! Name numbers as integers, so that an index entry takes a few bytes.

use crate::message::{Name, PHONE_DIGITS_MAX};

/// A phone number as its rank among all phone numbers, the shorter ones first, from 1 on. Zero stands for any phone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PhoneNumber(pub(super) i64);

/// Stands for any phone number.
pub(super) const ANY: PhoneNumber = PhoneNumber(0);

/// Stands for everything else: a name that is no phone number, or none. Greater than every phone number.
pub(super) const OTHER: PhoneNumber = PhoneNumber(1_111_111_111_111_111);

impl PhoneNumber {
    /// What stands for a party of a message.
    pub(super) fn of_party(written: Option<&str>) -> Self {
        written.and_then(Self::of).unwrap_or(OTHER)
    }

    /// The phone number in a string; none if the string is not one.
    pub(super) fn of(written: &str) -> Option<Self> {
        Name::phone_number(written).ok()?;
        let digits = written.get(1..)?;
        Some(Self(digits.parse::<i64>().ok()? + first_of_length(digits.len())))
    }

    /// The phone number as it is written; none if the integer stands for no phone number, which an intact index never holds.
    pub(super) fn phone(self) -> Option<Name> {
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
            let number = PhoneNumber::of(&written).unwrap();
            prop_assert!(number > ANY);
            prop_assert_eq!(number.phone().unwrap(), Name::phone_number(&written).unwrap());
        }
    }

    #[test]
    fn no_two_phone_numbers_share_a_rank() {
        let mut last = ANY;
        for written in ["+0", "+1", "+9", "+00", "+01", "+99", "+000", "+999999999999999"] {
            let number = PhoneNumber::of(written).unwrap();
            assert!(number > last, "{written}");
            last = number;
        }
        assert_eq!(PhoneNumber::of("+9").map(|n| n.0 + 1), PhoneNumber::of("+00").map(|n| n.0));
    }

    #[test]
    fn whatever_is_no_phone_number_comes_after_all_of_them() {
        assert_eq!(PhoneNumber::of("+999999999999999").map(|n| n.0 + 1), Some(OTHER.0));
        assert_eq!(OTHER.phone(), None);
        for (written, number) in [(None, OTHER), (Some("Bot"), OTHER), (Some("+0"), PhoneNumber(1))] {
            assert_eq!(PhoneNumber::of_party(written), number);
        }
    }

    #[test]
    fn a_string_that_is_no_phone_number_has_no_rank() {
        for bad in ["", "+", "1", "+1234567890123456", "+1a", " 1"] {
            assert_eq!(PhoneNumber::of(bad), None, "{bad:?}");
        }
        assert_eq!(ANY.phone(), None);
        assert_eq!(PhoneNumber(-1).phone(), None);
        assert_eq!(PhoneNumber(i64::MAX).phone(), None);
    }
}
