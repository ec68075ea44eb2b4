//! Where connections come in: every address of a host.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// Most connections that wait to be accepted; Linux allows 4096 unless told otherwise. Where the queue is full, as
/// in a burst the usual 128 are at once, a client's first packet is dropped, and it tries again after a second.
const ACCEPT_QUEUE_MAX: u32 = 4096;
/// Most ports that are tried where any free one will do, but the same on several addresses.
const PORTS_TRIED_MAX: usize = 16;

/// One socket for each address that is listened on.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<(SocketAddr, TcpListener)>,
    /// Moves on with each accept, so that a crowd on one address keeps nobody on another waiting.
    turn: AtomicUsize,
}

/// Not listening.
#[derive(Debug, thiserror::Error)]
pub enum Unbound {
    /// The name of the host leads nowhere. It is not repeated.
    #[error("HOST is no address, and cannot be found as a name ({0})")]
    Name(#[source] io::Error),
    /// One of the addresses cannot be had.
    #[error(
        "cannot listen on {address}: {error}; set HOST and PORT to an address that this machine has and that is free"
    )]
    Address {
        /// The first such address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// Listens on every address of `host`, which is one or a name, on the same port. An address of IPv6's is left out
/// where this machine has no IPv6, if there is another one. See `docs/decisions/0010-every-address-of-a-name.md`.
///
/// # Errors
/// [`Unbound`], if one of the others cannot be had.
pub async fn bind(host: &str, port: u16) -> Result<Listener, Unbound> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in lookup_host((host, port)).await.map_err(Unbound::Name)? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let mut tries = 1..PORTS_TRIED_MAX;
    loop {
        match bind_all(&addresses) {
            Err(Unbound::Address { error, .. })
                if port == 0 && error.kind() == io::ErrorKind::AddrInUse && tries.next().is_some() => {}
            bound => return bound,
        }
    }
}

/// Listens on all of the addresses; where any port will do, on that of the first one.
fn bind_all(addresses: &[SocketAddr]) -> Result<Listener, Unbound> {
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
            Err(error) => return Err(Unbound::Address { address, error }),
        }
    }
    if sockets.is_empty() {
        let nothing = || Unbound::Name(io::ErrorKind::NotFound.into());
        let first = left_out.into_iter().next();
        return Err(first.map_or_else(nothing, |(address, error)| Unbound::Address { address, error }));
    }
    for (address, _) in left_out {
        tracing::warn!(left_out = %address, "an address of HOST is left out: this machine has no IPv6");
    }
    Ok(Listener { sockets, turn: AtomicUsize::new(0) })
}

fn bind_to(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart need not wait for the old connections to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_QUEUE_MAX)
}

/// Whether this machine has IPv6, which may be missing in the kernel or switched off: then it lacks even `::1`.
fn has_ipv6() -> bool {
    TcpSocket::new_v6().is_ok_and(|socket| socket.bind((Ipv6Addr::LOCALHOST, 0).into()).is_ok())
}

impl Listener {
    /// The addresses that are listened on.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(|(address, _)| *address)
    }

    /// The next connection on any of them.
    pub(super) async fn accept(&self) -> io::Result<TcpStream> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        let count = self.sockets.len();
        let first = self.turn.fetch_add(1, Relaxed).checked_rem(count).unwrap_or(0);
        for (_, socket) in self.sockets.iter().cycle().skip(first).take(count) {
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    }
}
