//! Followers of every kind while the service, its replicas or its PostgreSQL are killed: each sees every acknowledged
//! event once, all in one order, and a position stays that of its event.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use self::followers::{Followers, Log};
use super::kill::start;
use super::{Torture, await_healing, lasting_port};
use crate::proxies::Proxy;
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::postgres::Cluster;
use crate::support::process::Process;
use crate::support::senders::{Judgement, Load, pause};

mod followers;

const REPLICAS: usize = 3;
/// Followers of each kind.
const EACH: usize = 2;

#[test]
fn followers_of_a_killed_service_see_each_acknowledged_event_once() {
    let mut torture = Torture::new("follow", 20);
    let folder = tempfile::tempdir().unwrap();
    let load = Load::new(([127, 0, 0, 1], lasting_port()).into());
    let (mut process, _) = start(folder.path(), &load);
    let followers = Followers::start(&[load.address], load.address, EACH, &mut torture.rng);
    torture.run(&load, torture.rounds, |_, rng| {
        pause(rng, 300);
        process.kill9();
        let (next, healing) = start(folder.path(), &load);
        process = next;
        followers.assert_nothing_seen_has_changed(rng);
        (healing, Judgement::default())
    });
    torture.judgement += judge(followers, &load);
    torture.judgement += load.check();
    torture.end();
}

#[test]
fn followers_of_replicas_on_a_killed_postgresql_see_each_acknowledged_event_once() {
    let mut torture = Torture::new("follow", 6);
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
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
    let followers = Followers::start(&addresses, proxy.address(), EACH, &mut torture.rng);
    torture.run(&load, torture.rounds, |number, rng| {
        pause(rng, 300);
        let healing = if number % 3 == 2 {
            cluster.kill9();
            pause(rng, 300);
            cluster.run();
            let begin = Instant::now();
            for address in &addresses {
                await_healing(&mut Client::new(*address));
            }
            begin.elapsed()
        } else {
            replace(&mut processes, rng, |killed| start(ports[killed]), &addresses)
        };
        proxy.await_ready(REPLICAS);
        followers.assert_nothing_seen_has_changed(rng);
        (healing, Judgement::default())
    });
    torture.judgement += judge(followers, &load);
    torture.judgement += load.check_at(addresses[0]);
    torture.hits = torture.hits.max(proxy.retried() as u64).min(torture.rounds);
    torture.end();
}

/// Kills one of the processes, and starts another in its place. How long that one took to listen.
fn replace(
    processes: &mut [Process],
    rng: &mut Rng,
    start: impl Fn(usize) -> Process,
    addresses: &[SocketAddr],
) -> Duration {
    let killed = rng.usize(..processes.len());
    processes[killed].kill9();
    pause(rng, 100);
    processes[killed] = start(killed);
    let begin = Instant::now();
    eventually("a replica listens", || TcpStream::connect(addresses[killed]).ok());
    begin.elapsed()
}

/// Waits until the followers have seen everything, and holds it against what is there and what was acknowledged.
fn judge(followers: Followers, load: &Load) -> Judgement {
    let log = Log::read(followers.address());
    followers.assert_all_have_seen(&log);
    let row = |event: &Value| json!({ "message_id": event["key"], "from": event["from"], "to": event["to"], "ts": event["ts"], "text": event["text"] });
    load.judge(&log.events.iter().map(row).collect::<Vec<_>>())
}
