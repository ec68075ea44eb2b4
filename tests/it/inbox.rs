//! The inbox by itself: what was taken in is stored, also when nobody waits for it any more.

use std::sync::Arc;
use std::time::Duration;

use lyftr::inbox::Inbox;
use lyftr::metrics::Metrics;
use lyftr::query::{Filter, Page};
use lyftr::store::Store;
use lyftr::store::sqlite::{Sqlite, Tuning};

use crate::support::service::{Fault, Faulty};
use crate::support::{events, message, parsed};

mod race;

#[test]
fn an_inbox_that_is_dropped_stores_what_waits_first() {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&folder.path().join("app.db"), Tuning::default()).unwrap();
    let store = Arc::new(Faulty::new(Arc::new(sqlite)));
    store.inserts.all(Fault::Block);
    let inbox =
        Inbox::start(&(Arc::clone(&store) as Arc<dyn Store>), 1, 10, &Arc::new(Metrics::default())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for n in 0..3 {
            let delivery = events(&[parsed(&message(&format!("m{n}")))]);
            // Nobody waits for the answer, which cannot come yet.
            assert!(tokio::time::timeout(Duration::from_millis(1), inbox.accept(delivery)).await.is_err());
        }
    });
    store.inserts.wait_blocked(1);
    let healer = {
        let store = Arc::clone(&store);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            store.heal();
        })
    };
    drop(inbox);
    assert_eq!(store.list(&Filter::default(), &Page::default()).unwrap().total, 3);
    healer.join().unwrap();
}
