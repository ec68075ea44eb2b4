//! The number of messages over time.

use std::collections::BTreeMap;
use std::ops::Range;

use super::failed::Failed;
use super::ordered::Ordered;
use super::plain::Plain;
use crate::message::Moment;
use crate::query::{STEPS_MAX, Volume};

/// The volume of a range of time in an order, which counts the messages before any moment quickly, without those of another order that are `others`.
/// `None` if there are too many steps.
pub(super) fn in_order(
    order: &Ordered<'_>,
    others: Option<&Ordered<'_>>,
    range: &Range<Moment>,
    step_seconds: i64,
) -> Result<Option<Volume>, Failed> {
    let (first, end) = (order.rank(range.start)?, order.rank(range.end)?);
    let mut volume = Volume::default();
    if first >= end {
        return Ok(Some(volume));
    }
    let step_of = |rank| Ok::<_, Failed>(step_start(order.moment_at(rank)?.second, step_seconds));
    let (mut step, last) = (step_of(first)?, step_of(end - 1)?);
    if is_too_long(step, last, step_seconds) {
        return Ok(None);
    }
    let rank = |moment| {
        let others = others.map_or(Ok(0), |others| others.rank(moment))?;
        Ok::<_, Failed>(order.rank(moment)?.saturating_sub(others))
    };
    let mut before = rank(range.start)?;
    while step <= last {
        let next = step + step_seconds;
        let upto = rank(Moment { second: next, nanosecond: 0 }.min(range.end))?;
        if upto > before {
            volume.steps.push((step, upto - before));
        }
        (step, before) = (next, upto);
    }
    Ok(Some(volume))
}

/// The same by a scan.
pub(super) fn by_scan(messages: &Plain<'_>, step_seconds: i64) -> Result<Option<Volume>, Failed> {
    let mut steps = BTreeMap::new();
    let mut fits = true;
    messages.each_second(&mut |second| {
        *steps.entry(step_start(second, step_seconds)).or_insert(0) += 1;
        let ends = steps.first_key_value().zip(steps.last_key_value());
        fits = ends.is_none_or(|(first, last)| !is_too_long(*first.0, *last.0, step_seconds));
        fits
    })?;
    Ok(fits.then(|| Volume { steps: steps.into_iter().collect() }))
}

/// The first second of the step that a second lies in.
fn step_start(second: i64, step_seconds: i64) -> i64 {
    second - second.rem_euclid(step_seconds)
}

fn is_too_long(first: i64, last: i64, step_seconds: i64) -> bool {
    let steps = (last - first) / step_seconds + 1;
    usize::try_from(steps).map_or(true, |steps| steps > STEPS_MAX)
}
