//! The containers, on a real Docker engine. Not among what `cargo test` runs by itself, since it needs that engine.
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

#[path = "../it/support/mod.rs"]
mod support;

mod watch;
