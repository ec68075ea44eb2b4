//! A connection flood, most of it with half a header and no more: each connection costs little, and nobody is kept out.
//! Against the real program, whose memory can be measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::support::client::{Connection, request, signed};
use crate::support::process::Process;
use crate::support::{DEADLINE, eventually, message, shout};

/// How many connections the promise speaks of.
const FLOOD: usize = 10_000;
/// Most memory for one of them.
const BYTES_EACH_MAX: usize = 20_000;
/// File descriptors that are left to the tests that run beside these.
const OTHER_DESCRIPTORS: usize = 2_000;

/// Held during a flood: there are not enough file descriptors for two.
static ONE_FLOOD: Mutex<()> = Mutex::new(());

/// So many connections, or as many as this process may open. Raises its limit for that.
fn possible(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap());
    let raised = u64::try_from(most.min(wanted + OTHER_DESCRIPTORS)).unwrap();
    let current = limit.current.map(|current| current.max(raised));
    setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum })
        .expect("a limit within the other");
    let possible = wanted.min(most.saturating_sub(OTHER_DESCRIPTORS));
    assert!(possible >= 100, "{most} open files (ulimit -Hn) are too few for the tests");
    if possible < wanted {
        shout(&format!("A flood of {possible} in the place of {wanted}, since ulimit -Hn is {most}"));
    }
    possible
}

/// So many connections, or as many as the operating system keeps in any service's queue.
fn queued(wanted: usize) -> usize {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    most.and_then(|most| most.trim().parse().ok()).map_or(wanted, |most: usize| wanted.min(most))
}

/// Opens a connection and sends some of a header.
fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connect");
    // It may have been closed already.
    drop(stream.write_all(b"POST /webhook HTTP/1.1\r\nHost: a\r\nX-Signature: 0123456789"));
    stream
}

/// Whether the service has closed it.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    !stream.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "memory is measured in Linux's /proc")]
fn ten_thousand_half_open_connections_cost_20_kb_each_and_keep_nobody_out() {
    let _one = ONE_FLOOD.lock().unwrap_or_else(PoisonError::into_inner);
    let size = possible(FLOOD);
    let process = Process::start();
    let mut client = process.client();
    // Everything that is made at its first use is there.
    for n in 0..100 {
        client.store(&message(&format!("before {n}")));
    }
    client.json("/messages");
    client.metrics();
    let before = process.memory("VmRSS");
    let mut flood: Vec<TcpStream> = (0..size).map(|_| open(process.address())).collect();
    // Each is closed after four seconds, so on a slow machine the first must be replaced while the last come.
    let standing = eventually("most of the flood stands at once", || {
        let standing = client.metric("connections_open");
        if standing >= 0.9 * size as f64 {
            return Some(standing);
        }
        flood.retain_mut(|stream| !is_closed(stream));
        flood.resize_with(size, || open(process.address()));
        None
    });
    let each = process.memory("VmRSS").saturating_sub(before) as f64 / standing;
    println!("{standing} connections, {each:.0} bytes each");
    for n in 0..10 {
        let mut other = process.client();
        other.store(&message(&format!("beside {n}")));
        assert_eq!(other.get("/health/live").status, 200);
    }
    assert_eq!(client.json("/messages?limit=1")["total"], 110);
    assert!(each <= BYTES_EACH_MAX as f64, "{each:.0} bytes a connection");
}

/// The status of the answer to this request, sent over a connection of its own. Where the flood opens 500 others before
/// the client has sent anything, its connection is closed without an answer, and it tries again.
fn status(address: SocketAddr, method: &str, target: &str, bytes: &[u8]) -> u16 {
    let attempt = |_| {
        let mut connection = Connection::open(address);
        drop(connection.try_write(bytes));
        connection.reply_or_end(method, target)
    };
    (0..10).find_map(attempt).expect("one of ten connections is served").status
}

#[test]
fn a_flood_larger_than_the_registry_keeps_nobody_out_while_it_comes() {
    let _one = ONE_FLOOD.lock().unwrap_or_else(PoisonError::into_inner);
    let size = possible(5_000);
    let process = Process::builder().env("MAX_CONNECTIONS", "500").start();
    let coming = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let flood: Vec<_> = (0..size).map(|_| open(process.address())).collect();
            coming.store(false, Relaxed);
            flood
        });
        let mut stored = 0;
        while coming.load(Relaxed) || stored < 20 {
            let body = message(&format!("m{stored}")).to_string();
            assert_eq!(status(process.address(), "POST", "/webhook", &signed(body.as_bytes())), 200);
            stored += 1;
            let live = request("GET", "/health/live", &[], b"");
            assert_eq!(status(process.address(), "GET", "/health/live", &live), 200);
        }
        let _flood = flood.join().unwrap();
        let mut client = process.client();
        assert_eq!(client.json("/messages?limit=1")["total"], stored);
        assert!(client.metric("connections_open") <= 500.0);
        assert!(client.closed("evicted") >= (size - 500) as f64);
        println!("{stored} stored beside {size}");
    });
}

#[test]
fn a_burst_of_connections_waits_for_a_service_that_is_held_up_and_is_served() {
    let _one = ONE_FLOOD.lock().unwrap_or_else(PoisonError::into_inner);
    let size = possible(queued(1_000));
    let process = Process::start();
    process.signal(Signal::STOP);
    // The operating system takes them in. Where its queue is full, a client tries again after a second, and then
    // ever more seldom.
    let connect = |_| TcpStream::connect_timeout(&process.address(), DEADLINE);
    let burst: Result<Vec<_>, _> = (0..size).map(connect).collect();
    process.signal(Signal::CONT);
    let mut last = burst.expect("all are taken in").pop().unwrap();
    process.client().store(&message("after"));
    last.set_read_timeout(Some(DEADLINE)).unwrap();
    last.write_all(&request("GET", "/health/live", &[("Connection", "close")], b"")).unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}
