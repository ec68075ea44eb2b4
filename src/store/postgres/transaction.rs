//! One connection, and what every transaction on it begins with.
//!
//! What a promise rests on is settled in the transaction itself and for as long as it lasts, never for the session:
//! behind a pooler that lends out sessions by transaction (`pool_mode = transaction` of PgBouncer) the next one may be
//! in another session, and a setting that was left behind would meet somebody else. For the same reason no statement is
//! prepared and no lock outlives its transaction.

use std::time::Duration;

use futures_util::future::{join, join3};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Row, RowStream};

use super::connection::PgError;
use super::parameter::{Parameter, typed};

/// Changes see what others have committed by then, whatever a user or a database is set to.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
pub(super) const COMMIT: &str = "COMMIT";

/// What a session begins with, whoever had it before us: what was set in it since does not count, unless the URL's own
/// options set it. And whether those have come through, for which a pooler is asked rather than a server.
const FIND: &str = "\
    SELECT max(CASE WHEN $1 THEN setting ELSE reset_val END) FILTER (WHERE name = 'synchronous_commit'),
           max(CASE WHEN $1 THEN setting ELSE reset_val END) FILTER (WHERE name = 'search_path'),
           coalesce(bool_and(source IN ('client', 'session')) FILTER (WHERE name = ANY ($2)), true)
    FROM pg_settings";
/// Settles what must not change under us, and asks for what we rely on. The server is to end what takes too long, also
/// when nobody waits for it any more, and what this process leaves open.
const SETTLE: &str = "\
    SELECT current_setting('fsync') = 'on', current_setting('server_encoding') = 'UTF8',
           set_config('synchronous_commit', $1, true), set_config('search_path', $2, true),
           set_config('statement_timeout', $3, true), set_config('idle_in_transaction_session_timeout', $3, true),
           set_config('lock_timeout', '0', true), set_config('jit', 'off', true),
           set_config('plan_cache_mode', 'force_custom_plan', true)";

const NO_FSYNC: &str = "the server runs with fsync=off and would lose messages; set it to on";
const NO_SYNC_AT_COMMIT: &str =
    "synchronous_commit is off for this user or database and messages would be lost; set it to on";
const NO_UTF8: &str = "the database has another encoding than UTF8; make one with ENCODING 'UTF8'";
const NO_OPTIONS: &str = "the options in the URL do not reach the server, a pooler between the two keeps them back; set \
    them for the user instead (ALTER ROLE … SET …), or let the pooler pass them on";
const NO_TRANSACTIONS: &str = "a pooler between this and the server lends out its connections by statement; set \
    pool_mode to transaction or session";

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    /// Drives it, and ends with it: whatever the server still does for it, nobody waits for.
    task: JoinHandle<()>,
    settings: Settings,
}

/// What each transaction is given.
#[derive(Debug, Default)]
struct Settings {
    synchronous_commit: String,
    search_path: String,
    /// In milliseconds.
    timeout: String,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// A connection that has just been made, once it is known how its transactions shall begin: `options` are those of
    /// the URL, and a statement may take `timeout`.
    ///
    /// # Errors
    /// Also if messages would not be safe there.
    pub(super) async fn new(
        client: Client,
        task: JoinHandle<()>,
        options: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, PgError> {
        let mut connection = Self { client, task, settings: Settings::default() };
        let names = names_of(options.unwrap_or_default());
        let given: [Parameter<'_>; 2] = [&options.is_some(), &names];
        let (begun, found, ended) =
            join3(connection.run(BEGIN), connection.query(FIND, &given), connection.run(COMMIT)).await;
        begun.map_err(by_statement)?;
        let found = found?;
        ended?;
        let found =
            found.first().ok_or_else(|| PgError::UnexpectedResponse("a server without settings".into()))?;
        if !found.try_get::<_, bool>(2)? {
            return Err(PgError::Unfit(NO_OPTIONS));
        }
        connection.settings = Settings {
            synchronous_commit: found.try_get(0)?,
            search_path: found.try_get(1)?,
            timeout: timeout.as_millis().to_string(),
        };
        if connection.settings.synchronous_commit == "off" {
            return Err(PgError::Unfit(NO_SYNC_AT_COMMIT));
        }
        connection.once(async { Ok(()) }).await?;
        Ok(connection)
    }

    /// Whether it is of no use any more.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Begins a transaction by this statement, in one round trip.
    pub(super) async fn begin(&self, statement: &str) -> Result<(), PgError> {
        let Settings { synchronous_commit, search_path, timeout } = &self.settings;
        let given: [Parameter<'_>; 3] = [synchronous_commit, search_path, timeout];
        let (begun, settled) = join(self.run(statement), self.query(SETTLE, &given)).await;
        begun?;
        let settled = settled?;
        let row =
            settled.first().ok_or_else(|| PgError::UnexpectedResponse("a server without settings".into()))?;
        for (column, why) in [NO_FSYNC, NO_UTF8].into_iter().enumerate() {
            if !row.try_get::<_, bool>(column)? {
                return Err(PgError::Unfit(why));
            }
        }
        Ok(())
    }

    /// Work that is a transaction of its own. It must be one statement, which is on its way as soon as it is polled:
    /// the begin, the statement and the commit then cost one round trip together.
    pub(super) async fn once<T>(&self, work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
        // They are polled, and so sent, in this order. What fails makes the rest fail, the commit too.
        let (begun, done, ended) = join3(self.begin(BEGIN), work, self.run(COMMIT)).await;
        begun?;
        let done = done?;
        ended?;
        Ok(done)
    }

    /// Runs statements without values.
    pub(super) async fn run(&self, sql: &str) -> Result<(), PgError> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// All rows that a statement gives.
    pub(super) async fn query(&self, sql: &str, given: &[Parameter<'_>]) -> Result<Vec<Row>, PgError> {
        Ok(self.client.query_typed(sql, &typed(given)).await?)
    }

    /// The rows as they come.
    pub(super) async fn rows(&self, sql: &str, given: &[Parameter<'_>]) -> Result<RowStream, PgError> {
        Ok(self.client.query_typed_raw(sql, typed(given)).await?)
    }
}

/// A pooler that lends out by statement takes no transaction, and says so.
fn by_statement(failed: PgError) -> PgError {
    match &failed {
        PgError::Server(error)
            if error.as_db_error().is_some_and(|error| error.message().contains("statement pooling")) =>
        {
            PgError::Unfit(NO_TRANSACTIONS)
        }
        _ => failed,
    }
}

/// The names of the settings in the options of a URL: `-c name=value`, `-cname=value` or `--name=value`.
fn names_of(options: &str) -> Vec<String> {
    let words = options.split_whitespace().filter(|word| *word != "-c");
    words
        .filter_map(|word| {
            let word = word.strip_prefix("--").or(word.strip_prefix("-c")).unwrap_or(word);
            word.split_once('=').map(|(name, _)| name.replace('-', "_").to_ascii_lowercase())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_known_by_the_names_of_the_settings() {
        let names =
            names_of("-c search_path=inbox -cwork_mem=8MB --statement-timeout=5s -c  Search_Path=a,\\ b");
        assert_eq!(names, ["search_path", "work_mem", "statement_timeout", "search_path"]);
        assert!(names_of("").is_empty());
    }
}
