//! Connections that come in a crowd. Against the real program, whose queue of connections it is.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::support::client::request;
use crate::support::process::Process;
use crate::support::{DEADLINE, message};

/// So many connections, or as many as the operating system keeps in any service's queue.
fn queued(wanted: usize) -> usize {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok();
    most.and_then(|most| most.trim().parse().ok()).map_or(wanted, |most: usize| wanted.min(most))
}

#[test]
fn a_burst_of_connections_waits_for_a_service_that_is_held_up_and_is_served() {
    let size = queued(800);
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
