//! Integers in as few bytes as they need: seven bits a byte, the lowest first; the highest bit says that more follow.

/// Most bytes that an integer takes.
const BYTES_MAX: usize = 10;

/// Appends `value`.
pub(super) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    bytes.push(low_bits(value));
}

/// Appends a value that may be negative; one near 0 takes one byte.
pub(super) fn put_signed(bytes: &mut Vec<u8>, value: i64) {
    put(bytes, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Takes an integer off the beginning of `bytes`; none if they hold none there.
pub(super) fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    let len = bytes.iter().take(BYTES_MAX).position(|byte| *byte < 0x80)? + 1;
    let (integer, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(integer.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f)))
}

/// Takes what [`put_signed`] has appended.
pub(super) fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let value = take(bytes)?;
    Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
}

fn low_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back(values in prop::collection::vec((any::<u64>(), any::<i64>(), 0_u32..64), 0..20)) {
            let mut bytes = Vec::new();
            for (value, signed, shift) in &values {
                put(&mut bytes, value >> shift);
                put_signed(&mut bytes, signed >> shift);
            }
            let mut rest = bytes.as_slice();
            for (value, signed, shift) in values {
                prop_assert_eq!(take(&mut rest), Some(value >> shift));
                prop_assert_eq!(take_signed(&mut rest), Some(signed >> shift));
            }
            prop_assert!(rest.is_empty());
            prop_assert_eq!(take(&mut rest), None);
        }
    }

    #[test]
    fn the_extremes_come_back_and_small_values_take_one_byte() {
        for value in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, value);
            assert_eq!(bytes.len() == 1, (-64..64).contains(&value), "{value}");
            assert_eq!(take_signed(&mut bytes.as_slice()), Some(value));
        }
    }

    #[test]
    fn what_ends_too_early_or_never_is_no_integer() {
        for bytes in [&[][..], &[0x80], &[0xff; 20]] {
            assert_eq!(take(&mut &*bytes), None);
        }
    }
}
