//! Everything that is tested from outside, in one binary: a file for each face of the product.
#![allow(missing_docs, reason = "tests speak for themselves")]
#![allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::float_cmp,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests may fail loudly, also in their helpers, which clippy.toml's allow-…-in-tests does not reach"
)]

mod backup;
mod check;
mod cli;
mod compose;
mod contract;
mod copy;
mod corpus;
mod cursors;
mod damage;
mod documents;
mod erasure;
mod events;
mod exports;
mod inbox;
mod limits;
mod listen;
mod observability;
mod page;
mod postgres;
mod proxies;
mod shutdown;
mod sources;
mod store_contract;
mod store_events;
mod store_index;
mod store_model;
mod store_scale;
mod store_sqlite;
mod support;
mod tail;
mod torture;
