//! Times as providers write them.

use jiff::civil::DateTime;

use super::json::Json;
use crate::message::Timestamp;

/// Maximum number of digits of a time in Unix seconds: until the year 9999 there are twelve.
const SECONDS_DIGITS_MAX: usize = 12;

/// Whole seconds since 1970.
pub(crate) fn of_seconds(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_parts(seconds, 0, 0).ok()
}

/// Digits and nothing else, as a header holds Unix seconds.
pub(crate) fn seconds(text: &[u8]) -> Option<i64> {
    let is_plain =
        !text.is_empty() && text.len() <= SECONDS_DIGITS_MAX && text.iter().all(u8::is_ascii_digit);
    is_plain.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// A time as a JSON value: a number, or a text.
pub(crate) fn of_json(json: Json<'_>) -> Option<Timestamp> {
    of_text(&json.word()?)
}

/// A time as text: in the form of a [`Timestamp`], which is kept as it was written; with an offset (RFC 3339), which becomes
/// UTC; or as a number since 1970: seconds, with or without a fraction, or milliseconds, microseconds or nanoseconds, by its
/// size.
pub(crate) fn of_text(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text).ok().or_else(|| of_number(text)).or_else(|| with_offset(text))
}

/// A number since 1970.
fn of_number(text: &str) -> Option<Timestamp> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    // 1e11 seconds are the year 5138, 1e11 milliseconds the year 1973.
    let digits = match whole.len() {
        ..=11 => return of_fraction(whole, fraction.get(..9).unwrap_or(fraction)),
        12..=14 => 3,
        15..=17 => 6,
        18..=19 => 9,
        _ => return None,
    };
    let (seconds, fraction) = whole.split_at_checked(whole.len() - digits)?;
    of_fraction(seconds, fraction)
}

/// Seconds and at most nine digits of a fraction.
fn of_fraction(seconds: &str, fraction: &str) -> Option<Timestamp> {
    let nanosecond = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::from_parts(seconds.parse().ok()?, nanosecond, u8::try_from(fraction.len()).ok()?).ok()
}

/// RFC 3339 with any offset, in either case, with a space or T between date and time, with or without a fraction, of which
/// nine digits are kept.
fn with_offset(text: &str) -> Option<Timestamp> {
    let (seconds, rest) = text.split_at_checked("2025-01-15T10:00:00".len())?;
    let at = rest.find(|character: char| character != '.' && !character.is_ascii_digit())?;
    let (fraction, offset) = rest.split_at_checked(at)?;
    let fraction = match fraction.strip_prefix('.') {
        Some(digits) if !digits.is_empty() && !digits.contains('.') => digits.get(..9).unwrap_or(digits),
        None if fraction.is_empty() => "",
        _ => return None,
    };
    let local: DateTime = seconds.parse().ok()?;
    let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let second = local.duration_since(epoch).as_secs().checked_sub(offset_seconds(offset)?)?;
    let nanosecond = format!("{fraction:0<9}").parse().ok()?;
    Timestamp::from_parts(second, nanosecond, u8::try_from(fraction.len()).ok()?).ok()
}

/// `Z`, `+hh:mm` or `+hhmm`, in seconds.
fn offset_seconds(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = match text.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, text.strip_prefix('-')?),
    };
    let digits = rest.replacen(':', "", 1);
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = digits.split_at_checked(2)?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, expected) in [
            ("2026-11-18T11:06:34.120Z", "2026-11-18T11:06:34.120Z"),
            ("1795000000", "2026-11-18T11:06:40Z"),
            ("1795000000.000200", "2026-11-18T11:06:40.000200Z"),
            ("1795000000.", "2026-11-18T11:06:40Z"),
            ("1795000000123", "2026-11-18T11:06:40.123Z"),
            ("1795000000123456", "2026-11-18T11:06:40.123456Z"),
            ("1795000000123456789", "2026-11-18T11:06:40.123456789Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("2026-11-18T11:06:40+05:30", "2026-11-18T05:36:40Z"),
            ("2026-11-18 11:06:40.5-0800", "2026-11-18T19:06:40.5Z"),
            ("2026-11-18t11:06:40.1234567891z", "2026-11-18T11:06:40.123456789Z"),
            ("2026-11-18T11:06:40-00:00", "2026-11-18T11:06:40Z"),
        ] {
            assert_eq!(of_text(text).map(|ts| ts.to_string()).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "x",
            "-1",
            "+1",
            "1e9",
            "12345678901234567890",
            ".5",
            "1.2.3",
            "2026-11-18",
            "2026-11-18T11:06:40",
            "2026-02-30T11:06:40+00:00",
            "2026-11-18T11:06:40+24:00",
            "2026-11-18T11:06:40+5:30",
            "2026-11-18T11:06:40.+00:00",
            "2026-11-18T11:06:40.1.2+00:00",
            "0000-01-01T00:00:00+01:00",
            "2026-11-18T11:06:40 UTC",
            "é026-11-18T11:06:40Z",
        ] {
            assert_eq!(of_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_header_holds_digits_alone() {
        assert_eq!(seconds(b"1795000000"), Some(1_795_000_000));
        for bad in ["", "1795000000.0", " 1", "+1", "-1", "1234567890123", "0x1", "\u{661}"] {
            assert_eq!(seconds(bad.as_bytes()), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[-0-9TZtz:.+ é]{0,40}|[0-9]{0,25}(\\.[0-9]{0,12})?") {
            let _any = of_text(&text);
        }
    }
}
