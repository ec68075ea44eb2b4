//! Stores a batch of events: one statement, which is one transaction.

use std::collections::{HashMap, HashSet};

use tokio_postgres::error::SqlState;

use super::connection::{PgError, Session};
use super::layout::{self, BATCH_MAX};
use super::parameter::Parameter;
use super::rows;
use crate::event::{Data, Event, Source};
use crate::message::{Name, Timestamp};
use crate::store::Outcome;

/// For events of the built-in source that have nothing but the fields of a message. The function is in the migration.
const INSERT_MESSAGES: &str = "SELECT event_add_messages($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
/// For all others.
const INSERT_EVENTS: &str =
    "SELECT event_add($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";

/// The unique index on arrival numbers.
const UNIQUE: &str = "event_by_seq";

/// An event is stored under these, once.
type Identity<'a> = (&'a Source, &'a Name);

/// [`Store::insert`](crate::store::Store::insert), with the greatest arrival number that was given. `seen` is the number of
/// an earlier batch.
pub(super) fn insert(
    session: &Session<'_>,
    batch: &[Event],
    seen: i64,
) -> Result<(Vec<Outcome>, i64), PgError> {
    if batch.len() > BATCH_MAX {
        return Err(PgError::UnexpectedResponse("a batch has more events than arrival numbers".into()));
    }
    // Sorted, so that two processes that store the same events never wait for each other in a circle; and each
    // source and key once, the first of a batch. The arrival numbers keep the order of the batch.
    let mut rows: Vec<NewRow<'_>> = batch.iter().enumerate().map(NewRow::of).collect();
    rows.sort_by_key(|row| (row.bucket, row.identity(), row.place));
    rows.dedup_by_key(|row| row.identity());

    let Inserted { created, erased } = insert_rows(session, &rows, seen)?;
    let latest = created.values().max().copied().unwrap_or(0);
    let (mut stored, mut known): (HashMap<Identity<'_>, &Event>, _) = (HashMap::new(), Vec::new());
    let mut gone: HashSet<Identity<'_>> = HashSet::new();
    for row in &rows {
        if created.contains_key(&row.place) {
            stored.insert(row.identity(), row.event);
        } else if erased.contains(&row.place) {
            gone.insert(row.identity());
        } else {
            known.push(row.identity());
        }
    }
    let there = if known.is_empty() { Vec::new() } else { rows::stored(session, &known)? };
    stored.extend(there.iter().map(|event| ((&event.source, &event.key), event)));
    let outcome = |(place, event): (usize, &Event)| {
        if let Some(seq) = created.get(&place) {
            return Ok(Outcome::Created { seq: *seq });
        }
        let identity = (&event.source, &event.key);
        if gone.contains(&identity) {
            return Ok(Outcome::Erased);
        }
        // It may have been deleted between the two statements.
        let stored = stored.get(&identity).ok_or(PgError::ArrivalNumberReused)?;
        Ok(if stored.says_the_same(event) { Outcome::Duplicate } else { Outcome::Conflict })
    };
    Ok((batch.iter().enumerate().map(outcome).collect::<Result<_, PgError>>()?, latest))
}

/// An event, its place in the batch that was given, and its bucket.
struct NewRow<'a> {
    place: usize,
    bucket: i16,
    event: &'a Event,
}

impl<'a> NewRow<'a> {
    fn of((place, event): (usize, &'a Event)) -> Self {
        Self { place, bucket: layout::bucket_of(event), event }
    }

    fn identity(&self) -> Identity<'a> {
        (&self.event.source, &self.event.key)
    }

    /// Whether the columns of [`INSERT_MESSAGES`] hold all of it. The type and the thread of the built-in source are not
    /// stored: [`Event::with_implied`] tells them.
    fn is_plain(&self) -> bool {
        let Event { source, kind, user_id, r#ref, account, data, .. } = self.event;
        source.is_built_in()
            && kind.number() == 0
            && user_id.is_none()
            && r#ref.is_none()
            && account.is_none()
            && data.is_none()
    }

    /// A field that the built-in source implies.
    fn unless_implied(&self, field: impl Fn(&'a Event) -> Option<&'a Name>) -> Option<&'a str> {
        name(field(self.event)).filter(|_| !self.event.source.is_built_in())
    }
}

fn name(name: Option<&Name>) -> Option<&str> {
    name.map(Name::as_str)
}

/// What the statement says of the events of a batch, by their places in it. The others were stored before.
#[derive(Debug, Default)]
struct Inserted {
    /// The arrival numbers of those that are stored now.
    created: HashMap<usize, i64>,
    /// Those that were erased.
    erased: HashSet<usize>,
}

/// Stores the events with a new source and key, unless they were erased.
fn insert_rows(session: &Session<'_>, rows: &[NewRow<'_>], seen: i64) -> Result<Inserted, PgError> {
    fn column<'a, T>(rows: &[NewRow<'a>], of: impl Fn(&'a Event) -> T) -> Vec<T> {
        rows.iter().map(|row| of(row.event)).collect()
    }
    let places: Vec<i32> = rows.iter().map(|row| layout::place_and_bucket(row.place, row.bucket)).collect();
    let keys = column(rows, |event| event.key.as_str());
    let senders = column(rows, |event| name(event.from.as_ref()));
    let recipients = column(rows, |event| name(event.to.as_ref()));
    let seconds = column(rows, |event| event.ts.map(Timestamp::second));
    let nanoseconds = column(rows, |event| event.ts.map(|ts| rows::integer(ts.nanosecond())));
    let digits = column(rows, |event| event.ts.map(|ts| i16::from(ts.digits())));
    let received = column(rows, |event| event.received_at.map(rows::milliseconds));
    let texts = column(rows, |event| event.text.as_deref());
    let mut parameters: Vec<Parameter<'_>> = vec![
        &seen,
        &places,
        &keys,
        &senders,
        &recipients,
        &seconds,
        &nanoseconds,
        &digits,
        &received,
        &texts,
    ];
    let sources = column(rows, |event| layout::stored_source(&event.source));
    let kinds = column(rows, |event| i16::from(event.kind.number()));
    let types: Vec<_> = rows.iter().map(|row| row.unless_implied(|event| event.r#type.as_ref())).collect();
    let user_ids = column(rows, |event| name(event.user_id.as_ref()));
    let threads: Vec<_> = rows.iter().map(|row| row.unless_implied(|event| event.thread.as_ref())).collect();
    let refs = column(rows, |event| name(event.r#ref.as_ref()));
    let accounts = column(rows, |event| name(event.account.as_ref()));
    let data = column(rows, |event| event.data.as_ref().map(Data::as_str));
    let is_plain = rows.iter().all(NewRow::is_plain);
    if !is_plain {
        let more: [Parameter<'_>; 8] =
            [&sources, &kinds, &types, &user_ids, &threads, &refs, &accounts, &data];
        parameters.extend(more);
    }
    let sql = if is_plain { INSERT_MESSAGES } else { INSERT_EVENTS };
    let created = session.query(sql, &parameters).map_err(|failed| match failed {
        PgError::Server(error) if is_arrival_number_reused(&error) => PgError::ArrivalNumberReused,
        failed => failed,
    })?;
    let mut inserted = Inserted::default();
    for row in &created {
        let number: i64 = row.try_get(0)?;
        // Of an event that was erased it is the complement of the number that was given with it.
        if number < 0 {
            inserted.erased.insert(layout::place_of(!number));
        } else {
            inserted.created.insert(layout::place_of(number), number);
        }
    }
    Ok(inserted)
}

/// Whether the server gave an arrival number that another event has.
fn is_arrival_number_reused(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::UNIQUE_VIOLATION && error.constraint() == Some(UNIQUE)
    })
}
