//! The connections to PostgreSQL are cut: before a statement reaches the server, or when its answer is on its way
//! back, so that a batch is stored and nobody is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::SeqCst;

use super::{Torture, await_healing};
use crate::support::eventually;
use crate::support::postgres::{Cluster, Database};
use crate::support::process::Process;
use crate::support::senders::{Load, pause};

/// Everything goes through.
const PASS: u8 = 0;
/// What comes from the client is thrown away, and the connection ends.
const CUT_BEFORE: u8 = 1;
/// What comes from the server is.
const CUT_AFTER: u8 = 2;

/// A way to the server that can be cut.
struct Wire {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
}

impl Wire {
    fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, mode) = (listener.local_addr().unwrap(), Arc::new(AtomicU8::new(PASS)));
        let shared = Arc::clone(&mode);
        // Ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
                let (mode, from, to) =
                    (Arc::clone(&shared), client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || carry(from, to, &mode, CUT_BEFORE));
                let mode = Arc::clone(&shared);
                std::thread::spawn(move || carry(server, client, &mode, CUT_AFTER));
            }
        });
        Self { address, mode }
    }
}

/// One end of a connection.
trait End: Read + Write {
    fn close(&self);
}

impl End for TcpStream {
    fn close(&self) {
        drop(self.shutdown(Shutdown::Both));
    }
}

impl End for UnixStream {
    fn close(&self) {
        drop(self.shutdown(Shutdown::Both));
    }
}

/// Carries what comes from one end to the other, until one is closed or the way is cut here.
fn carry(mut from: impl End, mut to: impl End, mode: &AtomicU8, cut: u8) {
    let mut bytes = vec![0; 65536];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if mode.load(SeqCst) == cut || to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    from.close();
    to.close();
}

#[test]
fn acknowledged_messages_survive_cut_connections_and_the_retry_lands_once() {
    let mut torture = Torture::new("cut", 6);
    let database = Database::new();
    let wire = Wire::to(Cluster::shared().socket());
    let url = format!("postgres://postgres@{}/{}?sslmode=disable", wire.address, database.name());
    let process = Process::builder().env("DATABASE_URL", &url).env("LOG_LEVEL", "ERROR").start_silent();
    let load = Load::new(process.address());
    let mut client = process.client();
    torture.run(&load, torture.rounds, |round, rng| {
        pause(rng, 200);
        let refused = load.unacknowledged();
        wire.mode.store(if round % 2 == 0 { CUT_AFTER } else { CUT_BEFORE }, SeqCst);
        eventually("messages are refused", || (load.unacknowledged() > refused).then_some(()));
        pause(rng, 200);
        wire.mode.store(PASS, SeqCst);
        (await_healing(&mut client), load.check())
    });
    torture.judgement += load.check();
    torture.end();
}
