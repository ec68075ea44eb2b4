//! The listener: one socket for every address of a host.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// Maximum number of connections that wait to be accepted; Linux allows 4096 by default. A burst fills the usual 128 at
/// once; then the first packet of a client is dropped, and the client tries again after a second.
const ACCEPT_QUEUE_MAX: u32 = 4096;
/// Maximum number of ports to try for one that is free on several addresses.
const PORTS_TRIED_MAX: usize = 16;

/// The sockets that listen, one for each address.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<(SocketAddr, TcpListener)>,
    /// Moves on with each accept, so that a connection flood on one address does not delay the others.
    next: AtomicUsize,
}

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The host name has no address. The text does not repeat it.
    #[error("HOST is no address, and cannot be found as a name ({0})")]
    Name(#[source] io::Error),
    /// The server cannot listen on one of the addresses.
    #[error(
        "cannot listen on {address}: {error}; set HOST and PORT to an address that this machine has and that is free"
    )]
    Address {
        /// The first such address.
        address: SocketAddr,
        /// The error of the operating system.
        error: io::Error,
    },
}

/// Listens on every address of `host`, an address or a name, on the same port. On a machine without IPv6 an IPv6 address
/// is left out if there is another one. See `docs/decisions/0010-every-address-of-a-name.md`.
///
/// # Errors
/// [`BindError`], if the server cannot listen on one of the other addresses.
pub async fn bind(host: &str, port: u16) -> Result<Listener, BindError> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in lookup_host((host, port)).await.map_err(BindError::Name)? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let mut tries = 1..PORTS_TRIED_MAX;
    loop {
        match bind_all(&addresses) {
            Err(BindError::Address { error, .. })
                if port == 0 && error.kind() == io::ErrorKind::AddrInUse && tries.next().is_some() => {}
            bound => return bound,
        }
    }
}

/// Listens on all addresses; if any port will do, on the port that the first address got.
fn bind_all(addresses: &[SocketAddr]) -> Result<Listener, BindError> {
    let mut sockets: Vec<(SocketAddr, TcpListener)> = Vec::new();
    let mut left_out = Vec::new();
    for address in addresses {
        let mut address = *address;
        if let Some((first, _)) = sockets.first() {
            address.set_port(first.port());
        }
        match bind_to(address).and_then(|socket| Ok((socket.local_addr()?, socket))) {
            Ok(bound) => sockets.push(bound),
            Err(error) if address.is_ipv6() && !has_ipv6() => left_out.push((address, error)),
            Err(error) => return Err(BindError::Address { address, error }),
        }
    }
    if sockets.is_empty() {
        let nothing = || BindError::Name(io::ErrorKind::NotFound.into());
        let first = left_out.into_iter().next();
        return Err(first.map_or_else(nothing, |(address, error)| BindError::Address { address, error }));
    }
    for (address, _) in left_out {
        tracing::warn!(left_out = %address, "an address of HOST is left out: this machine has no IPv6");
    }
    Ok(Listener { sockets, next: AtomicUsize::new(0) })
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart need not wait until the operating system has forgotten the old connections.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_QUEUE_MAX)
}

/// Whether this machine has IPv6. If the kernel lacks it or it is switched off, even `::1` is missing.
fn has_ipv6() -> bool {
    TcpSocket::new_v6().is_ok_and(|socket| socket.bind((Ipv6Addr::LOCALHOST, 0).into()).is_ok())
}

impl Listener {
    /// The addresses of the sockets.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(|(address, _)| *address)
    }

    /// Accepts the next connection on any address.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let count = self.sockets.len();
        let first = self.next.fetch_add(1, Relaxed).checked_rem(count).unwrap_or(0);
        for (_, socket) in self.sockets.iter().cycle().skip(first).take(count) {
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    }
}

/// Whether a host is this machine: a loopback address, in brackets or not, the unspecified address, or `localhost`.
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address.map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
}
