//! Three processes on one database behind HAProxy, one of which is killed and started again all the time.

use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{Torture, lasting_port};
use crate::proxies::Proxy;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::postgres::Database;
use crate::support::process::Process;
use crate::support::senders::{Load, pause};

const REPLICAS: usize = 3;

#[test]
fn messages_acknowledged_by_any_of_three_processes_are_stored_once() {
    let mut torture = Torture::new("replicas", 10);
    let database = Database::new();
    let ports: Vec<u16> = (0..REPLICAS).map(|_| lasting_port()).collect();
    let start = |port: u16| {
        let builder = Process::builder().env("DATABASE_URL", &database.url()).env("PORT", &port.to_string());
        builder.env("LOG_LEVEL", "ERROR").spawn()
    };
    let mut processes: Vec<Process> = ports.iter().map(|port| start(*port)).collect();
    let addresses: Vec<SocketAddr> = ports.iter().map(|port| ([127, 0, 0, 1], *port).into()).collect();
    for address in &addresses {
        eventually("a replica listens", || TcpStream::connect(address).ok());
    }
    let Some(proxy) = Proxy::before_replicas(&addresses) else { return };
    let load = Load::new(proxy.address());
    proxy.await_ready(REPLICAS);
    torture.run(&load, torture.rounds, |_, rng| {
        pause(rng, 300);
        let killed = rng.usize(..3);
        processes[killed].kill9();
        pause(rng, 100);
        processes[killed] = start(ports[killed]);
        let begin = Instant::now();
        // Else, on a busy machine, all three may be gone at once.
        proxy.await_ready(REPLICAS);
        // Not through the proxy, which on a busy machine takes now and then all of them for gone.
        (begin.elapsed(), load.check_at(addresses[(killed + 1) % REPLICAS]))
    });
    torture.judgement += load.check_at(addresses[0]);
    // The senders see nothing of a request that the proxy sends once more, to another process.
    torture.hits = torture.hits.max(proxy.retried() as u64).min(torture.rounds);
    assert_eq!(
        Client::new(addresses[0]).json("/stats")["total_messages"],
        database.number("SELECT count(*) FROM message"),
        "the aggregates and the rows"
    );
    torture.end();
}
