//! The advisory locks that processes share. Each has a key of two integers. All users of a database share its keys, so
//! the first integer is one that no other program is likely to use.

/// First key of the locks of batches; the second is the latest batch number at their start: see `horizon.rs`. The
/// functions and triggers in the database that take them have it too.
pub(super) const BATCHES: i32 = 0x4c79_6674;
/// First key of the locks below, whose own constants are the second keys.
pub(super) const LYFTR: i32 = 0x4c79_6675;
/// Held while the schema is brought up to date.
pub(super) const MIGRATION: i32 = 1;
/// Held while derived data is brought up to date.
pub(super) const INDEXER: i32 = 2;
/// Shared by those who change events past Lyftr, held alone while derived data is begun anew. The trigger
/// `event_was_touched` has it too.
pub(super) const CHANGE: i32 = 3;
/// Held while a cursor is made.
pub(super) const CURSORS: i32 = 4;
