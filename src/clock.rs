//! The time of day. It enters the program here and nowhere else, for the log, the metrics and the command line; limits
//! are measured with monotonic clocks.

/// The current time, by the clock of the system.
#[expect(clippy::disallowed_methods, reason = "this is where the time of day enters")]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Whole seconds since 1970-01-01T00:00:00Z.
pub fn unix_seconds() -> u64 {
    u64::try_from(now().as_second()).unwrap_or(0)
}
