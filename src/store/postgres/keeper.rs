//! Which of the processes erases what is too old to be kept: the one whose name the table `keeper` has, for as long as the
//! process says so again in time. Two at once would do no harm, but the work twice.

use std::sync::OnceLock;

use super::connection::{PgError, Session};

const NAME: &str = "SELECT gen_random_uuid()::text";
/// By the server's clock. A process that has not asked for twenty minutes loses its place to one that asks.
const TAKE_PLACE: &str = "\
    INSERT INTO keeper AS kept (process, until) VALUES ($1, clock_timestamp() + interval '20 minutes')
    ON CONFLICT (one_row) DO UPDATE SET process = excluded.process, until = excluded.until
    WHERE kept.process = excluded.process OR kept.until < clock_timestamp()
    RETURNING true";

/// A process that may become the keeper.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// Its name, which it gets when it first asks.
    name: OnceLock<String>,
}

impl Keeper {
    /// Whether this process is the keeper now; it becomes it if there is none.
    pub(super) fn take_place(&self, session: &Session<'_>) -> Result<bool, PgError> {
        let name = if let Some(name) = self.name.get() {
            name
        } else {
            let name = session.row(NAME, &[])?.try_get(0)?;
            self.name.get_or_init(|| name)
        };
        Ok(!session.query(TAKE_PLACE, &[name])?.is_empty())
    }
}
