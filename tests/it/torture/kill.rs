//! `kill -9` at any moment: while it starts, at work, while it stops.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use super::{Torture, number};
use crate::support::process::Process;
use crate::support::senders::{Judgement, Load, pause};
use crate::support::{eventually, lasting_port, message};

/// Reading everything back takes longer the more there is, so a new database is begun now and then.
const KILLS_PER_DATABASE: u64 = 50;

#[test]
fn acknowledged_messages_survive_kill_9() {
    let mut torture = Torture::new("kill", 30);
    let mut left = torture.rounds;
    while left > 0 {
        let kills = left.min(KILLS_PER_DATABASE);
        kill_again_and_again(&mut torture, kills);
        left -= kills;
    }
    torture.end();
}

fn kill_again_and_again(torture: &mut Torture, kills: u64) {
    let folder = tempfile::tempdir().unwrap();
    let load = Load::new(([127, 0, 0, 1], lasting_port()).into());
    torture.run(&load, kills, |_, rng| kill_once(folder.path(), &load, rng));
    let port = load.address.port().to_string();
    let mut process = Process::builder().folder(folder.path()).env("PORT", &port).start();
    torture.judgement += load.check();
    assert_eq!(process.terminate().code(), Some(0));
    let database = rusqlite::Connection::open(process.database()).unwrap();
    let sound: String = database.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

/// Kills the service once, in one of the ways; everything has been read back before where there was time for it.
fn kill_once(folder: &Path, load: &Load, rng: &mut Rng) -> (Duration, Judgement) {
    let way = rng.u64(..4);
    let mut process = spawn(folder, load);
    let (mut restart, mut judgement) = (Duration::ZERO, Judgement::default());
    match way {
        0 => pause(rng, 40),
        1 => {
            restart = await_listening(&mut process, load.address);
            judgement = load.check();
            pause(rng, 150);
            process.signal(Signal::TERM);
            pause(rng, 300);
        }
        _ => {
            restart = await_listening(&mut process, load.address);
            judgement = load.check();
            pause(rng, 200);
        }
    }
    process.kill9();
    (restart, judgement)
}

/// The service in this folder, where the senders look for it.
fn spawn(folder: &Path, load: &Load) -> Process {
    let builder = Process::builder().folder(folder).env("PORT", &load.address.port().to_string());
    builder.env("LOG_LEVEL", "ERROR").spawn()
}

/// The same once it listens, and how long that took.
pub(super) fn start(folder: &Path, load: &Load) -> (Process, Duration) {
    let mut process = spawn(folder, load);
    let took = await_listening(&mut process, load.address);
    (process, took)
}

/// How long it took. The log level hides the line that says so.
fn await_listening(process: &mut Process, address: SocketAddr) -> Duration {
    let begin = Instant::now();
    eventually("the service listens", || {
        assert!(process.is_running(), "{:?} {}", process.log_lines(), process.stderr());
        TcpStream::connect(address).ok()
    });
    begin.elapsed()
}

#[test]
fn a_first_start_that_is_killed_leaves_what_the_next_one_can_use() {
    let seed = number("LYFTR_SEED").unwrap_or(1);
    let mut rng = Rng::with_seed(seed);
    for n in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::builder().folder(folder.path()).spawn();
        pause(&mut rng, 30);
        process.kill9();
        let process = Process::builder().folder(folder.path()).start();
        let mut client = process.client();
        client.store(&message("m"));
        assert_eq!(client.json("/messages")["total"], 1, "round {n}, seed {seed}");
    }
}
