//! How far a follower is behind, in words, and not too often. Pure.

use std::time::Duration;

/// An event that arrived longer ago than this is late.
const LATE: Duration = Duration::from_mins(1);
/// An event that arrived at most so long ago is in time again.
const IN_TIME: Duration = Duration::from_secs(10);
/// Time after which a follower that still is behind says so again.
const AGAIN: Duration = Duration::from_mins(1);

/// What a follower has said of being behind.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// When it said last that it is behind, on the follower's monotonic clock; `None` if it is not.
    said: Option<Duration>,
}

impl Behind {
    /// What to say at `now`, when an event is printed that arrived so long ago, or, with `None`, before arrivals had a time.
    pub(super) fn event(&mut self, age: Option<Duration>, now: Duration) -> Option<String> {
        if age.is_some_and(|age| age <= IN_TIME) {
            return self.nothing_waits();
        }
        let is_late = age.is_none_or(|age| age > LATE);
        if !is_late || self.said.is_some_and(|said| now.saturating_sub(said) < AGAIN) {
            return None;
        }
        self.said = Some(now);
        Some(match age {
            Some(age) => format!("behind: the events that are printed now arrived {} ago", told(age)),
            None => {
                "behind: the events that are printed now were stored before arrivals had a time".to_owned()
            }
        })
    }

    /// What to say when nothing more waits to be printed.
    pub(super) fn nothing_waits(&mut self) -> Option<String> {
        self.said.take().map(|_| "no longer behind".to_owned())
    }
}

fn told(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match (minutes / 60 / 24, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn being_behind_is_said_once_a_minute_until_it_is_over() {
        let mut behind = Behind::default();
        let mut event =
            |age: Option<u64>, now: u64| behind.event(age.map(Duration::from_secs), Duration::from_secs(now));
        assert_eq!(event(Some(30), 0), None, "late for nobody");
        let said = "behind: the events that are printed now arrived 1 h 2 min ago";
        assert_eq!(event(Some(3725), 1).as_deref(), Some(said));
        assert_eq!(event(Some(3000), 2), None);
        assert_eq!(
            event(Some(61), 61).as_deref(),
            Some("behind: the events that are printed now arrived 1 min ago")
        );
        assert_eq!(event(Some(30), 500), None, "not over");
        assert_eq!(event(Some(10), 501).as_deref(), Some("no longer behind"));
        assert_eq!(event(Some(0), 502), None);
        assert!(event(None, 503).is_some_and(|said| said.starts_with("behind")));
        assert_eq!(behind.nothing_waits().as_deref(), Some("no longer behind"));
        assert_eq!(behind.nothing_waits(), None);
        assert_eq!(told(Duration::from_secs(3 * 86400 + 7300)), "3 d 2 h");
    }
}
