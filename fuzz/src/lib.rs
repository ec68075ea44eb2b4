//! What must hold for any input whatever, one function for each place where bytes from outside are read.
//!
//! A function panics if it does not hold. The fuzz targets call it with what libFuzzer thinks of, and
//! `tests/it/corpus.rs`, of which this is a module, with what was kept. What is expected is reckoned here a
//! second time from the contract ([`rules`], [`json`]), with nothing of `src/`.

mod event;
mod json;
mod message;
mod position;
mod query;
mod rules;
mod signature;
mod sources;
mod whatsapp;

pub use event::event;
pub use message::message;
pub use position::position;
pub use query::query;
pub use signature::signature;
pub use sources::{delivery, sources};
pub use whatsapp::whatsapp;
