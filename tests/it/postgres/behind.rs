//! How far derived data is behind the messages, as each process tells it.

use lyftr::store::{Behind, Store as _};

use super::{message, open};
use crate::support::Messages as _;
use crate::support::postgres::Database;
use crate::support::settle;

/// The lock of the process that derives data, by the names in `store/postgres/locks.rs`.
const INDEXER: &str = "x'4c796675'::integer, 2";

#[test]
fn a_process_tells_from_its_start_on_whether_derived_data_is_behind() {
    let database = Database::new();
    let first = open(&database);
    let session = database.session();
    // Nothing is derived meanwhile.
    session.run(&format!("SELECT pg_advisory_lock({INDEXER})"));
    first.insert_messages(&[message("a"), message("b")]).unwrap();
    for _ in 0..5 {
        let Behind { index, search } = open(&database).backlog().behind;
        assert!(index > 0 && search > 0, "{index}, {search}");
    }
    session.run(&format!("SELECT pg_advisory_unlock({INDEXER})"));
    settle(&first);
    for _ in 0..5 {
        assert_eq!(open(&database).backlog().behind, Behind::default());
    }
}
