//! How a new connection is made: to which of the servers that the URL names, and in what time.
//!
//! A message waits a few seconds for its batch, so a server that does not answer must cost less than that. Each server
//! has its share of the time, and so has each address of its name. One that failed is remembered for a while, by this
//! process, and tried last; with one exception the order is otherwise that of the URL: `load_balance_hosts=random`.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
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

/// Longest time that a new connection may take, whatever of it goes to servers that do not answer. What is left of a
/// message's wait then is for its batch.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// So long is a server that failed tried after the others.
const FAILED_FOR: Duration = Duration::from_mins(1);

/// Makes connections, for the pool.
#[derive(Debug)]
pub(super) struct Dialer {
    address: Address,
    /// None where nothing is encrypted.
    tls: Option<Connector>,
    /// Of a statement.
    timeout: Duration,
    failed: Mutex<HashMap<Endpoint, Instant>>,
}

/// A server, by its number in the URL, or one of its addresses.
type Endpoint = (usize, Option<IpAddr>);

/// A try at a place, which counts as failed unless it is said to have succeeded: also when nobody waits for it any more.
struct Attempt<'a> {
    dialer: &'a Dialer,
    endpoint: Endpoint,
    succeeded: bool,
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
    /// # Errors
    /// The file of the authorities to trust cannot be used.
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
            let mut attempt = Attempt { dialer: self, endpoint: (n, None), succeeded: false };
            match self.connect_to(n, server, self.until(end, left)).await {
                Ok(connection) => {
                    attempt.succeeded = true;
                    return Ok(connection);
                }
                Err(PgError::Unfit(why)) => return Err(PgError::Unfit(why)),
                Err(failed) => failure = more_telling(failure, failed),
            }
        }
        Err(failure)
    }

    /// When the first of so many servers that are left must have answered. The `connect_timeout` of the URL makes that
    /// shorter, and longer only where there is one server: then nothing is lost by it.
    fn until(&self, end: Instant, left: usize) -> Instant {
        let share = share(end, left);
        let Some(&given) = self.address.config.get_connect_timeout() else { return share };
        let given = Instant::now() + given;
        if self.address.servers.len() == 1 { given } else { share.min(given) }
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
            let mut attempt = Attempt { dialer: self, endpoint: (n, address), succeeded: false };
            let config = self.address.to(server, address);
            let made = timeout_at(share(until, left).into(), self.reach(&config)).await;
            match made.unwrap_or(Err(PgError::TimedOut)) {
                Ok(connection) => {
                    attempt.succeeded = true;
                    return Ok(connection);
                }
                Err(PgError::Unfit(why)) => return Err(PgError::Unfit(why)),
                Err(failed) => failure = more_telling(failure, failed),
            }
        }
        Err(failure)
    }

    /// Goes to one address. Without TLS, where that is only preferred and cannot be had.
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

    /// Those that failed a while ago come after those that did not, and those that failed just now come last.
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

/// Of what is left of the time, the part of the first of so many.
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
    // What goes wrong with it, the statement that is under way tells.
    let task = tokio::spawn(async move { drop(connection.await) });
    Ok((client, task))
}

/// Whether it may go better without TLS: the handshake failed, or the server lets this user in only without.
fn needs_plain(error: &tokio_postgres::Error) -> bool {
    tls::failure(error).is_some() || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}

/// What a server says is of more use than that another one was not there.
fn more_telling(one: PgError, other: PgError) -> PgError {
    match one {
        PgError::Server(error) if error.code().is_some() || tls::failure(&error).is_some() => {
            PgError::Server(error)
        }
        _ => other,
    }
}
