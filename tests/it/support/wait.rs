//! Waiting for what must come. The benchmarks use it, too.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long a test waits for what must come. Long, so that a slow machine does not fail a test.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// What may be an answer, and else is a reason to ask again: an `Option`, or a `Result` whatever its error.
pub(crate) trait Answer {
    type Value;

    /// The answer, or why it is none.
    fn answer(self) -> Result<Self::Value, String>;
}

impl<T> Answer for Option<T> {
    type Value = T;

    fn answer(self) -> Result<T, String> {
        self.ok_or_else(|| "not yet".to_owned())
    }
}

impl<T, E: Display> Answer for Result<T, E> {
    type Value = T;

    fn answer(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks again and again until there is an answer, whatever errors come before it.
///
/// # Panics
/// After [`DEADLINE`], naming `what` and the last error.
#[track_caller]
pub(crate) fn eventually<A: Answer>(what: &str, mut ask: impl FnMut() -> A) -> A::Value {
    let begin = Instant::now();
    loop {
        let why = match ask().answer() {
            Ok(answer) => return answer,
            Err(why) => why,
        };
        assert!(begin.elapsed() < DEADLINE, "did not happen within {DEADLINE:?}: {what} ({why})");
        std::thread::sleep(Duration::from_millis(5));
    }
}
