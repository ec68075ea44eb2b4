//! The form in which clients see a [`Cursor`]: hex digits, opaque to them.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::{Cursor, Position};
use crate::message::{MessageId, Moment};

const AFTER: u8 = 1;
const BEFORE: u8 = 2;

/// The string is not a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a cursor")]
pub struct BadCursor;

impl fmt::Display for Cursor {
    /// The side, the second and the nanosecond (big-endian), the `message_id`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (side, position) = match self {
            Self::After(position) => (AFTER, position),
            Self::Before(position) => (BEFORE, position),
        };
        let mut bytes = vec![side];
        bytes.extend(position.moment.second.to_be_bytes());
        bytes.extend(position.moment.nanosecond.to_be_bytes());
        bytes.extend(position.message_id.as_str().as_bytes());
        f.write_str(&base16ct::lower::encode_string(&bytes))
    }
}

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let bytes = base16ct::mixed::decode_vec(text).map_err(|_| BadCursor)?;
        let (side, rest) = bytes.split_first().ok_or(BadCursor)?;
        let (second, rest) = rest.split_first_chunk().ok_or(BadCursor)?;
        let (nanosecond, id) = rest.split_first_chunk().ok_or(BadCursor)?;
        let id = std::str::from_utf8(id).map_err(|_| BadCursor)?;
        let position = Position {
            moment: Moment {
                second: i64::from_be_bytes(*second),
                nanosecond: u32::from_be_bytes(*nanosecond),
            },
            message_id: MessageId::new(id).map_err(|_| BadCursor)?,
        };
        match *side {
            AFTER => Ok(Self::After(position)),
            BEFORE => Ok(Self::Before(position)),
            _ => Err(BadCursor),
        }
    }
}

impl Serialize for Cursor {
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
        fn a_cursor_comes_back_as_it_was(second: i64, nanosecond: u32, id in "\\PC{1,40}", after: bool) {
            let position =
                Position { moment: Moment { second, nanosecond }, message_id: MessageId::new(&id).unwrap() };
            let cursor = if after { Cursor::After(position) } else { Cursor::Before(position) };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn any_other_string_is_refused(text in "\\PC{0,60}") {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text.to_lowercase());
            }
        }
    }

    #[test]
    fn what_no_answer_has_held_is_refused() {
        let good = format!("01{}{}61", "0".repeat(16), "0".repeat(8));
        assert!(good.parse::<Cursor>().is_ok());
        let no_id = good.strip_suffix("61").unwrap();
        for bad in ["", "0", "01", "zz", no_id, &good.replace("01", "03"), &format!("{good}0a")] {
            assert_eq!(bad.parse::<Cursor>(), Err(BadCursor), "{bad}");
        }
    }
}
