//! Checks that each event can be read and lies in its bucket, and compares the derived data with the messages. The server's files are the
//! server's own affair.

use super::aggregates::Aggregates;
use super::connection::{PgError, Session};
use super::layout::{self, Layout};
use super::rows::{self, EVENT_COLUMNS};
use super::{TAKE_TIME, batch_sequence, migrate};
use crate::query::fold;
use crate::store::check::{Report, Tell, compare};

const ROWS: &str = "SELECT count(*) FROM derived";
/// The totals, and the values that they should have.
const TOTALS_IN_ALL: &str = "SELECT messages, senders FROM derived";
const MESSAGES_UPTO: &str = "SELECT count(*) FROM message WHERE seq <= $1";
const SENDERS: &str = "SELECT count(*) FROM sender_total";
/// The triggers that are missing or not enabled as they should be, and how they should be enabled.
const TRIGGERS: &str = "\
    SELECT expected.name, expected.enabled FROM (VALUES
        ('event_was_added', 'ALWAYS', 'A'), ('event_was_renamed', 'ALWAYS', 'A'), ('event_was_touched', 'ALWAYS', 'A'),
        ('event_was_changed', 'REPLICA', 'R'), ('event_was_replicated', 'REPLICA', 'R')
    ) AS expected (name, enabled, code)
    LEFT JOIN pg_trigger ON tgrelid = 'event'::regclass AND tgname = expected.name
    WHERE tgenabled::text IS DISTINCT FROM expected.code";
/// The tables of totals: each with its key, and the expression for the key of a message.
const TOTALS: [(&str, &str, &str); 4] = [
    ("sender_total", "number", "sender"),
    ("recipient_total", "number", "recipient"),
    ("day_total", "day", "floor(ts_second / 86400.0)::bigint"),
    ("minute_total", "minute", "floor(ts_second / 60.0)::bigint"),
];
const TEXTS: &str = "SELECT count(*) FROM message_text";
/// What is wrong with the tombstones, each with its number.
const TOMBSTONES: [(&str, &str); 3] = [
    ("erased: tombstones of another length", "SELECT count(*) FROM erased WHERE length(hash) <> 16"),
    (
        "erased: tombstones without their key, the row of the table erasure",
        "SELECT count(*) FROM erased WHERE NOT EXISTS (SELECT FROM erasure)",
    ),
    (
        "erased: arrival numbers of erased events that were given again",
        "SELECT count(*) FROM erased JOIN event ON event.seq = erased.seq AND event.bucket = erased.bucket",
    ),
];
const HAS_TEXTS_WITHOUT_BUCKET: &str =
    "SELECT count(*) > 0 FROM (SELECT seq FROM message_text WHERE bucket = -1 LIMIT 1) AS found";

/// Checks the snapshot of the session's transaction; returns the number of messages.
pub(super) fn check(session: &Session<'_>, tell: &mut Tell<'_>) -> Result<u64, PgError> {
    session.run(TAKE_TIME)?;
    let version = migrate::found(session)?;
    if version != migrate::VERSION {
        tell(Report::Remark(format!(
            "schema: version {version}; a start of the service brings it to {}",
            migrate::VERSION
        )));
        // The derived data has another form there, and arrival numbers may occur twice.
        let columns = format!("SELECT {EVENT_COLUMNS} FROM {}", Layout::of_version(version).events);
        return check_events(session, &format!("{columns} ORDER BY seq"), None, tell);
    }
    batch_sequence::check(session, tell)?;
    check_triggers(session, tell)?;
    for (what, count) in TOMBSTONES {
        compare(what, 0, rows::count(&session.row(count, &[])?, 0)?, tell);
    }
    let aggregates = aggregates(session, tell)?;
    if let Some(aggregates) = aggregates {
        check_totals(session, aggregates, tell)?;
    }
    let texts_upto = aggregates.map(|aggregates| aggregates.texts_upto);
    check_events(session, &events_and_texts(session)?, texts_upto, tell)
}

/// The statement for each event, with its bucket, its text in the search index, and whether the columns beside that text are
/// those of the event.
fn events_and_texts(session: &Session<'_>) -> Result<String, PgError> {
    let columns: Vec<String> = EVENT_COLUMNS.split(", ").map(|column| format!("event.{column}")).collect();
    // Texts of a release before this one. The others lie where their events do, also where the tables are distributed.
    let has_others: bool = session.row(HAS_TEXTS_WITHOUT_BUCKET, &[])?.try_get(0)?;
    let bucket = if has_others { "IN (event.bucket, -1)" } else { "= event.bucket" };
    Ok(format!(
        "SELECT {}, event.bucket, kept.folded,
                (kept.source, kept.message_id, kept.sender, kept.recipient, kept.ts_second, kept.ts_nanosecond)
                IS NOT DISTINCT FROM
                (event.source, event.key, event.sender, event.recipient, event.ts_second, event.ts_nanosecond)
         FROM event LEFT JOIN message_text AS kept ON kept.seq = event.seq AND kept.bucket {bucket}
         ORDER BY event.seq",
        columns.join(", ")
    ))
}

/// The state of the derived data; `None` if it cannot be compared, which is reported.
fn aggregates(session: &Session<'_>, tell: &mut Tell<'_>) -> Result<Option<Aggregates>, PgError> {
    let rows = rows::count(&session.row(ROWS, &[])?, 0)?;
    compare("derived: rows", 1, rows, tell);
    if rows != 1 {
        return Ok(None);
    }
    let aggregates = Aggregates::read(session)?;
    if aggregates.is_void {
        let remark = "derived: void after a manual change or a restore of messages, and not compared; \
                      the service rebuilds it";
        tell(Report::Remark(remark.to_owned()));
        return Ok(None);
    }
    Ok(Some(aggregates))
}

/// Without its triggers the table does not notice a manual change.
fn check_triggers(session: &Session<'_>, tell: &mut Tell<'_>) -> Result<(), PgError> {
    for row in session.query(TRIGGERS, &[])? {
        let (name, enabled): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        tell(Report::Problem(format!(
            "event: the trigger {name} is missing or not enabled: ALTER TABLE event ENABLE {enabled} TRIGGER {name}"
        )));
    }
    Ok(())
}

fn check_totals(session: &Session<'_>, aggregates: Aggregates, tell: &mut Tell<'_>) -> Result<(), PgError> {
    tell(Report::Part("aggregates"));
    let row = session.row(TOTALS_IN_ALL, &[])?;
    let messages = rows::count(&session.row(MESSAGES_UPTO, &[&aggregates.upto])?, 0)?;
    compare("derived: messages", messages, rows::count(&row, 0)?, tell);
    let senders = rows::count(&session.row(SENDERS, &[])?, 0)?;
    compare("derived: senders", senders, rows::count(&row, 1)?, tell);
    for (table, key, of_message) in TOTALS {
        tell(Report::Part(table));
        let sql = format!(
            "WITH found AS MATERIALIZED (
                 SELECT {of_message} AS key, count(*) AS messages FROM message
                 WHERE seq <= $1 AND {of_message} IS NOT NULL GROUP BY 1
             )
             SELECT count(*) FILTER (WHERE found.messages IS DISTINCT FROM kept.messages),
                    coalesce(sum(found.messages), 0)::bigint, coalesce(sum(kept.messages), 0)::bigint
             FROM found FULL JOIN (SELECT {key} AS key, messages FROM {table}) AS kept USING (key)"
        );
        let row = session.row(&sql, &[&aggregates.upto])?;
        compare(&format!("{table}: messages in all"), rows::count(&row, 1)?, rows::count(&row, 2)?, tell);
        let wrong = format!("{table}: rows with a wrong number of messages");
        compare(&wrong, 0, rows::count(&row, 0)?, tell);
    }
    Ok(())
}

/// Reads each event, and compares its text with the derived one if that should be there. Returns the number of events.
fn check_events(
    session: &Session<'_>,
    sql: &str,
    texts_upto: Option<i64>,
    tell: &mut Tell<'_>,
) -> Result<u64, PgError> {
    tell(Report::Part("events"));
    let (mut events, mut unreadable, mut doubled, mut misplaced) = (0, 0, 0, 0);
    let (mut texts, mut missing, mut other) = (0, 0, 0);
    let mut last = None;
    session.each(sql, &[], |row| {
        events += 1;
        let seq: i64 = row.try_get(0)?;
        doubled += u64::from(last.replace(seq) == Some(seq));
        let has_more = row.len() > rows::EVENT_WIDTH;
        let kept: Option<&str> = if has_more { row.try_get(rows::EVENT_WIDTH + 1)? } else { None };
        let Ok(arrived) = rows::arrived(row) else {
            unreadable += 1;
            texts += u64::from(kept.is_some());
            return Ok(());
        };
        let event = arrived.event;
        if has_more {
            misplaced += u64::from(row.try_get::<_, i16>(rows::EVENT_WIDTH)? != layout::bucket_of(&event));
        }
        let is_indexed = event.message().is_some() && texts_upto.is_some_and(|upto| seq <= upto);
        match (event.text.filter(|_| is_indexed), kept) {
            (Some(text), Some(kept)) => {
                texts += 1;
                other += u64::from(!row.try_get(rows::EVENT_WIDTH + 2)? || fold(&text) != kept);
            }
            (Some(_), None) => missing += 1,
            // A text that should not be there is counted below.
            (None, _) => {}
        }
        Ok(())
    })?;
    compare("event: rows with an invalid key, name or time", 0, unreadable, tell);
    compare("event: arrival numbers that occur twice", 0, doubled, tell);
    compare("event: rows in another bucket than that of their source and key", 0, misplaced, tell);
    if texts_upto.is_some() {
        let kept = rows::count(&session.row(TEXTS, &[])?, 0)?;
        compare("message_text: missing texts", 0, missing, tell);
        compare("message_text: texts that differ from their message", 0, other, tell);
        compare("message_text: texts without a message", 0, kept.saturating_sub(texts), tell);
    }
    Ok(events)
}
