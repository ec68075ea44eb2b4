//! The containers, on a real Docker engine: `make test-containers`. Not among what `cargo test` runs by itself, since it
//! needs that engine, and builds an image.
//!
//! Every container, volume and network has a name that begins with `lyftr-test-` and the number of this process, and is
//! removed by that name, also when a test fails.
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

mod alone;
mod engine;
mod evaluation;
mod hardening;
mod prometheus;
mod replicas;
mod watch;
