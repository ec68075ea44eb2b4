//! The connections to the server: a pool of them, what is settled on each, and what their errors mean.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod};
use tokio::runtime::Runtime;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};

use super::address::Address;
use super::tls::{self, Protection};
use crate::store::{Cause, Error};

/// Settles what a change of the server's configuration must not change under us, and asks for what we rely on.
const SETTLE: &str = "\
    SELECT current_setting('fsync') = 'on', current_setting('synchronous_commit') <> 'off',
           current_setting('server_encoding') = 'UTF8',
           set_config('synchronous_commit', current_setting('synchronous_commit'), false),
           set_config('default_transaction_isolation', 'read committed', false),
           set_config('jit', 'off', false),
           set_config('plan_cache_mode', 'force_custom_plan', false),
           set_config('statement_timeout', $1, false)";
/// The server is given a little less time than we wait for it, so that it is the one that ends a statement.
const PATIENCE: Duration = Duration::from_millis(500);

/// A value that is given with a statement.
pub(super) type Given<'a> = &'a (dyn ToSql + Sync);

/// The pool, and what runs it.
#[derive(Debug)]
pub(super) struct Connections {
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
    pool: Pool,
    timeout: Duration,
}

/// A statement could not be carried out.
#[derive(Debug)]
pub(super) enum Failed {
    /// By the server, or there is none.
    Server(tokio_postgres::Error),
    /// In time.
    TimedOut,
    /// On this server, on which messages would not be safe.
    Unfit(&'static str),
    /// With what it answered.
    Nonsense(Cause),
    /// Because the server gave an arrival number that was given before: nothing is stored.
    NotStored,
    /// Any more.
    Closed,
}

impl From<tokio_postgres::Error> for Failed {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl Connections {
    /// At most `size` connections; none is made yet. A statement may take `timeout`.
    ///
    /// # Errors
    /// When the operating system gives no thread, or the file of the authorities to trust cannot be used.
    pub(super) fn new(address: &Address, size: usize, timeout: Duration) -> Result<Self, Cause> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("lyftr-postgres")
            .enable_all()
            .build()?;
        let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = match &address.protection {
            Protection::None => Manager::from_config(address.config.clone(), NoTls, how),
            protection => Manager::from_config(address.config.clone(), tls::connector(protection)?, how),
        };
        let settle = Hook::async_fn(move |client, _| {
            Box::pin(async move {
                let row = client.query_one(SETTLE, &[&timeout.as_millis().to_string()]).await;
                unfit(&row.map_err(HookError::Backend)?).map_or(Ok(()), |why| Err(HookError::message(why)))
            })
        });
        let pool = Pool::builder(manager).max_size(size).post_create(settle).build()?;
        Ok(Self { runtime: Some(runtime), pool, timeout })
    }

    /// Lends a connection for some work, which must end within the time of one statement. One that failed is not
    /// used again.
    pub(super) fn lend<T>(&self, work: impl FnOnce(&Session<'_>) -> Result<T, Failed>) -> Result<T, Failed> {
        self.lend_for(self.timeout + PATIENCE, work)
    }

    /// The same for so much time.
    pub(super) fn lend_for<T>(
        &self,
        time: Duration,
        work: impl FnOnce(&Session<'_>) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let Some(runtime) = &self.runtime else { return Err(Failed::Closed) };
        let deadline = Instant::now() + time;
        let client = in_time(runtime, deadline, self.pool.get())?.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => {
                Failed::Server(error)
            }
            PoolError::PostCreateHook(HookError::Message(Cow::Borrowed(why))) => Failed::Unfit(why),
            PoolError::PostCreateHook(HookError::Message(Cow::Owned(why))) => Failed::Nonsense(why.into()),
            PoolError::Timeout(_) => Failed::TimedOut,
            PoolError::Closed | PoolError::NoRuntimeSpecified => Failed::Closed,
        })?;
        let session = Session { runtime, client, deadline };
        match work(&session) {
            Ok(value) => Ok(value),
            Err(failed) => {
                drop(Object::take(session.client));
                Err(failed)
            }
        }
    }

    /// Ends the connections that are not in use.
    pub(super) fn close(&self) {
        self.pool.retain(|_, _| false);
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        // Also where one may not wait for its end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection that is lent, for so long.
pub(super) struct Session<'a> {
    runtime: &'a Runtime,
    client: Object,
    deadline: Instant,
}

impl Session<'_> {
    /// All rows that a statement gives.
    pub(super) fn query(&self, sql: &str, given: &[Given<'_>]) -> Result<Vec<Row>, Failed> {
        in_time(self.runtime, self.deadline, async {
            let statement = self.client.prepare_cached(sql).await?;
            Ok(self.client.query(&statement, given).await?)
        })?
    }

    /// The one row that a statement gives.
    pub(super) fn row(&self, sql: &str, given: &[Given<'_>]) -> Result<Row, Failed> {
        let rows = self.query(sql, given)?;
        rows.into_iter().next().ok_or_else(|| Failed::Nonsense("a row is missing".into()))
    }

    /// Hands over one row after the other, however many there are.
    pub(super) fn each(
        &self,
        sql: &str,
        given: &[Given<'_>],
        mut each: impl FnMut(&Row) -> Result<(), Failed>,
    ) -> Result<(), Failed> {
        use futures_util::TryStreamExt as _;
        in_time(self.runtime, self.deadline, async {
            let statement = self.client.prepare_cached(sql).await?;
            let rows = self.client.query_raw(&statement, given.iter().copied()).await?;
            let mut rows = std::pin::pin!(rows);
            while let Some(row) = rows.try_next().await? {
                each(&row)?;
            }
            Ok(())
        })?
    }

    /// Runs statements without values, of which nothing is wanted.
    pub(super) fn run(&self, sql: &str) -> Result<(), Failed> {
        in_time(self.runtime, self.deadline, async { Ok(self.client.batch_execute(sql).await?) })?
    }

    /// Questions that are all answered from one snapshot.
    pub(super) fn snapshot<T>(&self, questions: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let answer = questions()?;
        self.run("COMMIT")?;
        Ok(answer)
    }

    /// Changes that are made together or not at all.
    pub(super) fn transaction<T>(&self, changes: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
        self.run("BEGIN")?;
        let made = changes()?;
        self.run("COMMIT")?;
        Ok(made)
    }
}

fn in_time<T>(runtime: &Runtime, deadline: Instant, work: impl Future<Output = T>) -> Result<T, Failed> {
    runtime
        .block_on(async { tokio::time::timeout_at(deadline.into(), work).await })
        .map_err(|_| Failed::TimedOut)
}

const NO_FSYNC: &str = "the server runs with fsync=off and would lose messages; set it to on";
const NO_SYNC_AT_COMMIT: &str =
    "synchronous_commit is off for this user or database and messages would be lost; set it to on";
const NO_UTF8: &str = "the database has another encoding than UTF8; make one with ENCODING 'UTF8'";

/// Why messages would not be safe on a server with these settings.
fn unfit(settings: &Row) -> Option<&'static str> {
    let is = |column: usize| settings.get::<_, bool>(column);
    [NO_FSYNC, NO_SYNC_AT_COMMIT, NO_UTF8]
        .into_iter()
        .enumerate()
        .find_map(|(n, why)| (!is(n)).then_some(why))
}

impl Failed {
    /// The server chose this transaction to end a deadlock or a conflict, or gave it a bad number: the same again may
    /// well succeed.
    pub(super) fn is_passing(&self) -> bool {
        let Self::Server(error) = self else { return matches!(self, Self::NotStored) };
        error.code().is_some_and(|code| {
            *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::T_R_SERIALIZATION_FAILURE
        })
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        let unavailable = |reason, source| Self::Unavailable { reason, source };
        match failed {
            Failed::Server(error) => explain(error),
            Failed::TimedOut => unavailable("the database did not answer in time", None),
            Failed::Unfit(reason) => unavailable(reason, None),
            Failed::Nonsense(cause) => Self::Failed(cause),
            Failed::NotStored => {
                unavailable("the database gives numbers to messages that it gave before", None)
            }
            Failed::Closed => unavailable("the service is stopping", None),
        }
    }
}

/// What an error of the server's means to who asked us
/// ([PostgreSQL, appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
fn explain(error: tokio_postgres::Error) -> Error {
    let Some(code) = error.code() else {
        return Error::Unavailable { reason: "the database cannot be reached", source: Some(error.into()) };
    };
    let reason = match code.code() {
        "53100" => "the disk of the database is full",
        "53200" => "the database has not enough memory",
        "53300" => "the database has no connection left",
        "57014" => "the question took too long to answer",
        "25006" => "the database cannot be written",
        "42501" => "the user of the database lacks a right",
        "3D000" => "there is no such database",
        "58030" => "the disk of the database failed to read or write",
        "55P03" => "the database is locked by another process",
        "40001" | "40P01" => "other writers were in the way",
        "XX001" | "XX002" => "the database is damaged",
        "3F000" => "the search_path of the user leads to no schema of the database",
        "42P01" | "42703" | "42883" | "42P10" => "the schema of the database is not what it should be",
        code => match code.get(..2) {
            Some("08") => "the database cannot be reached",
            Some("28") => "the database refuses the user or the password",
            Some("57") => "the database is starting or stopping",
            _ => return Error::Failed(error.into()),
        },
    };
    Error::Unavailable { reason, source: Some(error.into()) }
}
