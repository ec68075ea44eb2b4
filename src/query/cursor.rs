//! The form in which clients see a [`PageCursor`]: hex digits, opaque to them.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{PageCursor, Place};
use crate::event::Source;
use crate::message::{Moment, Name};

const AFTER: u8 = 1;
const BEFORE: u8 = 2;
/// Added to the side if the message is not of the built-in source.
const OTHER_SOURCE: u8 = 2;

/// The string is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cursor")]
pub struct BadCursor;

impl fmt::Display for PageCursor {
    /// The side, the second and the nanosecond (big-endian), the source with its length unless it is the built-in one, the
    /// `message_id`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, place) = match self {
            Self::After(place) => (AFTER, place),
            Self::Before(place) => (BEFORE, place),
        };
        let source = if place.source.is_built_in() { "" } else { place.source.as_str() };
        let mut bytes = vec![if source.is_empty() { side } else { side + OTHER_SOURCE }];
        bytes.extend(place.moment.second.to_be_bytes());
        bytes.extend(place.moment.nanosecond.to_be_bytes());
        if !source.is_empty() {
            bytes.push(u8::try_from(source.len()).map_err(|_| fmt::Error)?);
            bytes.extend(source.as_bytes());
        }
        bytes.extend(place.message_id.as_str().as_bytes());
        f.write_str(&base16ct::lower::encode_string(&bytes))
    }
}

impl FromStr for PageCursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bytes = base16ct::mixed::decode_vec(text).map_err(|_| BadCursor)?;
        let (side, rest) = bytes.split_first().ok_or(BadCursor)?;
        let (second, rest) = rest.split_first_chunk().ok_or(BadCursor)?;
        let (nanosecond, rest) = rest.split_first_chunk().ok_or(BadCursor)?;
        let (side, source, id) = match *side {
            AFTER | BEFORE => (*side, Source::WEBHOOK, rest),
            _ => {
                let side = side.checked_sub(OTHER_SOURCE).ok_or(BadCursor)?;
                let (length, rest) = rest.split_first().ok_or(BadCursor)?;
                let (source, id) = rest.split_at_checked((*length).into()).ok_or(BadCursor)?;
                let source = std::str::from_utf8(source).map_err(|_| BadCursor)?;
                let source = Source::new(source).ok().filter(|source| !source.is_built_in());
                (side, source.ok_or(BadCursor)?, id)
            }
        };
        let id = std::str::from_utf8(id).map_err(|_| BadCursor)?;
        let place = Place {
            moment: Moment {
                second: i64::from_be_bytes(*second),
                nanosecond: u32::from_be_bytes(*nanosecond),
            },
            message_id: Name::new(id).map_err(|_| BadCursor)?,
            source,
        };
        match side {
            AFTER => Ok(Self::After(place)),
            BEFORE => Ok(Self::Before(place)),
            _ => Err(BadCursor),
        }
    }
}

impl Serialize for PageCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(second: i64, nanosecond: u32, id in "\\PC{1,40}", source in "webhook|[a-z0-9-]{1,40}", after: bool) {
            let place = Place {
                moment: Moment { second, nanosecond },
                message_id: Name::new(&id).unwrap(),
                source: Source::new(&source).unwrap(),
            };
            let cursor = if after { PageCursor::After(place) } else { PageCursor::Before(place) };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn any_other_string_is_refused(text in "\\PC{0,60}") {
            if let Ok(cursor) = text.parse::<PageCursor>() {
                prop_assert_eq!(cursor.to_string(), text.to_lowercase());
            }
        }
    }

    #[test]
    fn what_no_answer_has_held_is_refused() {
        let good = format!("01{}{}61", "0".repeat(16), "0".repeat(8));
        assert!(good.parse::<PageCursor>().is_ok());
        let no_id = good.strip_suffix("61").unwrap();
        for bad in [
            "",
            "0",
            "01",
            "zz",
            no_id,
            &good.replace("01", "05"),
            &good.replace("01", "03"),
            &good.replace("01", "00"),
            &format!("{good}0a"),
        ] {
            assert_eq!(bad.parse::<PageCursor>(), Err(BadCursor), "{bad}");
        }
    }
}
