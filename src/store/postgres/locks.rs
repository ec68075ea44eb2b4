//! The advisory locks that processes share, each named by two numbers. Those of a database are seen by all of its
//! users, so the first number is one that nobody else is likely to use.

/// First number of the locks of batches, whose second one tells when they began: see `horizon.rs`.
pub(super) const BATCHES: i32 = 0x4c79_6674;
/// First number of the locks below.
pub(super) const LYFTR: i32 = 0x4c79_6675;
/// Held while the schema is brought up to date.
pub(super) const MIGRATION: i32 = 1;
/// Held while figures and indexes are brought up to date.
pub(super) const INDEXER: i32 = 2;
