//! One connection, and the settings that every transaction on it begins with.
//!
//! The settings that a promise rests on are set for the transaction, never for the session: behind a pooler that assigns
//! sessions by transaction (`pool_mode = transaction` of PgBouncer) the next transaction may be in another session, and a
//! setting left behind would affect another client. For the same reason no statement is prepared and no lock outlives its
//! transaction.

use std::time::Duration;

use futures_util::future::{join, join3};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Row, RowStream};

use super::connection::PgError;
use super::parameter::{Parameter, typed};

/// Each statement sees all earlier commits, whichever isolation level is the default of the user or the database.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
pub(super) const COMMIT: &str = "COMMIT";

/// The initial settings of a session (those that an earlier client of the session has set do not count, unless the
/// options of the URL set them), and whether the options of the URL have reached the server through a pooler.
const FIND: &str = "\
    SELECT max(CASE WHEN $1 THEN setting ELSE reset_val END) FILTER (WHERE name = 'synchronous_commit'),
           max(CASE WHEN $1 THEN setting ELSE reset_val END) FILTER (WHERE name = 'search_path'),
           coalesce(bool_and(source IN ('client', 'session')) FILTER (WHERE name = ANY ($2)), true)
    FROM pg_settings";
/// Fixes the settings of a transaction, and reads those that Lyftr relies on. By the timeouts the server ends a statement
/// that takes too long, also if this process no longer waits for it, and a transaction that this process leaves open.
const SET: &str = "\
    SELECT current_setting('fsync') = 'on', current_setting('server_encoding') = 'UTF8',
           set_config('synchronous_commit', $1, true), set_config('search_path', $2, true),
           set_config('statement_timeout', $3, true), set_config('idle_in_transaction_session_timeout', $3, true),
           set_config('lock_timeout', '0', true), set_config('jit', 'off', true),
           set_config('plan_cache_mode', 'force_custom_plan', true)";

const NO_FSYNC: &str = "the server runs with fsync=off and would lose messages; set it to on";
const NO_SYNC_AT_COMMIT: &str =
    "synchronous_commit is off for this user or database and messages would be lost; set it to on";
const NO_UTF8: &str = "the encoding of the database is not UTF8; create one with ENCODING 'UTF8'";
const NO_OPTIONS: &str = "the options in the URL do not reach the server, since a pooler in between drops them; set \
    them for the user instead (ALTER ROLE … SET …), or let the pooler pass them on";
const NO_TRANSACTIONS: &str = "a pooler between this and the server uses statement pooling; set \
    pool_mode to transaction or session";

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    /// The task that drives the connection, aborted when the connection is dropped, even if the server still works.
    task: JoinHandle<()>,
    settings: Settings,
}

/// The settings of each transaction.
#[derive(Debug, Default)]
struct Settings {
    synchronous_commit: String,
    search_path: String,
    /// For `statement_timeout` and `idle_in_transaction_session_timeout`, in milliseconds.
    timeout: String,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Takes over a new connection, and reads the settings for its transactions: `options` are those of the URL, and a
    /// statement may take `timeout`.
    ///
    /// # Errors
    /// A statement failed, or messages would not be safe on this server.
    pub(super) async fn new(
        client: Client,
        task: JoinHandle<()>,
        options: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, PgError> {
        let mut connection = Self { client, task, settings: Settings::default() };
        let names = names_of(options.unwrap_or_default());
        let parameters: [Parameter<'_>; 2] = [&options.is_some(), &names];
        let (begun, found, ended) =
            join3(connection.run(BEGIN), connection.query(FIND, &parameters), connection.run(COMMIT)).await;
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

    /// Whether the connection is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Begins a transaction with `statement` and fixes its settings, in one round trip.
    pub(super) async fn begin(&self, statement: &str) -> Result<(), PgError> {
        let Settings { synchronous_commit, search_path, timeout } = &self.settings;
        let parameters: [Parameter<'_>; 3] = [synchronous_commit, search_path, timeout];
        let (begun, settings) = join(self.run(statement), self.query(SET, &parameters)).await;
        begun?;
        let settings = settings?;
        let row = settings
            .first()
            .ok_or_else(|| PgError::UnexpectedResponse("a server without settings".into()))?;
        for (column, why) in [NO_FSYNC, NO_UTF8].into_iter().enumerate() {
            if !row.try_get::<_, bool>(column)? {
                return Err(PgError::Unfit(why));
            }
        }
        Ok(())
    }

    /// Runs `work` as a transaction of its own. What it sends, it must send as soon as it is polled: the begin, its statements
    /// and the commit then cost one round trip together.
    pub(super) async fn once<T>(&self, work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
        // They are polled, and so sent, in this order. If one fails, the later ones fail, and so the commit.
        let (begun, done, ended) = join3(self.begin(BEGIN), work, self.run(COMMIT)).await;
        begun?;
        let done = done?;
        ended?;
        Ok(done)
    }

    /// Runs statements that have no parameters.
    pub(super) async fn run(&self, sql: &str) -> Result<(), PgError> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// All rows of a statement's result.
    pub(super) async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, PgError> {
        Ok(self.client.query_typed(sql, &typed(parameters)).await?)
    }

    /// The rows of a statement's result as they arrive.
    pub(super) async fn rows(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<RowStream, PgError> {
        Ok(self.client.query_typed_raw(sql, typed(parameters)).await?)
    }
}

/// Recognizes the error of a pooler that assigns sessions by statement, and so refuses transactions.
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
