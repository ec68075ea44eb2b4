//! The connection pool, the statements on a connection, and the meaning of the server's errors.

use std::cell::Cell;
use std::time::{Duration, Instant};

use deadpool::managed::{Object, Pool, PoolError};
use futures_util::future::join;
use tokio::runtime::Runtime;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;

use super::address::Address;
use super::dial::Dialer;
use super::parameter::Parameter;
use super::tls;
use super::transaction::{BEGIN, COMMIT};
use crate::store::{Cause, Error};

/// This process waits so much longer than the server's `statement_timeout`, so that it is the server that ends a
/// statement.
const PATIENCE: Duration = Duration::from_millis(500);

/// The pool and the asynchronous runtime that drives its connections.
#[derive(Debug)]
pub(super) struct Connections {
    /// None once the pool is being dropped.
    runtime: Option<Runtime>,
    pool: Pool<Dialer>,
    timeout: Duration,
}

/// Why a statement failed.
#[derive(Debug)]
pub(super) enum PgError {
    /// The server returned an error, or the connection to it failed.
    Server(tokio_postgres::Error),
    /// The server did not respond in time.
    TimedOut,
    /// Messages would not be safe on this server, for this reason.
    Unfit(&'static str),
    /// The host name of the server could not be resolved.
    NameNotResolved(Cause),
    /// The server returned a result that its schema rules out.
    UnexpectedResponse(Cause),
    /// The server gave an arrival number for the second time; nothing was stored.
    ArrivalNumberReused,
    /// The pool is closed.
    Closed,
}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

impl Connections {
    /// A pool of at most `size` connections, made when they are needed. A statement may take `timeout`.
    ///
    /// # Errors
    /// The operating system starts no thread, or the file of `sslrootcert` cannot be used.
    pub(super) fn new(address: &Address, size: usize, timeout: Duration) -> Result<Self, Cause> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("lyftr-postgres")
            .enable_all()
            .build()?;
        let pool = Pool::builder(Dialer::new(address, timeout)?).max_size(size).build()?;
        Ok(Self { runtime: Some(runtime), pool, timeout })
    }

    /// Lends a connection to `work`, which must end within the time of one statement. After an error the connection is
    /// closed.
    pub(super) fn lend<T>(
        &self,
        work: impl FnOnce(&Session<'_>) -> Result<T, PgError>,
    ) -> Result<T, PgError> {
        self.lend_for(self.timeout + PATIENCE, work)
    }

    /// As [`lend`](Self::lend), for `time`.
    pub(super) fn lend_for<T>(
        &self,
        time: Duration,
        work: impl FnOnce(&Session<'_>) -> Result<T, PgError>,
    ) -> Result<T, PgError> {
        let Some(runtime) = &self.runtime else { return Err(PgError::Closed) };
        let deadline = Instant::now() + time;
        let connection = in_time(runtime, deadline, self.pool.get())?.map_err(|error| match error {
            PoolError::Backend(failed) => failed,
            PoolError::Timeout(_) => PgError::TimedOut,
            PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                PgError::Closed
            }
        })?;
        let session = Session { runtime, connection, deadline, in_transaction: Cell::new(false) };
        match work(&session) {
            Ok(value) => Ok(value),
            Err(failed) => {
                drop(Object::take(session.connection));
                if matches!(failed, PgError::TimedOut) && time > self.timeout {
                    // The server did not even report its own timeout, so it is out of reach. The other connections lead
                    // to the same server, and each would cost a batch of its own until it is found dead.
                    self.close();
                }
                Err(failed)
            }
        }
    }

    /// Closes the idle connections.
    pub(super) fn close(&self) {
        self.pool.retain(|_, _| false);
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        // The plain drop of a runtime waits for it, which panics inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A connection that is lent until a deadline.
pub(super) struct Session<'a> {
    runtime: &'a Runtime,
    connection: Object<Dialer>,
    deadline: Instant,
    /// Whether a transaction is open. Outside of one each statement is a transaction of its own.
    in_transaction: Cell<bool>,
}

impl Session<'_> {
    /// All rows of a statement's result.
    pub(super) fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, PgError> {
        self.carry_out(self.connection.query(sql, parameters))
    }

    /// All rows of the results of two statements, which are carried out one after the other in one round trip.
    pub(super) fn query_both(
        &self,
        (one, its): (&str, &[Parameter<'_>]),
        (other, others): (&str, &[Parameter<'_>]),
    ) -> Result<(Vec<Row>, Vec<Row>), PgError> {
        self.carry_out(async {
            // Polled, and so sent, in this order.
            let (one, other) =
                join(self.connection.query(one, its), self.connection.query(other, others)).await;
            Ok((one?, other?))
        })
    }

    /// The first row of a statement's result, which must have one.
    pub(super) fn row(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Row, PgError> {
        let rows = self.query(sql, parameters)?;
        rows.into_iter().next().ok_or_else(|| PgError::UnexpectedResponse("the result has no row".into()))
    }

    /// Passes the rows of a result to `each`, one after the other, without keeping them all in memory.
    pub(super) fn each(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
        mut each: impl FnMut(&Row) -> Result<(), PgError>,
    ) -> Result<(), PgError> {
        use futures_util::TryStreamExt as _;
        self.carry_out(async {
            let mut rows = std::pin::pin!(self.connection.rows(sql, parameters).await?);
            while let Some(row) = rows.try_next().await? {
                each(&row)?;
            }
            Ok(())
        })
    }

    /// Runs statements that have no parameters, and drops their results.
    pub(super) fn run(&self, sql: &str) -> Result<(), PgError> {
        self.carry_out(self.connection.run(sql))
    }

    /// Runs `reads` in one read snapshot.
    pub(super) fn snapshot<T>(&self, reads: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
        self.within("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", reads)
    }

    /// Runs `changes` in one transaction: all of them happen, or none.
    pub(super) fn transaction<T>(&self, changes: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
        self.within(BEGIN, changes)
    }

    /// Runs `work` in a transaction. After an error the transaction stays open, and ends with the connection, which is
    /// closed.
    fn within<T>(&self, begin: &str, work: impl FnOnce() -> Result<T, PgError>) -> Result<T, PgError> {
        in_time(self.runtime, self.deadline, self.connection.begin(begin))??;
        self.in_transaction.set(true);
        let done = work()?;
        self.run(COMMIT)?;
        self.in_transaction.set(false);
        Ok(done)
    }

    fn carry_out<T>(&self, work: impl Future<Output = Result<T, PgError>>) -> Result<T, PgError> {
        in_time(self.runtime, self.deadline, async {
            if self.in_transaction.get() { work.await } else { self.connection.once(work).await }
        })?
    }
}

fn in_time<T>(runtime: &Runtime, deadline: Instant, work: impl Future<Output = T>) -> Result<T, PgError> {
    runtime
        .block_on(async { tokio::time::timeout_at(deadline.into(), work).await })
        .map_err(|_| PgError::TimedOut)
}

impl PgError {
    /// Whether the same statement may well succeed when it is run again: the server ended the transaction to resolve a
    /// deadlock or a conflict, or gave it a used arrival number.
    pub(super) fn is_passing(&self) -> bool {
        let Self::Server(error) = self else { return matches!(self, Self::ArrivalNumberReused) };
        error.code().is_some_and(|code| {
            *code == SqlState::T_R_DEADLOCK_DETECTED || *code == SqlState::T_R_SERIALIZATION_FAILURE
        })
    }
}

impl From<PgError> for Error {
    fn from(failed: PgError) -> Self {
        let unavailable = |reason, source| Self::Unavailable { reason, source };
        match failed {
            PgError::Server(error) => explain(error),
            PgError::TimedOut => unavailable("the database did not respond in time", None),
            PgError::Unfit(reason) => unavailable(reason, None),
            PgError::NameNotResolved(cause) => unavailable("the database cannot be reached", Some(cause)),
            PgError::UnexpectedResponse(cause) => Self::Failed(cause),
            PgError::ArrivalNumberReused => unavailable("the database reuses arrival numbers", None),
            PgError::Closed => unavailable("the service is stopping", None),
        }
    }
}

/// An error of the server in words for clients
/// ([PostgreSQL, appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
fn explain(error: tokio_postgres::Error) -> Error {
    let Some(code) = error.code() else {
        let reason = tls::failure(&error).unwrap_or("the database cannot be reached");
        return Error::Unavailable { reason, source: Some(error.into()) };
    };
    let reason = match code.code() {
        "53100" => "the disk of the database is full",
        "53200" => "the database is out of memory",
        "53300" => "too many connections to the database",
        "57014" => "query timed out",
        "25006" => "the database is read-only",
        "42501" => "the database user lacks a privilege",
        "3D000" => "the database does not exist",
        "58030" => "disk I/O error on the database server",
        "55P03" => "the database is locked by another process",
        "40001" | "40P01" => "conflict with another transaction",
        "XX001" | "XX002" => "the database is damaged",
        "3F000" => "no schema of the database is in the search_path of its user",
        "42P01" | "42703" | "42883" | "42P10" => "unexpected schema in the database",
        code => match code.get(..2) {
            Some("08") => "the database cannot be reached",
            Some("28") => "the database rejected the user or the password",
            Some("57") => "the database is starting or stopping",
            _ => return Error::Failed(error.into()),
        },
    };
    Error::Unavailable { reason, source: Some(error.into()) }
}
