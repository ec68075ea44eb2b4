//! The position: the place of an event in the one order of arrival, as clients see it.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::Arrived;

/// Names the log of one database. A copy into another database has another one; a restored backup has the same one.
pub type LogId = [u8; 16];

/// The place of an event in the order of arrival. [`Display`](fmt::Display) and [`FromStr`] give the form that clients see,
/// 32 hexadecimal digits.
///
/// It holds more than the arrival number. After the restore of a backup the number may be given once more, to another
/// event, or to the same one after a loss; whoever went on from there would miss events. So a position also holds a part
/// of a hash over the log, the arrival number, the event and the time at which it was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The arrival number of the event.
    pub seq: i64,
    /// The first 64 bits of the hash.
    pub tag: u64,
}

/// The string is not a [`Position`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a position")]
pub struct BadPosition;

impl Position {
    /// The position of an event in a log.
    pub fn of(log: &LogId, arrived: &Arrived) -> Self {
        let Arrived { seq, event } = arrived;
        let mut hash = Sha256::new();
        hash.update(log);
        hash.update(seq.to_be_bytes());
        // No time is told from every other one.
        let received_at = event.received_at.map_or((i64::MIN, 0), |at| (at.second(), at.nanosecond()));
        hash.update(received_at.0.to_be_bytes());
        hash.update(received_at.1.to_be_bytes());
        hash.update(event.source.as_str());
        // No source has this byte in its name, so that source and key cannot run into each other.
        hash.update([0]);
        hash.update(event.key.as_str());
        let tag = hash.finalize().first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
        Self { seq: *seq, tag }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.seq, self.tag)
    }
}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let mut bytes = [0; 16];
        let decoded = base16ct::lower::decode(text, &mut bytes).map_err(|_| BadPosition)?;
        let (seq, tag) = decoded.split_first_chunk().ok_or(BadPosition)?;
        let tag = tag.first_chunk().ok_or(BadPosition)?;
        let (seq, tag) = (i64::from_be_bytes(*seq), u64::from_be_bytes(*tag));
        if seq > 0 { Ok(Self { seq, tag }) } else { Err(BadPosition) }
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::Event;
    use crate::message;

    fn arrived(seq: i64, id: &str) -> Arrived {
        let body = format!(r#"{{"message_id":"{id}","from":"+1","to":"+2","ts":"2025-01-15T10:00:00Z"}}"#);
        let message = message::parse(body.as_bytes()).unwrap();
        Arrived { seq, event: Event::of_message(message, None, None) }
    }

    #[test]
    fn another_log_number_key_source_or_time_is_another_position() {
        let log = [7; 16];
        let one = arrived(5, "m1");
        let position = Position::of(&log, &one);
        assert_eq!(position, Position::of(&log, &one.clone()));
        let mut others = vec![Position::of(&[8; 16], &one), Position::of(&log, &arrived(6, "m1"))];
        others.push(Position::of(&log, &arrived(5, "m2")));
        let mut source = one.clone();
        source.event.source = crate::event::Source::new("shop").unwrap();
        others.push(Position::of(&log, &source));
        for second in [0, 1] {
            let mut received = one.clone();
            received.event.received_at = message::Timestamp::from_parts(second, 0, 3).ok();
            others.push(Position::of(&log, &received));
        }
        for (place, other) in others.iter().enumerate() {
            assert_ne!(other.tag, position.tag, "{place}");
        }
    }

    proptest! {
        #[test]
        fn a_position_comes_back_as_it_was(seq in 1..=i64::MAX, tag: u64) {
            let position = Position { seq, tag };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }

        #[test]
        fn any_other_string_is_refused(text in "\\PC{0,40}|[0-9a-fA-F]{0,40}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }
    }
}
