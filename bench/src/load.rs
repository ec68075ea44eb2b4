//! One run of load against one server: threads, clock, and the counts of all threads together.
//!
//! The closed loop asks how much the server can do: each connection sends its next request when the last one is
//! answered. The open loop asks how long a request takes at a given rate: requests fall due by the clock whether or
//! not the server keeps up, and latency counts from the moment a request was due, so that a stall shows in every
//! request that it delays (no coordinated omission).

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

mod engine;
mod request;

use engine::{Engine, Schedule};

pub use engine::Tally;
pub use request::{Delivery, Ids, Requests, SOURCES};

/// Time for all threads to reach their loop before the first request is due.
const RUN_UP: Duration = Duration::from_millis(20);

/// How to load a server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub address: SocketAddr,
    /// Connections, each with one request in flight at most.
    pub connections: usize,
    /// Requests per second of the open loop; none for the closed loop.
    pub rate: Option<f64>,
    /// Time under load before the measured window.
    pub warm_up: Duration,
    /// Length of the window.
    pub measured: Duration,
}

/// Threads of the generator that share the connections: half of the cores.
pub fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| usize::from(cores) / 2).max(1)
}

/// Loads a server; calls `sample` at the begin and at the end of the measured window. Returns the counts of all threads,
/// and the two samples.
pub fn run<T>(
    load: &Load,
    requests: &Requests,
    mut sample: impl FnMut() -> Result<T>,
) -> Result<(Tally, [T; 2])> {
    ensure!(load.connections > 0, "at least one connection is needed");
    let threads = threads().min(load.connections);
    let next_index = AtomicU64::new(0);
    let interval = load.rate.map(|rate| Duration::try_from_secs_f64(1.0 / rate)).transpose()?;
    let connect = |thread: usize| {
        let connections = (thread..load.connections).step_by(threads).len();
        Engine::connect(load.address, connections, requests, &next_index)
    };
    let engines = (0..threads).map(connect).collect::<Result<Vec<_>>>()?;

    let start = Instant::now() + RUN_UP;
    let measure_from = start + load.warm_up;
    let end = measure_from + load.measured;
    thread::scope(|scope| {
        let mut running = Vec::new();
        for (thread, engine) in (0..).zip(engines) {
            // The threads of the open loop take turns.
            let first = start + interval.unwrap_or_default() * thread;
            let interval = interval.map(|interval| interval.mul_f64(threads as f64));
            running.push(scope.spawn(move || engine.run(Schedule { first, interval, measure_from, end })));
        }
        thread::sleep(measure_from.saturating_duration_since(Instant::now()));
        let before = sample()?;
        thread::sleep(end.saturating_duration_since(Instant::now()));
        let after = sample()?;
        let mut tally = Tally::new()?;
        for thread in running {
            tally.add(thread.join().map_err(|_| anyhow!("a thread of the generator panicked"))??)?;
        }
        Ok((tally, [before, after]))
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";

    /// Loads a server of one connection that hands each request, which comes in one piece, to `answer`.
    fn fire(
        rate: Option<f64>,
        answer: impl Fn(usize, &mut TcpStream) -> std::io::Result<()> + Send + 'static,
    ) -> Tally {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut number = 0;
            while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0)
                && answer(number, &mut stream).is_ok()
            {
                number += 1;
            }
        });
        let requests = Requests::new("h", "s", Ids::Random, 1);
        let measured = Duration::from_millis(200);
        let load = Load { address, connections: 1, rate, warm_up: Duration::ZERO, measured };
        run(&load, &requests, || Ok(())).unwrap().0
    }

    #[test]
    fn right_responses_are_counted_even_in_two_pieces() {
        let tally = fire(None, |_, stream| {
            stream.write_all(&OK[..30])?;
            thread::sleep(Duration::from_millis(1));
            stream.write_all(&OK[30..])
        });
        assert!(tally.right > 0);
        assert_eq!(tally.errors, 0, "{:?}", tally.first_error);
        // The request in flight when the window closed counts as a latency, not as throughput.
        assert_eq!(tally.latency.len(), tally.right);
        assert!(tally.right_in_window <= tally.right);
    }

    #[test]
    fn a_wrong_response_is_an_error_and_shown() {
        let wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"status\": \"ok\"}";
        let answer = |n, stream: &mut TcpStream| stream.write_all(if n == 3 { wrong } else { OK });
        let tally = fire(Some(100.0), answer);
        assert_eq!((tally.errors, tally.right), (1, 19));
        assert_eq!(tally.first_error.as_deref(), Some(r#"200 {\"status\": \"ok\"}"#));
    }

    #[test]
    fn a_closed_connection_is_an_error_and_ends_the_run() {
        let tally = fire(None, |_, stream| stream.shutdown(Shutdown::Both));
        assert_eq!((tally.right, tally.errors), (0, 1));
        assert_eq!(tally.first_error.as_deref(), Some("the server closed the connection"));
    }

    #[test]
    fn a_stall_shows_in_every_request_it_delays() {
        let tally = fire(Some(100.0), |number, stream| {
            thread::sleep(Duration::from_millis(if number == 0 { 150 } else { 0 }));
            stream.write_all(OK)
        });
        assert_eq!((tally.right, tally.errors, tally.unsent), (20, 0, 0));
        // Those due during the stall have waited 150, 140, … 10 ms.
        assert!(tally.latency.value_at_quantile(0.5) > 30_000_000);
    }
}
