//! Makes new connections: chooses among the servers of the URL, and bounds the time.
//!
//! A message waits a few seconds for its batch, so a server that does not respond must cost less than that. Each server
//! has its share of the time, and so has each address of its name. This process remembers for a while which ones failed,
//! and tries those last. Otherwise the order is that of the URL, or random with `load_balance_hosts=random`.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::ops::ControlFlow::{self, Break, Continue};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use tokio::time::timeout_at;
use tokio_postgres::config::{LoadBalanceHosts, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls, Socket};

use super::address::{Address, Server};
use super::connection::PgError;
use super::tls::{self, Connector};
use super::transaction::Connection;
use crate::store::Cause;

/// Maximum time for a new connection, including the time lost on servers that do not respond. The rest of the time that
/// a message waits is for its batch.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a failed server is tried after the others.
const FAILED_FOR: Duration = Duration::from_mins(1);

/// Makes the connections of the pool.
#[derive(Debug)]
pub(super) struct Dialer {
    address: Address,
    /// None for `sslmode=disable`.
    tls: Option<Connector>,
    /// Maximum time of a statement.
    timeout: Duration,
    failed: Mutex<HashMap<Endpoint, Instant>>,
}

/// A server, by its index in the URL, or one of its addresses.
type Endpoint = (usize, Option<IpAddr>);

/// An attempt to connect, which counts as failed unless it was marked as succeeded: also when it is dropped half-way.
struct Attempt<'a> {
    dialer: &'a Dialer,
    endpoint: Endpoint,
    succeeded: bool,
}

impl Attempt<'_> {
    /// Notes the result. A connection ends the search, and so does an unfit server; otherwise it goes on with the more
    /// telling one of the failures.
    fn end(
        mut self,
        made: Result<Connection, PgError>,
        failure: PgError,
    ) -> ControlFlow<Result<Connection, PgError>, PgError> {
        self.succeeded = made.is_ok();
        match made {
            Err(failed) if !matches!(failed, PgError::Unfit(_)) => Continue(more_telling(failure, failed)),
            made => Break(made),
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut failed = self.dialer.failed();
        failed.retain(|_, at| at.elapsed() < FAILED_FOR);
        if self.succeeded {
            failed.remove(&self.endpoint);
        } else {
            failed.insert(self.endpoint, Instant::now());
        }
    }
}

impl Manager for Dialer {
    type Type = Connection;
    type Error = PgError;

    async fn create(&self) -> Result<Connection, PgError> {
        self.connect().await
    }

    async fn recycle(&self, connection: &mut Connection, _: &Metrics) -> RecycleResult<PgError> {
        if connection.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

impl Dialer {
    /// A dialer for the servers of `address`. A statement may take `timeout`.
    ///
    /// # Errors
    /// The file of `sslrootcert` cannot be used.
    pub(super) fn new(address: &Address, timeout: Duration) -> Result<Self, Cause> {
        let tls = tls::connector(&address.tls_mode, address.config.get_channel_binding())?;
        Ok(Self { address: address.clone(), tls, timeout, failed: Mutex::default() })
    }

    /// Tries one server after the other.
    async fn connect(&self) -> Result<Connection, PgError> {
        let end = Instant::now() + CONNECT_TIMEOUT.min(self.timeout);
        let servers = self.in_order(self.address.servers.iter().enumerate(), |&(n, _)| (n, None));
        let mut failure = PgError::TimedOut;
        for (left, (n, server)) in (1..=servers.len()).rev().zip(servers) {
            let attempt = Attempt { dialer: self, endpoint: (n, None), succeeded: false };
            let made = self.connect_to(n, server, self.deadline(end, left)).await;
            match attempt.end(made, failure) {
                Continue(failed) => failure = failed,
                Break(done) => return done,
            }
        }
        Err(failure)
    }

    /// The deadline of the first of the `left` servers. The `connect_timeout` of the URL makes it earlier; later only if
    /// there is a single server, so that no other one loses time by it.
    fn deadline(&self, end: Instant, left: usize) -> Instant {
        let share = share(end, left);
        let Some(&connect_timeout) = self.address.config.get_connect_timeout() else { return share };
        let own = Instant::now() + connect_timeout;
        if self.address.servers.len() == 1 { own } else { share.min(own) }
    }

    /// Tries one address of a server after the other.
    async fn connect_to(&self, n: usize, server: &Server, until: Instant) -> Result<Connection, PgError> {
        let addresses = match server {
            Server::Socket(..) => vec![None],
            Server::Host(_, Some(address), _) => vec![Some(*address)],
            Server::Host(name, None, port) => look_up(name, *port, until).await?,
        };
        let addresses = self.in_order(addresses.into_iter(), |&address| (n, address));
        let mut failure = PgError::TimedOut;
        for (left, address) in (1..=addresses.len()).rev().zip(addresses) {
            let attempt = Attempt { dialer: self, endpoint: (n, address), succeeded: false };
            let config = self.address.config_for(server, address);
            let made = timeout_at(share(until, left).into(), self.reach(&config)).await;
            match attempt.end(made.unwrap_or(Err(PgError::TimedOut)), failure) {
                Continue(failed) => failure = failed,
                Break(done) => return done,
            }
        }
        Err(failure)
    }

    /// Connects to one address. `sslmode=prefer` falls back to a connection without TLS.
    async fn reach(&self, config: &Config) -> Result<Connection, PgError> {
        let options = config.get_options();
        let (client, task) = match &self.tls {
            Some(tls) if config.get_ssl_mode() != SslMode::Disable => match open(config, tls.clone()).await {
                Err(error) if config.get_ssl_mode() == SslMode::Prefer && needs_plain(&error) => {
                    open(config.clone().ssl_mode(SslMode::Disable), NoTls).await
                }
                opened => opened,
            },
            _ => open(config, NoTls).await,
        }?;
        Connection::new(client, task, options, self.timeout).await
    }

    /// Sorts: first the endpoints that have not failed, then the failed ones, the latest failure last.
    fn in_order<T>(&self, places: impl Iterator<Item = T>, place: impl Fn(&T) -> Endpoint) -> Vec<T> {
        let mut places: Vec<T> = places.collect();
        if self.address.config.get_load_balance_hosts() == LoadBalanceHosts::Random {
            let dice = RandomState::new();
            places.sort_by_cached_key(|one| dice.hash_one(place(one)));
        }
        let failed = self.failed();
        places.sort_by_key(|one| failed.get(&place(one)).copied().filter(|at| at.elapsed() < FAILED_FOR));
        places
    }

    fn failed(&self) -> MutexGuard<'_, HashMap<Endpoint, Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the share of the first of `left` attempts in the time until `end`.
fn share(end: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let left = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    now + end.saturating_duration_since(now) / left
}

async fn look_up(name: &str, port: u16, until: Instant) -> Result<Vec<Option<IpAddr>>, PgError> {
    let found = timeout_at(until.into(), tokio::net::lookup_host((name, port))).await;
    let found = found.map_err(|_| PgError::NameNotResolved("its name is not resolved in time".into()))?;
    let mut addresses: Vec<_> = found
        .map_err(|error| PgError::NameNotResolved(error.into()))?
        .map(|address| Some(address.ip()))
        .collect();
    addresses.dedup();
    if addresses.is_empty() {
        Err(PgError::NameNotResolved("its name has no address".into()))
    } else {
        Ok(addresses)
    }
}

async fn open<T>(
    config: &Config,
    tls: T,
) -> Result<(tokio_postgres::Client, tokio::task::JoinHandle<()>), tokio_postgres::Error>
where
    T: tokio_postgres::tls::MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect(tls).await?;
    // The statement under way reports the errors of the connection.
    let task = tokio::spawn(async move { drop(connection.await) });
    Ok((client, task))
}

/// Whether to retry without TLS: the handshake failed, or the server admits this user only without TLS.
fn needs_plain(error: &tokio_postgres::Error) -> bool {
    tls::failure(error).is_some() || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// The more useful one of two errors: the reply of a server tells more than the absence of another one.
fn more_telling(one: PgError, other: PgError) -> PgError {
    match one {
        PgError::Server(error) if error.code().is_some() || tls::failure(&error).is_some() => {
            PgError::Server(error)
        }
        _ => other,
    }
}
