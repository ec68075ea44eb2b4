//! The number of messages over time: from a query string to a filter and a step, and the response.

use std::fmt;

use serde::Serialize;

use super::parameters::{Checker, Violation, instant, name, pairs, present};
use super::{Filter, STEPS_MAX, Volume};
use crate::message::{Moment, Timestamp};
use crate::validation::ValidationError;

/// 0000-01-01T00:00:00Z in seconds since 1970.
const YEAR_0: i64 = -62_167_219_200;

/// The length of a step of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    word: &'static str,
    /// Its length in seconds.
    pub seconds: u32,
}

/// The query of `GET /stats/volume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeQuery {
    /// The messages to count.
    pub filter: Filter,
    /// The length of a step.
    pub step: Step,
}

/// The response of `GET /stats/volume`.
#[derive(Debug, Serialize)]
pub struct VolumeAnswer {
    step: &'static str,
    data: Vec<StepCount>,
    total: u64,
}

#[derive(Debug, Serialize)]
struct StepCount {
    ts: Timestamp,
    count: u64,
}

impl Step {
    const ALL: [Self; 8] = [
        Self { word: "1m", seconds: 60 },
        Self { word: "5m", seconds: 300 },
        Self { word: "15m", seconds: 900 },
        Self::HOUR,
        Self { word: "6h", seconds: 21_600 },
        Self { word: "1d", seconds: 86_400 },
        Self { word: "7d", seconds: 604_800 },
        Self { word: "30d", seconds: 2_592_000 },
    ];
    const HOUR: Self = Self { word: "1h", seconds: 3_600 };

    /// The number of steps that a range touches, its end exclusive.
    fn within(self, since: Moment, until: Moment) -> u64 {
        if until <= since {
            return 0;
        }
        let step = i64::from(self.seconds);
        // The last moment of the range is that before its end.
        let last = if until.nanosecond == 0 { until.second - 1 } else { until.second };
        u64::try_from(last.div_euclid(step) - since.second.div_euclid(step) + 1).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word)
    }
}

/// Reads the query string of `GET /stats/volume`; the rules for parameters are those of [`parse`](super::parse()). Without
/// `step` a step is an hour.
///
/// # Errors
/// Every validation error, at most one for each parameter.
pub fn parse(query: &str) -> Result<VolumeQuery, Vec<ValidationError>> {
    let [mut step, mut since, mut until, mut from, mut to, mut source] = [const { String::new() }; 6];
    for (name, value) in pairs(query) {
        match name.as_str() {
            "step" => step = value,
            "since" => since = value,
            "until" => until = value,
            "from" => from = value,
            "to" => to = value,
            "source" => source = value,
            _ => {}
        }
    }
    let mut checker = Checker::default();
    let since = checker.take("since", &since, instant);
    let until = checker.take("until", &until, instant);
    let length = checker.take("step", &step, length).unwrap_or(Step::HOUR);
    if let (Some(since), Some(until)) = (since, until)
        && length.within(since.moment(), until.moment()) > u64::try_from(STEPS_MAX).unwrap_or(u64::MAX)
    {
        checker.errors.push(too_many(length));
    }
    if !checker.errors.is_empty() {
        return Err(checker.errors);
    }
    let (from, to, source) = (name(from), name(to), present(source));
    Ok(VolumeQuery { filter: Filter { source, from, to, since, until, ..Filter::default() }, step: length })
}

/// The validation error for a step that is too short for the time that it divides.
pub fn too_many(step: Step) -> ValidationError {
    let reason = format!(
        "Input should divide the time into at most {STEPS_MAX} steps; take a longer one, or less time"
    );
    ValidationError::field("value_error", "step", reason, step.word.into())
}

fn length(text: &str) -> Result<Step, Violation> {
    let found = Step::ALL.into_iter().find(|step| step.word == text);
    found.ok_or_else(|| {
        ("literal_error", "Input should be '1m', '5m', '15m', '1h', '6h', '1d', '7d' or '30d'".to_owned())
    })
}

impl VolumeAnswer {
    /// The response with these counts.
    pub fn new(step: Step, volume: &Volume) -> Self {
        let count = |(second, count): &(i64, u64)| {
            // A step may begin before the year 0000, but no message in it does.
            let ts = Timestamp::from_parts((*second).max(YEAR_0), 0, 0).unwrap_or(Timestamp::EPOCH);
            StepCount { ts, count: *count }
        };
        let total = volume.steps.iter().map(|(_, count)| count).sum();
        Self { step: step.word, data: volume.steps.iter().map(count).collect(), total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(query: &str) -> Vec<String> {
        parse(query).unwrap_err().iter().map(|error| format!("{} {:?}", error.kind, error.location)).collect()
    }

    #[test]
    fn a_step_is_one_of_eight_words_and_an_hour_by_default() {
        assert_eq!(parse("").unwrap().step.seconds, 3600);
        for step in Step::ALL {
            assert_eq!(parse(&format!("step={step}")).unwrap().step, step);
        }
        for bad in ["2m", "60", "1H", "1h "] {
            assert_eq!(errors(&format!("step={bad}")), [r#"literal_error Field("step")"#], "{bad}");
        }
    }

    #[test]
    fn a_range_has_at_most_500_steps_and_its_end_is_no_part_of_it() {
        let query =
            |until: &str| parse(&format!("step=1m&since=1970-01-01T00:00:30Z&until=1970-01-01T{until}Z"));
        // From within the first minute: 500 minutes end with the beginning of the 501st.
        assert!(query("08:20:00").is_ok());
        assert_eq!(query("08:20:00.000000001").unwrap_err(), [too_many(Step::ALL[0])]);
        assert!(query("00:00:00").is_ok(), "a range that ends before it begins");
        assert_eq!(
            errors("since=x&until=y"),
            [r#"datetime_parsing Field("since")"#, r#"datetime_parsing Field("until")"#]
        );
        let before_1970 = parse("step=1d&since=1969-12-31T23:59:59Z&until=1971-05-15T00:00:00Z");
        assert!(before_1970.is_ok(), "one day before 1970, and 499 after");
        assert!(parse("step=1d&since=1969-12-30T23:59:59Z&until=1971-05-15T00:00:00Z").is_err());
    }

    #[test]
    fn the_answer_has_a_total_and_the_begin_of_each_step() {
        let volume = Volume { steps: vec![(-60, 2), (0, 3)] };
        assert_eq!(
            serde_json::to_string(&VolumeAnswer::new(Step::ALL[0], &volume)).unwrap(),
            r#"{"step":"1m","data":[{"ts":"1969-12-31T23:59:00Z","count":2},{"ts":"1970-01-01T00:00:00Z","count":3}],"total":5}"#
        );
    }
}
