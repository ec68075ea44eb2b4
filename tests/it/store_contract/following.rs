//! Reading on from an arrival number.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use lyftr::event::Source;
use lyftr::message::Name;
use lyftr::store::{Outcome, Store};

use super::{Place, message, plain};
use crate::support::{Fate, Messages as _, fates};

/// Reads on from where it is; every message once, in order.
#[derive(Default)]
struct Follower {
    upto: i64,
    seen: BTreeSet<String>,
}

impl Follower {
    fn follow(&mut self, store: &dyn Store) -> usize {
        let arrived = store.arrived_messages(self.upto, 7).unwrap();
        for (seq, message) in &arrived {
            assert!(*seq > self.upto, "in the order of arrival");
            self.upto = *seq;
            assert!(self.seen.insert(message.message_id.as_str().to_owned()), "seen twice: {message:?}");
        }
        arrived.len()
    }
}

pub(super) fn a_reader_in_the_order_of_arrival_misses_no_message(place: &Place) {
    const WRITERS: usize = 6;
    const BATCHES: usize = 40;
    let first = place.open();
    assert_eq!(first.arrived_messages(0, 10).unwrap(), []);
    let stores = [place.replica(&first), place.replica(&first), first];
    let done = AtomicBool::new(false);
    let mut follower = Follower::default();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = &stores[writer % stores.len()];
                scope.spawn(move || {
                    for batch in 0..BATCHES {
                        let ids = (0..=batch % 7).map(|n| plain(&format!("{writer} {batch} {n}")));
                        let outcomes = fates(&store.insert_messages(&ids.collect::<Vec<_>>()).unwrap());
                        assert!(outcomes.iter().all(|fate| *fate == Fate::Created));
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            follower.follow(stores[0].as_ref());
        }
    });
    while follower.follow(stores[0].as_ref()) > 0 {}
    let total = stores[0].stats().unwrap().total_messages;
    assert_eq!(u64::try_from(follower.seen.len()).unwrap(), total);
}

pub(super) fn messages_are_found_by_their_ids(place: &Place) {
    let store = place.open();
    let sent = [plain("a"), message("é'", "+2", "2025-01-15T12:00:00.50Z", None), plain("A")];
    store.insert_messages(&sent).unwrap();
    let id = |id: &str| (Source::WEBHOOK, Name::new(id).unwrap());
    let found = store.find(&[id("A"), id("none"), id("é'"), id("e")]).unwrap();
    let mut found: Vec<_> = found.iter().map(|event| event.message().unwrap()).collect();
    found.sort_by(|one, other| one.message_id.cmp(&other.message_id));
    assert_eq!(found, [sent[2].clone(), sent[1].clone()]);
    assert_eq!(store.find(&[]).unwrap(), []);
    let arrived: Vec<_> =
        store.arrived_messages(0, 10).unwrap().into_iter().map(|(_, message)| message).collect();
    assert_eq!(arrived.len(), 3);
    assert!(sent.iter().all(|message| arrived.contains(message)));
}

pub(super) fn a_created_message_carries_its_arrival_number(place: &Place) {
    let store = place.open();
    store.insert_messages(&[plain("a")]).unwrap();
    // Not in the order of their ids, and with ids that are stored already or come twice.
    let batch = [plain("z"), plain("a"), plain("m"), plain("z"), plain("b")];
    let outcomes = store.insert_messages(&batch).unwrap();
    let numbered = batch.iter().zip(&outcomes).filter_map(|(message, outcome)| match outcome {
        Outcome::Created { seq } => Some((*seq, message.clone())),
        Outcome::Duplicate | Outcome::Conflict | Outcome::Erased => None,
    });
    let mut numbered: Vec<_> = numbered.collect();
    numbered.sort_by_key(|(seq, _)| *seq);
    assert_eq!(numbered, store.arrived_messages(0, 10).unwrap().split_off(1));
    assert_eq!(numbered.len(), 3, "{outcomes:?}");
}
