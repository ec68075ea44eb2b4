//! The number of messages over time.

use super::aggregates::{Aggregates, MINUTES_A_DAY, SECONDS_A_DAY, SECONDS_A_MINUTE};
use super::conditions::Conditions;
use super::connection::{PgError, Session};
use super::rows::count;
use crate::message::Timestamp;
use crate::query::{Filter, STEPS_MAX, Volume};

/// [`Store::volume`](crate::store::Store::volume), in one snapshot.
pub(super) fn volume(
    session: &Session<'_>,
    filter: &Filter,
    step_seconds: u32,
) -> Result<Option<Volume>, PgError> {
    let step = i64::from(step_seconds.max(1));
    let mut conditions = Conditions::of(filter);
    let sql = format!("SELECT min(ts_second), max(ts_second) FROM message WHERE {}", conditions.sql());
    let row = session.row(&sql, &conditions.parameters())?;
    let (Some(first), Some(last)): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?) else {
        return Ok(Some(Volume::default()));
    };
    let steps = last.div_euclid(step) - first.div_euclid(step) + 1;
    if usize::try_from(steps).is_ok_and(|steps| steps > STEPS_MAX) {
        return Ok(None);
    }
    let aggregates = Aggregates::read(session)?;
    let minutes = Minutes::of(filter, first, last);
    let is_counted = !aggregates.is_void && step % SECONDS_A_MINUTE == 0 && !has_party_or_source(filter);
    let counted = if !is_counted || minutes.is_empty() {
        format!("SELECT ts_second AS second, 1 AS messages FROM message WHERE {}", conditions.sql())
    } else {
        minutes.counted(&mut conditions, aggregates.upto, step)
    };
    let step = conditions.bind(step);
    // The rest of a division has the sign of what is divided.
    let sql = format!(
        "SELECT second - ((second % {step}) + {step}) % {step} AS step, sum(messages)::bigint
         FROM ({counted}) AS counted GROUP BY 1 ORDER BY 1"
    );
    let mut volume = Volume::default();
    for row in session.query(&sql, &conditions.parameters())? {
        volume.steps.push((row.try_get(0)?, count(&row, 1)?));
    }
    Ok(Some(volume))
}

/// Whether a filter selects by more than time, which is all that the tables of counts know.
fn has_party_or_source(filter: &Filter) -> bool {
    let Filter { id: _, source, from, to, since: _, until: _, search: _ } = filter;
    [source, from, to].into_iter().any(Option::is_some)
}

/// The whole minutes of a time range, since 1970.
#[derive(Debug, Clone, Copy)]
struct Minutes {
    first: i64,
    /// The minute after the last one.
    end: i64,
}

impl Minutes {
    /// Those of the times of a filter, whose first and last messages are of these seconds.
    fn of(filter: &Filter, first: i64, last: i64) -> Self {
        let minute = |second: i64| second.div_euclid(SECONDS_A_MINUTE);
        let since = |since: Timestamp| {
            let is_whole = since.second().rem_euclid(SECONDS_A_MINUTE) == 0 && since.nanosecond() == 0;
            minute(since.second()) + i64::from(!is_whole)
        };
        Self {
            first: filter.since.map_or(minute(first), since),
            end: filter.until.map_or(minute(last) + 1, |until| minute(until.second())),
        }
    }

    fn is_empty(self) -> bool {
        self.end <= self.first
    }

    /// The whole days in it if steps are of whole days; otherwise an empty range after it.
    fn days(self, step: i64) -> (i64, i64) {
        let rounded_up = |minute: i64| (minute + MINUTES_A_DAY - 1).div_euclid(MINUTES_A_DAY);
        let (first, end) = (rounded_up(self.first), self.end.div_euclid(MINUTES_A_DAY));
        if step % SECONDS_A_DAY == 0 && first < end {
            (first, end)
        } else {
            (rounded_up(self.end), rounded_up(self.end))
        }
    }

    /// The statement for seconds and the numbers of messages there: of whole days and minutes by the tables of counts, which
    /// hold the messages up to `upto`; of the remainder, and of what is left at both ends of the times, one by one.
    fn counted(self, conditions: &mut Conditions, upto: i64, step: i64) -> String {
        let given = conditions.sql();
        let (first_day, end_day) = self.days(step);
        let [first, end, first_day, end_day, upto] =
            [self.first, self.end, first_day, end_day, upto].map(|number| conditions.bind(number));
        format!(
            "SELECT day * {SECONDS_A_DAY} AS second, messages FROM day_total WHERE day >= {first_day} AND day < {end_day}
             UNION ALL SELECT minute * {SECONDS_A_MINUTE}, messages FROM minute_total
                 WHERE minute >= {first} AND minute < least({end}, {first_day} * {MINUTES_A_DAY})
             UNION ALL SELECT minute * {SECONDS_A_MINUTE}, messages FROM minute_total
                 WHERE minute >= greatest({first}, {end_day} * {MINUTES_A_DAY}) AND minute < {end}
             UNION ALL SELECT ts_second, 1 FROM message
                 WHERE seq > {upto} AND ts_second >= {first} * {SECONDS_A_MINUTE} AND ts_second < {end} * {SECONDS_A_MINUTE}
             UNION ALL SELECT ts_second, 1 FROM message WHERE {given} AND ts_second < {first} * {SECONDS_A_MINUTE}
             UNION ALL SELECT ts_second, 1 FROM message WHERE {given} AND ts_second >= {end} * {SECONDS_A_MINUTE}"
        )
    }
}
