//! The aggregates: tables of counts over every message up to a watermark, and the counts of the messages above it.
//!
//! A read adds up both in one snapshot. So the tables may lag behind, and no result does.

use std::ops::Range;

use tokio_postgres::Row;

use super::connection::{PgError, Session};
use super::parameter::Parameter;
use super::rows::{self, COLUMNS, IN_ORDER, bigint, checked, count, integer, timestamp};
use crate::message::{Message, Moment, Name, Timestamp};
use crate::query::{Place, SenderCount, Stats};
use crate::store::matches::Matches;

pub(super) const SECONDS_A_DAY: i64 = 86_400;
pub(super) const SECONDS_A_MINUTE: i64 = 60;
pub(super) const MINUTES_A_DAY: i64 = 1_440;

// Statements get the watermark as a parameter, although it is in a table: of an unknown value the planner assumes that
// a third of all messages are above it.

/// The watermarks, and whether the derived data is void: after a manual change, and if the latest event in it is missing, as
/// after tables of two points in time were restored together. See `change.rs` for why the sequence is read last.
const STATE: &str = "\
    WITH state AS MATERIALIZED (
        SELECT figures_upto, texts_upto, is_void, change, latest_seq, latest_key FROM derived
    ), latest AS MATERIALIZED (
        SELECT event.key FROM event WHERE event.seq = (SELECT state.latest_seq FROM state)
    )
    SELECT state.figures_upto, state.texts_upto,
           state.is_void OR state.change <> event_change.last_value
           OR state.latest_seq IS NOT NULL AND state.latest_key NOT IN (SELECT latest.key FROM latest)
    FROM state, event_change";
const TOTAL: &str = "\
    SELECT derived.messages + (SELECT count(*) FROM message WHERE seq > $1) FROM derived";
const OF_SENDER: &str = "\
    SELECT coalesce((SELECT messages FROM sender_total WHERE number = $1), 0)
         + (SELECT count(*) FROM message WHERE seq > $2 AND sender = $1)";
const OF_RECIPIENT: &str = "\
    SELECT coalesce((SELECT messages FROM recipient_total WHERE number = $1), 0)
         + (SELECT count(*) FROM message WHERE seq > $2 AND recipient = $1)";
/// The number of messages before a position in the order of listings: the days before its day, the minutes before its
/// minute, the earlier messages of that minute, and those above the watermark. The conditions on the second alone are for the planner,
/// which takes two comparisons of rows for independent and a minute for a quarter of all messages.
const RANK: &str = "\
    SELECT coalesce((SELECT sum(messages) FROM day_total WHERE day < $1), 0)::bigint
         + coalesce((SELECT sum(messages) FROM minute_total WHERE minute >= $1 * 1440 AND minute < $2), 0)::bigint
         + (SELECT count(*) FROM message WHERE ts_second >= $2 * 60 AND ts_second <= $3
            AND (ts_second, ts_nanosecond, message_id, source) < ($3, $4, $5, $7) AND seq <= $6)
         + (SELECT count(*) FROM message WHERE seq > $6
            AND (ts_second, ts_nanosecond, message_id, source) < ($3, $4, $5, $7))";
/// The day of the message at a rank, and the number of messages before that day.
const DAY_AT: &str = "\
    SELECT day, up_to - messages FROM (
        SELECT day, messages, (sum(messages) OVER (ORDER BY day))::bigint AS up_to FROM (
            SELECT day, sum(messages)::bigint AS messages FROM (
                SELECT day, messages FROM day_total
                UNION ALL SELECT floor(ts_second / 86400.0)::bigint, 1 FROM message WHERE seq > $2
            ) AS each GROUP BY day
        ) AS days
    ) AS sums WHERE up_to > $1 ORDER BY day LIMIT 1";
/// The minute of the message at a rank within a day, and the number of messages of that day before the minute.
const MINUTE_AT: &str = "\
    SELECT minute, up_to - messages FROM (
        SELECT minute, messages, (sum(messages) OVER (ORDER BY minute))::bigint AS up_to FROM (
            SELECT minute, sum(messages)::bigint AS messages FROM (
                SELECT minute, messages FROM minute_total WHERE minute >= $3 AND minute < $3 + 1440
                UNION ALL SELECT floor(ts_second / 60.0)::bigint, 1 FROM message
                    WHERE seq > $2 AND ts_second >= $3 * 60 AND ts_second < ($3 + 1440) * 60
            ) AS each GROUP BY minute
        ) AS minutes
    ) AS sums WHERE up_to > $1 ORDER BY minute LIMIT 1";
const TOP_SENDERS: &str = "\
    WITH arrived AS MATERIALIZED (
        SELECT sender AS number, count(*) AS messages FROM message WHERE seq > $1 AND sender IS NOT NULL GROUP BY sender
    ), touched AS (
        SELECT number, arrived.messages + coalesce(sender_total.messages, 0) AS messages
        FROM arrived LEFT JOIN sender_total USING (number)
    ), untouched AS (
        SELECT number, messages FROM sender_total
        WHERE NOT EXISTS (SELECT 1 FROM arrived WHERE arrived.number = sender_total.number)
        ORDER BY messages DESC, number LIMIT 10
    )
    SELECT number, messages FROM (
        SELECT number, messages FROM touched UNION ALL SELECT number, messages FROM untouched
    ) AS senders
    ORDER BY messages DESC, number LIMIT 10";
const SENDERS: &str = "\
    WITH arrived AS MATERIALIZED (
        SELECT DISTINCT sender FROM message WHERE seq > $1 AND sender IS NOT NULL
    )
    SELECT derived.senders + (
        SELECT count(*) FROM arrived
        WHERE NOT EXISTS (SELECT 1 FROM sender_total WHERE sender_total.number = arrived.sender)
    ) FROM derived";
const FIRST: &str = "\
    SELECT ts_second, ts_nanosecond, ts_digits FROM message ORDER BY ts_second, ts_nanosecond, message_id, source LIMIT 1";
const LAST: &str = "\
    SELECT ts_second, ts_nanosecond, ts_digits FROM message
    ORDER BY ts_second DESC, ts_nanosecond DESC, message_id DESC, source DESC LIMIT 1";
const TOP_SENDERS_PLAINLY: &str = "\
    SELECT sender, count(*) AS messages FROM message WHERE sender IS NOT NULL GROUP BY sender ORDER BY messages DESC, sender LIMIT 10";
const SENDERS_PLAINLY: &str = "SELECT count(DISTINCT sender) FROM message";
const TOTAL_PLAINLY: &str = "SELECT count(*) FROM message";

/// The state of the aggregates and the search index in a snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aggregates {
    /// Watermark of the aggregates: they hold every message up to this arrival number.
    pub(super) upto: i64,
    /// Watermark of the search index.
    pub(super) texts_upto: i64,
    /// The derived data belongs to other messages and must not be used.
    pub(super) is_void: bool,
}

impl Aggregates {
    /// The state as reads use it: with watermarks of zero if the derived data is void.
    pub(super) fn read(session: &Session<'_>) -> Result<Self, PgError> {
        let void = Self { upto: 0, texts_upto: 0, is_void: true };
        Ok(Self::stored(session)?.filter(|aggregates| !aggregates.is_void).unwrap_or(void))
    }

    /// The state as it is stored, also of void data; none if a manual change has deleted the row.
    pub(super) fn stored(session: &Session<'_>) -> Result<Option<Self>, PgError> {
        let rows = session.query(STATE, &[])?;
        let state = |row: &Row| {
            Ok(Self { upto: row.try_get(0)?, texts_upto: row.try_get(1)?, is_void: row.try_get(2)? })
        };
        rows.first().map(state).transpose()
    }

    /// The number of all messages.
    pub(super) fn total(&self, session: &Session<'_>) -> Result<u64, PgError> {
        let row = if self.is_void {
            session.row(TOTAL_PLAINLY, &[])?
        } else {
            session.row(TOTAL, &[&self.upto])?
        };
        count(&row, 0)
    }

    /// The number of messages from a sender; none if the aggregates are void.
    pub(super) fn of_sender(&self, session: &Session<'_>, phone: &str) -> Result<Option<u64>, PgError> {
        self.of(session, OF_SENDER, phone)
    }

    /// The number of messages to a recipient; none if the aggregates are void.
    pub(super) fn of_recipient(&self, session: &Session<'_>, phone: &str) -> Result<Option<u64>, PgError> {
        self.of(session, OF_RECIPIENT, phone)
    }

    fn of(&self, session: &Session<'_>, sql: &str, phone: &str) -> Result<Option<u64>, PgError> {
        if self.is_void {
            return Ok(None);
        }
        count(&session.row(sql, &[&phone, &self.upto])?, 0).map(Some)
    }

    /// The result of `GET /stats`.
    pub(super) fn stats(&self, session: &Session<'_>) -> Result<Stats, PgError> {
        let (senders, top) = if self.is_void {
            (session.row(SENDERS_PLAINLY, &[])?, session.query(TOP_SENDERS_PLAINLY, &[])?)
        } else {
            (session.row(SENDERS, &[&self.upto])?, session.query(TOP_SENDERS, &[&self.upto])?)
        };
        let sender = |row| Ok(SenderCount { from: checked(row, 0, Name::new)?, count: count(row, 1)? });
        let instant = |sql| -> Result<Option<Timestamp>, PgError> {
            session.query(sql, &[])?.first().map(|row| timestamp(row, 0)).transpose()
        };
        Ok(Stats {
            total_messages: self.total(session)?,
            senders_count: count(&senders, 0)?,
            messages_per_sender: top.iter().map(sender).collect::<Result<_, PgError>>()?,
            first_message_ts: instant(FIRST)?,
            last_message_ts: instant(LAST)?,
        })
    }
}

/// The messages of a time range.
pub(super) struct Timeline<'a> {
    session: &'a Session<'a>,
    aggregates: &'a Aggregates,
    range: Range<Moment>,
    /// Number of messages before the range.
    before: u64,
    /// Number of messages in the range.
    total: u64,
}

impl<'a> Timeline<'a> {
    /// The messages of `range`, which are counted here.
    pub(super) fn new(
        session: &'a Session<'a>,
        aggregates: &'a Aggregates,
        range: Range<Moment>,
    ) -> Result<Self, PgError> {
        let mut timeline = Self { session, aggregates, range, before: 0, total: 0 };
        timeline.before = timeline.rank(timeline.range.start, "", "")?;
        timeline.total = timeline.rank(timeline.range.end, "", "")?.saturating_sub(timeline.before);
        Ok(timeline)
    }

    /// The number of messages before a moment, or at that moment with a lesser id, or with that id of a lesser source.
    fn rank(&self, moment: Moment, id: &str, source: &str) -> Result<u64, PgError> {
        if moment == Moment::MIN {
            return Ok(0);
        }
        if moment == Moment::MAX {
            return self.aggregates.total(self.session);
        }
        let day = moment.second.div_euclid(SECONDS_A_DAY);
        let minute = moment.second.div_euclid(SECONDS_A_MINUTE);
        let nanosecond = integer(moment.nanosecond);
        let upto = self.aggregates.upto;
        let parameters: [Parameter<'_>; 7] =
            [&day, &minute, &moment.second, &nanosecond, &id, &upto, &source];
        let row = self.session.row(RANK, &parameters)?;
        count(&row, 0)
    }

    /// The minute of the message at `rank`, and the number of messages before that minute.
    fn minute_at(&self, rank: u64) -> Result<Option<(i64, u64)>, PgError> {
        let upto = self.aggregates.upto;
        let days = self.session.query(DAY_AT, &[&bigint(rank), &upto])?;
        let Some(day) = days.first() else { return Ok(None) };
        let (first, before) = (day.try_get::<_, i64>(0)? * MINUTES_A_DAY, count(day, 1)?);
        let minutes =
            self.session.query(MINUTE_AT, &[&bigint(rank.saturating_sub(before)), &upto, &first])?;
        minutes.first().map(|row| Ok((row.try_get(0)?, before + count(row, 1)?))).transpose()
    }
}

impl Matches for Timeline<'_> {
    type Error = PgError;

    fn total(&self) -> Result<u64, PgError> {
        Ok(self.total)
    }

    fn before(&self, position: &Place, including: bool) -> Result<u64, PgError> {
        if position.moment < self.range.start {
            return Ok(0);
        }
        if position.moment >= self.range.end {
            return Ok(self.total);
        }
        // No source has a control character in it: this one sorts right after the source, before all that begin with it.
        let source = format!("{}{}", position.source.as_str(), if including { "\u{1}" } else { "" });
        let rank = self.rank(position.moment, position.message_id.as_str(), &source)?;
        Ok(rank.saturating_sub(self.before))
    }

    fn window(&self, range: Range<u64>) -> Result<Vec<Message>, PgError> {
        let limit = bigint(range.end - range.start);
        // The first page begins with the range; the beginning of any other has to be found.
        let (from, skipped) = if range.start == 0 {
            (self.range.start, 0)
        } else {
            let start = self.before + range.start;
            let Some((minute, before)) = self.minute_at(start)? else { return Ok(Vec::new()) };
            (Moment { second: minute * SECONDS_A_MINUTE, nanosecond: 0 }, start.saturating_sub(before))
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM message WHERE (ts_second, ts_nanosecond) >= ($1, $2)
             ORDER BY {IN_ORDER} LIMIT $3 OFFSET $4"
        );
        let (nanosecond, skipped) = (integer(from.nanosecond), bigint(skipped));
        let found = self.session.query(&sql, &[&from.second, &nanosecond, &limit, &skipped])?;
        found.iter().map(rows::message).collect()
    }
}
