//! Adds messages to the aggregates, and takes erased ones out of them: they are counted here, and the counts go to the server by their values.

use std::collections::HashMap;

use super::connection::{PgError, Session};

/// Messages by what they are counted by.
#[derive(Debug, Default)]
pub(super) struct Totals {
    messages: i64,
    senders: HashMap<String, i64>,
    recipients: HashMap<String, i64>,
    days: HashMap<i64, i64>,
    minutes: HashMap<i64, i64>,
}

const ARRIVED: &str = "SELECT sender, recipient, ts_second FROM message WHERE seq > $1 AND seq <= $2";
const LATEST_KEY: &str = "SELECT key FROM event WHERE seq = $1";
/// With the number of senders that are new.
const ADD_SENDERS: &str = "\
    WITH added AS (
        INSERT INTO sender_total AS kept (number, messages)
        SELECT number, messages FROM unnest($1::text[], $2::bigint[]) AS arrived (number, messages)
        ON CONFLICT (number) DO UPDATE SET messages = kept.messages + excluded.messages
        RETURNING xmax = 0 AS is_new
    ) SELECT count(*) FROM added WHERE is_new";
const ADD_RECIPIENTS: &str = "\
    INSERT INTO recipient_total AS kept (number, messages)
    SELECT number, messages FROM unnest($1::text[], $2::bigint[]) AS arrived (number, messages)
    ON CONFLICT (number) DO UPDATE SET messages = kept.messages + excluded.messages";
const ADD_DAYS: &str = "\
    INSERT INTO day_total AS kept (day, messages)
    SELECT day, messages FROM unnest($1::bigint[], $2::bigint[]) AS arrived (day, messages)
    ON CONFLICT (day) DO UPDATE SET messages = kept.messages + excluded.messages";
const ADD_MINUTES: &str = "\
    INSERT INTO minute_total AS kept (minute, messages)
    SELECT minute, messages FROM unnest($1::bigint[], $2::bigint[]) AS arrived (minute, messages)
    ON CONFLICT (minute) DO UPDATE SET messages = kept.messages + excluded.messages";
const ADDED: &str = "\
    UPDATE derived SET figures_upto = $1, messages = messages + $2, senders = senders + $3, latest_seq = $1, latest_key = $4
    WHERE NOT is_void RETURNING true";
const DROP_SENDERS: &str = "\
    WITH dropped AS (DELETE FROM sender_total WHERE number = ANY ($1) AND messages <= 0 RETURNING number)
    SELECT count(*) FROM dropped";
const DROP_RECIPIENTS: &str = "DELETE FROM recipient_total WHERE number = ANY ($1) AND messages <= 0";
const DROP_DAYS: &str = "DELETE FROM day_total WHERE day = ANY ($1) AND messages <= 0";
const DROP_MINUTES: &str = "DELETE FROM minute_total WHERE minute = ANY ($1) AND messages <= 0";
const LATEST: &str = "SELECT seq, key FROM event WHERE seq <= $1 ORDER BY seq DESC LIMIT 1";
const SUBTRACTED: &str = "\
    UPDATE derived SET messages = messages + $1, senders = senders + $2, latest_seq = $3, latest_key = $4
    WHERE NOT is_void";

/// Adds the messages among the events after an arrival number and up to another one, which an event has.
pub(super) fn add(session: &Session<'_>, after: i64, upto: i64) -> Result<(), PgError> {
    let mut totals = Totals::default();
    session.each(ARRIVED, &[&after, &upto], |row| {
        totals.count(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(())
    })?;
    let messages = totals.messages;
    let new = totals.write(session)?;
    let latest = session.row(LATEST_KEY, &[&upto])?;
    let key: &str = latest.try_get(0)?;
    must_be_updated(&session.query(ADDED, &[&upto, &messages, &new, &key])?)
}

impl Totals {
    /// Counts a message.
    pub(super) fn count(&mut self, sender: Option<&str>, recipient: Option<&str>, second: i64) {
        self.messages += 1;
        count(&mut self.senders, sender);
        count(&mut self.recipients, recipient);
        *self.days.entry(second.div_euclid(86_400)).or_default() += 1;
        *self.minutes.entry(second.div_euclid(60)).or_default() += 1;
    }

    /// Takes the counted messages, which are gone, out of the aggregates, whose watermark is `upto`.
    pub(super) fn subtract(mut self, session: &Session<'_>, upto: i64) -> Result<(), PgError> {
        let Self { messages, senders, recipients, days, minutes } = &mut self;
        *messages = -*messages;
        let counts = senders.values_mut().chain(recipients.values_mut());
        counts.chain(days.values_mut()).chain(minutes.values_mut()).for_each(|count| *count = -*count);
        let messages = *messages;
        let numbers: [Vec<String>; 2] =
            [&self.senders, &self.recipients].map(|of| of.keys().cloned().collect());
        let times: [Vec<i64>; 2] = [&self.days, &self.minutes].map(|of| of.keys().copied().collect());
        let new = self.write(session)?;
        let [senders, recipients] = &numbers;
        let dropped: i64 = session.row(DROP_SENDERS, &[senders])?.try_get(0)?;
        session.query(DROP_RECIPIENTS, &[recipients])?;
        for (sql, times) in [DROP_DAYS, DROP_MINUTES].into_iter().zip(&times) {
            session.query(sql, &[times])?;
        }
        let latest = session.query(LATEST, &[&upto])?;
        let (seq, key): (Option<i64>, Option<String>) = match latest.first() {
            Some(row) => (row.try_get(0)?, row.try_get(1)?),
            None => (None, None),
        };
        session.query(SUBTRACTED, &[&messages, &(new - dropped), &seq, &key])?;
        Ok(())
    }

    /// Adds the counts, which may be negative, to the tables; returns the number of rows for senders that were made.
    fn write(self, session: &Session<'_>) -> Result<i64, PgError> {
        let Self { messages: _, senders, recipients, days, minutes } = self;
        let (numbers, counts) = columns(senders);
        let new = session.row(ADD_SENDERS, &[&numbers, &counts])?.try_get(0)?;
        let (numbers, counts) = columns(recipients);
        session.query(ADD_RECIPIENTS, &[&numbers, &counts])?;
        for (sql, counted) in [(ADD_DAYS, days), (ADD_MINUTES, minutes)] {
            let (times, counts) = columns(counted);
            session.query(sql, &[&times, &counts])?;
        }
        Ok(new)
    }
}

/// Fails if the state was not updated, since somebody has voided it meanwhile.
pub(super) fn must_be_updated(updated: &[tokio_postgres::Row]) -> Result<(), PgError> {
    if updated.is_empty() {
        Err(PgError::UnexpectedResponse("messages were changed meanwhile".into()))
    } else {
        Ok(())
    }
}

fn count(counted: &mut HashMap<String, i64>, name: Option<&str>) {
    let Some(name) = name else { return };
    match counted.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counted.insert(name.to_owned(), 1)),
    }
}

/// The keys and their counts, in the order of the keys.
fn columns<K: Ord>(counted: HashMap<K, i64>) -> (Vec<K>, Vec<i64>) {
    let mut counted: Vec<(K, i64)> = counted.into_iter().collect();
    counted.sort_unstable();
    counted.into_iter().unzip()
}
