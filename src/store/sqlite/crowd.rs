//! Moments that very many messages share. The indexes sort by moment, and messages of one moment are sorted by their
//! ids when they are read; of the moment that was looked at last, what came out is kept.

use std::sync::{Arc, Mutex};

use rusqlite::Connection;

use super::failed::Failed;
use super::kept::Edition;
use super::lock;
use super::order::Order;
use super::phone_number::PhoneNumber as Number;
use super::rows::order_key;
use crate::message::Moment;
use crate::store::matches::Entry;

/// With more messages than this at one moment, they are a crowd.
pub(super) const CROWD: i64 = 256;

/// The messages of one moment, and of a pair of numbers, in the order of lists.
#[derive(Debug, Clone)]
struct Crowd {
    of: Of,
    /// Their arrival numbers.
    sorted: Arc<Vec<i64>>,
    /// The greatest of these.
    upto: i64,
}

/// Which messages a crowd is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Of {
    pub(super) edition: Edition,
    pub(super) pair: (Number, Number),
    pub(super) moment: Moment,
}

/// The crowd that was asked for last.
#[derive(Debug, Default)]
pub(super) struct Crowds(Mutex<Option<Crowd>>);

impl Crowds {
    /// The arrival numbers of a crowd in the snapshot that `messages` reads, of which `latest` is the latest message,
    /// in the order of lists.
    pub(super) fn sorted(
        &self,
        of: Of,
        messages: &Connection,
        order: &dyn Order,
        latest: i64,
    ) -> Result<Arc<Vec<i64>>, Failed> {
        let known = lock(&self.0).clone().filter(|crowd| crowd.of == of);
        let (mut sorted, upto) = known.map_or((Arc::default(), 0), |crowd| (crowd.sorted, crowd.upto));
        if upto > latest {
            // Another reader has seen messages that are not in this snapshot.
            return Ok(Arc::new(sorted.iter().copied().filter(|seq| *seq <= latest).collect()));
        }
        let mut arrived = Vec::new();
        order.at(of.moment, upto, i64::MAX, &mut |Entry { seq, .. }| {
            arrived.push((order_key(messages, seq)?, seq));
            Ok(())
        })?;
        if let Some(upto) = arrived.iter().map(|(_, seq)| *seq).max() {
            arrived.sort_unstable();
            sorted = Arc::new(merge(messages, &sorted, arrived)?);
            *lock(&self.0) = Some(Crowd { of, sorted: Arc::clone(&sorted), upto });
        }
        Ok(sorted)
    }
}

/// How many of a crowd come before the message whose [`order_key`] is `wanted`, or are it if `including`.
pub(super) fn before(
    messages: &Connection,
    sorted: &[i64],
    wanted: &str,
    including: bool,
) -> rusqlite::Result<usize> {
    let (mut low, mut high) = (0, sorted.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        let Some(seq) = sorted.get(middle) else { break };
        let key = order_key(messages, *seq)?;
        if *key < *wanted || including && *key == *wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// Puts what has arrived, sorted by [`order_key`], into its places.
fn merge(messages: &Connection, sorted: &[i64], arrived: Vec<(Box<str>, i64)>) -> rusqlite::Result<Vec<i64>> {
    let mut merged = Vec::with_capacity(sorted.len() + arrived.len());
    let mut rest = sorted;
    for (key, seq) in arrived {
        let (earlier, later) = rest.split_at(before(messages, rest, &key, false)?);
        merged.extend_from_slice(earlier);
        merged.push(seq);
        rest = later;
    }
    merged.extend_from_slice(rest);
    Ok(merged)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::store::sqlite::order::Each;
    use crate::store::sqlite::phone_number::ANY;

    const MOMENT: Moment = Moment { second: 7, nanosecond: 0 };

    /// The first so many messages of a crowd that arrives in the order of `ids`.
    struct Arrived(i64);

    impl Order for Arrived {
        fn rank(&self, _moment: Moment) -> Result<u64, Failed> {
            unreachable!("a crowd needs no ranks")
        }

        fn moment_at(&self, _rank: u64) -> Result<Moment, Failed> {
            unreachable!("a crowd needs no ranks")
        }

        fn entries(&self, _range: Range<Moment>, _limit: i64, _each: Each<'_>) -> Result<(), Failed> {
            unreachable!("a crowd is of one moment")
        }

        fn at(&self, moment: Moment, seq: i64, _limit: i64, each: Each<'_>) -> Result<(), Failed> {
            (seq + 1..=self.0).try_for_each(|seq| each(Entry { moment, seq })).map_err(Failed::Database)
        }
    }

    fn messages(ids: &[&str]) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE message (seq INTEGER PRIMARY KEY, message_id TEXT, source TEXT)")
            .unwrap();
        for id in ids {
            conn.execute("INSERT INTO message (message_id, source) VALUES (?1, 'webhook')", [id]).unwrap();
        }
        conn
    }

    #[test]
    fn each_snapshot_has_its_own_messages_of_a_crowd() {
        let messages = messages(&["d", "b", "e", "a", "c"]);
        let of = Of { edition: Edition::default(), pair: (ANY, ANY), moment: MOMENT };
        let crowds = Crowds::default();
        let sorted = |latest| {
            let Ok(sorted) = crowds.sorted(of, &messages, &Arrived(latest), latest) else {
                panic!("it fails")
            };
            sorted.to_vec()
        };
        assert_eq!(sorted(3), [2, 1, 3]);
        assert_eq!(sorted(5), [4, 2, 5, 1, 3], "what has arrived is put into its places");
        assert_eq!(sorted(3), [2, 1, 3], "a snapshot that is older than what is kept");
        assert_eq!(sorted(5), [4, 2, 5, 1, 3]);
    }

    #[test]
    fn a_place_in_a_crowd_is_before_a_message_or_behind_it() {
        let messages = messages(&["a", "c", "e"]);
        let place = |wanted: &str, including| {
            before(&messages, &[1, 2, 3], &format!("{wanted}\u{1f}webhook"), including).unwrap()
        };
        for (wanted, at, past) in
            [("A", 0, 0), ("a", 0, 1), ("b", 1, 1), ("c", 1, 2), ("e", 2, 3), ("f", 3, 3)]
        {
            assert_eq!((place(wanted, false), place(wanted, true)), (at, past), "{wanted}");
        }
    }
}
