//! The time of day. It enters the program here and nowhere else, for the log, the metrics and the command line; limits
//! are measured with monotonic clocks.

use std::fmt;
use std::sync::Arc;

use crate::message::Timestamp;

/// The clock of a service: that of the system, or one that a test sets. Clones are the same clock.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>);

impl Clock {
    /// The clock of the system.
    pub fn of_system() -> Self {
        Self(Arc::new(now))
    }

    /// A clock for tests.
    pub fn of(time: impl Fn() -> jiff::Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(time))
    }

    /// The current time.
    pub fn now(&self) -> jiff::Timestamp {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// The current time, by the clock of the system.
#[expect(clippy::disallowed_methods, reason = "this is where the time of day enters")]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The current time in whole milliseconds, as a timestamp with three digits of a second's fraction.
pub fn received_at() -> Timestamp {
    in_milliseconds(now())
}

/// A time in whole milliseconds, as a timestamp with three digits of a second's fraction.
pub fn in_milliseconds(now: jiff::Timestamp) -> Timestamp {
    let nanosecond = u32::try_from(now.subsec_nanosecond()).unwrap_or(0) / 1_000_000 * 1_000_000;
    // The clock of a system ends before the year 9999 does.
    Timestamp::from_parts(now.as_second(), nanosecond, 3).unwrap_or(Timestamp::EPOCH)
}

/// Whole seconds since 1970-01-01T00:00:00Z.
pub fn unix_seconds() -> u64 {
    u64::try_from(now().as_second()).unwrap_or(0)
}
