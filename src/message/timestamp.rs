//! An instant in UTC together with the precision it was written with.

use std::fmt;

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, date};

/// `YYYY-MM-DDTHH:MM:SS[.1–9 digits]Z` (a profile of RFC 3339).
///
/// Kept as an integer instant plus the number of fraction digits, so that it sorts as time
/// (`…00Z` before `…00.5Z`) and is written back exactly as it came. The year spans four digits, which is more
/// than nanoseconds fit in 64 bits: hence seconds and nanoseconds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timestamp {
    second: i64,
    nanosecond: u32,
    digits: u8,
}

/// A point in time. Sorts as time does; the number of fraction digits makes no difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    pub second: i64,
    /// Nanoseconds into that second.
    pub nanosecond: u32,
}

impl Moment {
    /// Before every [`Timestamp`].
    pub const MIN: Self = Self { second: i64::MIN, nanosecond: 0 };
    /// After every [`Timestamp`].
    pub const MAX: Self = Self { second: i64::MAX, nanosecond: u32::MAX };

    /// The next point in time that a [`Timestamp`] can name.
    #[must_use]
    pub fn next(self) -> Self {
        Self { second: self.second, nanosecond: self.nanosecond.saturating_add(1) }
    }

    /// The point in time before this one, with none that a [`Timestamp`] can name between the two.
    #[must_use]
    pub fn previous(self) -> Self {
        match self.nanosecond.checked_sub(1) {
            Some(nanosecond) => Self { second: self.second, nanosecond },
            None => Self { second: self.second.saturating_sub(1), nanosecond: u32::MAX },
        }
    }
}

/// The string is not a [`Timestamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "should be a real date and time in UTC like 2025-01-15T10:00:00Z, with up to 9 digits of a second's fraction"
)]
pub struct BadTimestamp;

const FRACTION_DIGITS_MAX: usize = 9;
/// The point in time that seconds are counted from. As a date of the calendar, since [`jiff::Timestamp`] ends a day before
/// the year 9999 does.
const EPOCH: DateTime = date(1970, 1, 1).at(0, 0, 0, 0);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self { second: 0, nanosecond: 0, digits: 0 };

    /// Reads the form above and nothing else: no offsets, no lower-case letters, no leap second, no spaces.
    ///
    /// # Errors
    /// [`BadTimestamp`], for a wrong form and for a date that does not exist.
    pub fn parse(value: &str) -> Result<Self, BadTimestamp> {
        let (seconds, fraction) = value
            .as_bytes()
            .strip_suffix(b"Z")
            .and_then(|rest| rest.split_at_checked(b"2025-01-15T10:00:00".len()))
            .ok_or(BadTimestamp)?;
        let second = parse_seconds(seconds).ok_or(BadTimestamp)?;
        let (nanosecond, digits) = parse_fraction(fraction).ok_or(BadTimestamp)?;
        Ok(Self { second, nanosecond, digits })
    }

    /// Makes a timestamp from its [`Self::second`], [`Self::nanosecond`] and [`Self::digits`].
    ///
    /// # Errors
    /// [`BadTimestamp`] if a part is out of range, as happens in a damaged store.
    pub fn from_parts(second: i64, nanosecond: u32, digits: u8) -> Result<Self, BadTimestamp> {
        let year = civil(second).ok_or(BadTimestamp)?.year();
        if nanosecond > 999_999_999 || usize::from(digits) > FRACTION_DIGITS_MAX || year < 0 {
            return Err(BadTimestamp);
        }
        Ok(Self { second, nanosecond, digits })
    }

    /// The point in time, without how it was written.
    pub fn moment(self) -> Moment {
        Moment { second: self.second, nanosecond: self.nanosecond }
    }

    /// Seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    pub fn second(self) -> i64 {
        self.second
    }

    /// Nanoseconds into that second.
    pub fn nanosecond(self) -> u32 {
        self.nanosecond
    }

    /// The number of fraction digits, 0 to 9.
    pub fn digits(self) -> u8 {
        self.digits
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = civil(self.second).ok_or(fmt::Error)?;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )?;
        if self.digits > 0 {
            let digits = usize::from(self.digits);
            let scale = 10_u32.pow(9 - u32::from(self.digits));
            write!(f, ".{:0digits$}", self.nanosecond / scale)?;
        }
        f.write_str("Z")
    }
}

/// `YYYY-MM-DDTHH:MM:SS` to seconds since the epoch.
fn parse_seconds(text: &[u8]) -> Option<i64> {
    let &[y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', n0, n1, b':', s0, s1] = text else {
        return None;
    };
    let year = i16::try_from(number(&[y0, y1, y2, y3])?).ok()?;
    let [month, day, hour, minute, second] = [[m0, m1], [d0, d1], [h0, h1], [n0, n1], [s0, s1]]
        .map(|pair| number(&pair).and_then(|n| i8::try_from(n).ok()));
    let (hour, minute, second) = (hour?, minute?, second?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let date = Date::new(year, month?, day?).ok()?;
    Some(date.at(hour, minute, second, 0).duration_since(EPOCH).as_secs())
}

/// The date and time so many seconds after the epoch.
fn civil(second: i64) -> Option<DateTime> {
    EPOCH.checked_add(SignedDuration::from_secs(second)).ok()
}

/// The empty string, or a dot and 1 to 9 digits, to nanoseconds and the number of digits.
fn parse_fraction(text: &[u8]) -> Option<(u32, u8)> {
    let Some((dot, digits)) = text.split_first() else {
        return Some((0, 0));
    };
    if *dot != b'.' || digits.is_empty() || digits.len() > FRACTION_DIGITS_MAX {
        return None;
    }
    let written = u8::try_from(digits.len()).ok()?;
    Some((number(digits)? * 10_u32.pow(9 - u32::from(written)), written))
}

/// ASCII digits, at most nine of them, to a number.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_lies_between_a_moment_and_its_neighbours() {
        let at = |second, nanosecond| Moment { second, nanosecond };
        for (one, other) in
            [(at(7, 4), at(7, 5)), (at(7, 0), at(7, 1)), (at(-1, 999_999_999), at(-1, 1_000_000_000))]
        {
            assert_eq!((one.next(), other.previous()), (other, one));
        }
        // Later than any moment of the second before, and earlier than any of its own.
        assert!(at(6, 999_999_999) < at(7, 0).previous() && at(7, 0).previous() < at(7, 0));
    }

    #[test]
    fn good_ones_come_back_as_written() {
        for good in [
            "2025-01-15T10:00:00Z",
            "2025-01-15T10:00:00.5Z",
            "2025-01-15T10:00:00.500000000Z",
            "2024-02-29T23:59:59.000000001Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59.9Z",
            "9999-12-31T23:59:59.999999999Z",
        ] {
            assert_eq!(Timestamp::parse(good).unwrap().to_string(), good);
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [
            "",
            "Z",
            "2025-01-15",
            "2025-01-15T10:00:00",
            "2025-01-15T10:00:00z",
            "2025-01-15t10:00:00Z",
            "2025-01-15 10:00:00Z",
            "2025-01-15T10:00:00+00:00",
            "2025-01-15T10:00:00.Z",
            "2025-01-15T10:00:00.1234567890Z",
            "2025-01-15T10:00:00,5Z",
            "2025-01-15T10:00Z",
            "2025-02-29T10:00:00Z",
            "2025-13-01T10:00:00Z",
            "2025-00-01T10:00:00Z",
            "2025-01-15T24:00:00Z",
            "2025-01-15T10:60:00Z",
            "2025-01-15T10:00:60Z",
            "+025-01-15T10:00:00Z",
            "-025-01-15T10:00:00Z",
            "2025-01-15T10:00:00Z\n",
            " 2025-01-15T10:00:00Z",
            "٢٠٢٥-01-15T10:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(bad), Err(BadTimestamp), "{bad:?}");
        }
    }

    /// Seconds since the epoch, counted in days of years and months, by the rule for leap years.
    fn reckoned(text: &str) -> i64 {
        let number = |at: std::ops::Range<usize>| text.get(at).unwrap().parse::<i64>().unwrap();
        let (year, month, day) = (number(0..4), number(5..7), number(8..10));
        let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let leap_days = |years: std::ops::Range<i64>| years.filter(|year| is_leap(*year)).count();
        let leap_days =
            i64::try_from(leap_days(0..year)).unwrap() - i64::try_from(leap_days(0..1970)).unwrap();
        let february = if is_leap(year) { 29 } else { 28 };
        let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30];
        let before: i64 = months.iter().take(usize::try_from(month - 1).unwrap()).sum();
        let days = 365 * (year - 1970) + leap_days + before + day - 1;
        ((days * 24 + number(11..13)) * 60 + number(14..16)) * 60 + number(17..19)
    }

    /// Timestamps, many of them near to each other and near to the ends of months and years.
    fn written() -> impl Strategy<Value = String> {
        let date = "(0000|1[69]00|1969|1970|2000|202[45]|9999|[0-9]{4})-(0[1-3]|1[0-2]|0[1-9])-(01|28|[012][0-9]|29|3[01])";
        let time = "(00:00:00|23:59:59|([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(|\\.0{1,9}|\\.[0-9]{1,9}|\\.9{1,9})";
        (date, time).prop_map(|(date, time)| format!("{date}T{time}Z"))
    }

    #[test]
    fn parts_out_of_range_are_no_time() {
        let (first, last) = (-62_167_219_200, 253_402_300_799);
        assert_eq!(Timestamp::from_parts(first, 0, 0).unwrap().to_string(), "0000-01-01T00:00:00Z");
        let text = "9999-12-31T23:59:59.999999999Z";
        assert_eq!(Timestamp::from_parts(last, 999_999_999, 9).unwrap().to_string(), text);
        for (second, nanosecond, digits) in [
            (first - 1, 0, 0),
            (last + 1, 0, 0),
            (i64::MIN, 0, 0),
            (i64::MAX, 0, 0),
            (0, 1_000_000_000, 9),
            (0, 2_000_000_000, 9),
            (0, 0, 10),
        ] {
            let made = Timestamp::from_parts(second, nanosecond, digits);
            assert_eq!(made, Err(BadTimestamp), "{second} {nanosecond} {digits}");
        }
    }

    proptest! {
        #[test]
        fn time_sorts_as_its_text_does(one in written(), other in written()) {
            let (Ok(ts), Ok(later)) = (Timestamp::parse(&one), Timestamp::parse(&other)) else { return Ok(()) };
            prop_assert_eq!(ts.second(), reckoned(&one));
            let instant = |ts: Timestamp| (ts.second(), ts.nanosecond());
            // With all nine digits written, texts sort as time.
            let whole = |text: &str| {
                let (second, fraction) = text.split_at("2025-01-15T10:00:00".len());
                format!("{second}{:0<9}", fraction.trim_matches(['.', 'Z']))
            };
            prop_assert_eq!(instant(ts).cmp(&instant(later)), whole(&one).cmp(&whole(&other)));
        }

        #[test]
        fn parts_put_together_are_the_same(text in "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?Z") {
            let ts = Timestamp::parse(&text).unwrap();
            prop_assert_eq!(ts.to_string(), text);
            prop_assert_eq!(Timestamp::from_parts(ts.second(), ts.nanosecond(), ts.digits()).unwrap(), ts);
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            let _any = Timestamp::parse(&text);
        }
    }
}
