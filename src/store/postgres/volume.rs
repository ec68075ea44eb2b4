//! The number of messages over time.

use super::conditions::Conditions;
use super::connection::{PgError, Session};
use super::rows::count;
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
    let step = conditions.bind(step);
    // The rest of a division has the sign of what is divided.
    let sql = format!(
        "SELECT ts_second - ((ts_second % {step}) + {step}) % {step} AS step, count(*) FROM message WHERE {} GROUP BY 1 ORDER BY 1",
        conditions.sql()
    );
    let mut volume = Volume::default();
    for row in session.query(&sql, &conditions.parameters())? {
        volume.steps.push((row.try_get(0)?, count(&row, 1)?));
    }
    Ok(Some(volume))
}
