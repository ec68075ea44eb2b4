//! The connections to the server: a pool of them, the statements on each, and what their errors mean.

use std::cell::Cell;
use std::time::{Duration, Instant};

use deadpool::managed::{Object, Pool, PoolError};
use tokio::runtime::Runtime;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::address::Address;
use super::dial::Dialer;
use super::settled::{BEGIN, COMMIT};
use super::tls;
use super::value::Given;
use crate::store::{Cause, Error};

/// The server is given a little less time than we wait for it, so that it is the one that ends a statement.
const PATIENCE: Duration = Duration::from_millis(500);

/// The pool, and what runs it.
#[derive(Debug)]
pub(super) struct Connections {
    /// Taken when this is dropped.
    runtime: Option<Runtime>,
    pool: Pool<Dialer>,
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
    /// Since the name of its host leads nowhere.
    NoName(Cause),
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
        let pool = Pool::builder(Dialer::new(address, timeout)?).max_size(size).build()?;
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
        let connection = in_time(runtime, deadline, self.pool.get())?.map_err(|error| match error {
            PoolError::Backend(failed) => failed,
            PoolError::Timeout(_) => Failed::TimedOut,
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Failed::Closed
            }
        })?;
        let session = Session { runtime, connection, deadline, in_transaction: Cell::new(false) };
        match work(&session) {
            Ok(value) => Ok(value),
            Err(failed) => {
                drop(Object::take(session.connection));
                if matches!(failed, Failed::TimedOut) && time > self.timeout {
                    // Not even that the statement takes too long was said: the other connections lead to the same
                    // silence, and each would have to be found out by a batch of its own.
                    self.close();
                }
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
    connection: Object<Dialer>,
    deadline: Instant,
    /// Whether a transaction is open. Where none is, each statement is one of its own.
    in_transaction: Cell<bool>,
}

impl Session<'_> {
    /// All rows that a statement gives.
    pub(super) fn query(&self, sql: &str, given: &[Given<'_>]) -> Result<Vec<Row>, Failed> {
        self.carry_out(self.connection.query(sql, given))
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
        self.carry_out(async {
            let mut rows = std::pin::pin!(self.connection.rows(sql, given).await?);
            while let Some(row) = rows.try_next().await? {
                each(&row)?;
            }
            Ok(())
        })
    }

    /// Runs statements without values, of which nothing is wanted.
    pub(super) fn run(&self, sql: &str) -> Result<(), Failed> {
        self.carry_out(self.connection.run(sql))
    }

    /// Questions that are all answered from one snapshot.
    pub(super) fn snapshot<T>(&self, questions: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
        self.within("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", questions)
    }

    /// Changes that are made together or not at all.
    pub(super) fn transaction<T>(&self, changes: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
        self.within(BEGIN, changes)
    }

    /// A transaction. After an error it is open still, and ends with the connection, which is not used again.
    fn within<T>(&self, begin: &str, work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
        in_time(self.runtime, self.deadline, self.connection.begin(begin))??;
        self.in_transaction.set(true);
        let done = work()?;
        self.run(COMMIT)?;
        self.in_transaction.set(false);
        Ok(done)
    }

    fn carry_out<T>(&self, work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
        in_time(self.runtime, self.deadline, async {
            if self.in_transaction.get() { work.await } else { self.connection.once(work).await }
        })?
    }
}

fn in_time<T>(runtime: &Runtime, deadline: Instant, work: impl Future<Output = T>) -> Result<T, Failed> {
    runtime
        .block_on(async { tokio::time::timeout_at(deadline.into(), work).await })
        .map_err(|_| Failed::TimedOut)
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
            Failed::NoName(cause) => unavailable("the database cannot be reached", Some(cause)),
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
        let reason = tls::failure(&error).unwrap_or("the database cannot be reached");
        return Error::Unavailable { reason, source: Some(error.into()) };
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
