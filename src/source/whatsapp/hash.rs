//! Hashes that stand in keys for the ids of items that have none.

use std::cell::OnceCell;

use sha2::{Digest, Sha256};

use super::json::Json;
use crate::message::Timestamp;

/// Number of hexadecimal digits of a hash in a key.
const DIGITS: usize = 32;

/// What is hashed before the bytes of an item: the id and the time of its entry, and its field.
#[derive(Debug)]
pub(super) struct Before<'a> {
    entry_id: &'a str,
    entry_time: Option<&'a str>,
    field: &'a str,
    received_at: Timestamp,
    /// The state after a prefix, by [`Prefix::number`]: a long one is hashed once, not once for each item.
    states: [OnceCell<Sha256>; 4],
}

/// Which prefix an item has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefix {
    /// The day of receipt stands for a time, where the entry has none.
    pub(super) holds_day: bool,
    /// The item is of an array `errors`.
    pub(super) of_errors: bool,
}

impl<'a> Before<'a> {
    pub(super) fn new(
        entry_id: &'a str,
        entry_time: Option<&'a str>,
        field: &'a str,
        received_at: Timestamp,
    ) -> Self {
        Self { entry_id, entry_time, field, received_at, states: Default::default() }
    }

    /// The hash of an item.
    pub(super) fn hash(&self, prefix: Prefix, item: Json<'_>) -> String {
        let state = self.states.get(prefix.number()).map(|state| state.get_or_init(|| self.state(prefix)));
        digits(state.cloned().unwrap_or_default().chain_update(item.raw()))
    }

    fn state(&self, prefix: Prefix) -> Sha256 {
        let received_at = self.received_at.to_string();
        let day = received_at.split('T').next().unwrap_or_default();
        let time = self.entry_time.unwrap_or(if prefix.holds_day { day } else { "-" });
        let state = Sha256::new().chain_update(self.entry_id).chain_update("\n").chain_update(time);
        let state = state.chain_update("\n").chain_update(self.field);
        let state = if prefix.of_errors { state.chain_update(".errors") } else { state };
        state.chain_update("\n")
    }
}

impl Prefix {
    fn number(self) -> usize {
        usize::from(self.holds_day) + 2 * usize::from(self.of_errors)
    }
}

/// The hash of a whole body.
pub(super) fn of_body(body: &[u8]) -> String {
    digits(Sha256::new_with_prefix(body))
}

fn digits(state: Sha256) -> String {
    let mut hex = base16ct::lower::encode_string(&state.finalize());
    hex.truncate(DIGITS);
    hex
}
