//! One run of load against one server: threads, clock, and what they have counted together.
//!
//! The closed loop asks how much the server can do: every connection sends its next request when
//! the last one is answered. The open loop asks how long a request takes at a given rate: requests
//! fall due by the clock whether or not the server keeps up, and latency counts from the moment a
//! request was due, so that a stall shows in every request it delays (no coordinated omission).

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};

use crate::engine::{Arrivals, Engine, Schedule, Tally};
use crate::request::Requests;

/// Time for all threads to reach their loop before the first request is due.
const RUN_UP: Duration = Duration::from_millis(20);

/// When the requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the answers come.
    Closed,
    /// At a fixed rate, in requests per second.
    Open(f64),
}

/// How to load a server.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections, each with one request in flight at most.
    pub connections: usize,
    /// Threads of the generator that share the connections.
    pub threads: usize,
    /// When the requests are sent.
    pub pace: Pace,
    /// Time under load before the window.
    pub warm_up: Duration,
    /// Length of the measured window.
    pub measured: Duration,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome<T> {
    /// What all threads have counted.
    pub tally: Tally,
    /// What was sampled at the begin of the measured window.
    pub before: T,
    /// What was sampled at its end.
    pub after: T,
}

/// Requests to sign ahead so that a run does not sign while it is measured, for rates of up to
/// 100,000 a second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and a count out of range is only a worse guess"
)]
pub fn requests_needed(warm_up: Duration, measured: Duration, pace: Pace) -> usize {
    const PER_SECOND_MAX: f64 = 100_000.0;
    let per_second = match pace {
        Pace::Closed => PER_SECOND_MAX,
        Pace::Open(per_second) => per_second.min(PER_SECOND_MAX),
    };
    ((warm_up + measured).as_secs_f64() * per_second) as usize
}

/// Loads a server; calls `sample` at the begin and at the end of the measured window.
pub fn run<T>(load: &Load, requests: &Requests, mut sample: impl FnMut() -> Result<T>) -> Result<Outcome<T>> {
    ensure!(load.connections > 0, "at least one connection is needed");
    let threads = load.threads.clamp(1, load.connections);
    let next_index = AtomicU64::new(0);
    let mut engines = (0..threads)
        .map(|thread| {
            let share = share(load.connections, threads, thread);
            let arrivals = arrivals(load.pace, threads, thread)?;
            Engine::connect(load.address, share, arrivals, requests, &next_index)
        })
        .collect::<Result<Vec<_>>>()?;

    let start = Instant::now() + RUN_UP;
    let measure_from = start + load.warm_up;
    let end = measure_from + load.measured;
    let schedule = Schedule { start, measure_from, end };
    thread::scope(|scope| {
        let running: Vec<_> =
            engines.drain(..).map(|engine| scope.spawn(move || engine.run(schedule))).collect();
        sleep_until(measure_from);
        let before = sample()?;
        sleep_until(end);
        let after = sample()?;
        let mut tally = Tally::new()?;
        for thread in running {
            tally.add(thread.join().map_err(|_| anyhow!("a thread of the generator panicked"))??)?;
        }
        Ok(Outcome { tally, before, after })
    })
}

/// How many of `total` connections thread number `thread` gets.
fn share(total: usize, threads: usize, thread: usize) -> usize {
    total / threads + usize::from(thread < total % threads)
}

/// The part of thread number `thread` in the pace of all.
fn arrivals(pace: Pace, threads: usize, thread: usize) -> Result<Arrivals> {
    let Pace::Open(per_second) = pace else {
        return Ok(Arrivals::WhenFree);
    };
    let between = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or_default();
    ensure!(!between.is_zero(), "a rate of {per_second} requests per second is out of range");
    Ok(Arrivals::Every { interval: between.mul_f64(threads as f64), offset: between.mul_f64(thread as f64) })
}

fn sleep_until(instant: Instant) {
    thread::sleep(instant.saturating_duration_since(Instant::now()));
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;
    use crate::request::{Ids, Settings};

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}";

    #[test]
    fn connections_are_shared_without_loss() {
        for (total, threads) in [(1, 1), (7, 3), (64, 2), (256, 5)] {
            let shares: usize = (0..threads).map(|thread| share(total, threads, thread)).sum();
            assert_eq!(shares, total);
        }
    }

    #[test]
    fn threads_take_turns_in_the_open_loop() {
        let Arrivals::Every { interval, offset } = arrivals(Pace::Open(1000.0), 2, 1).unwrap() else {
            unreachable!("the pace is open");
        };
        assert_eq!(interval, Duration::from_millis(2));
        assert_eq!(offset, Duration::from_millis(1));
    }

    #[test]
    fn a_rate_that_is_none_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(arrivals(Pace::Open(rate), 1, 0).is_err(), "{rate}");
        }
    }

    #[test]
    fn signatures_are_made_for_the_whole_run() {
        let second = Duration::from_secs(1);
        assert_eq!(requests_needed(second, 9 * second, Pace::Closed), 1_000_000);
        assert_eq!(requests_needed(second, second, Pace::Open(500.0)), 1_000);
    }

    /// Serves one connection: reads requests by their length and hands each to `answer`, which
    /// writes what it likes.
    fn serve(answer: impl Fn(usize, &mut TcpStream) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            for number in 0.. {
                // The generator sends a request in one write and waits for the answer.
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => return,
                    Ok(_) => answer(number, &mut stream),
                }
            }
        });
        address
    }

    fn fire(address: SocketAddr, pace: Pace) -> Tally {
        let settings = Settings { host: "h", secret: "s", ids: Ids::Random, seed: 1, first: 0 };
        let requests = Requests::new(settings).unwrap();
        let measured = Duration::from_millis(200);
        let load = Load { address, connections: 1, threads: 1, pace, warm_up: Duration::ZERO, measured };
        run(&load, &requests, || Ok(())).unwrap().tally
    }

    #[test]
    fn right_answers_are_counted_even_in_two_pieces() {
        let tally = fire(
            serve(|_, stream| {
                stream.write_all(&OK[..30]).unwrap();
                thread::sleep(Duration::from_millis(1));
                stream.write_all(&OK[30..]).unwrap();
            }),
            Pace::Closed,
        );
        assert!(tally.right > 0);
        assert_eq!(tally.errors, 0, "{:?}", tally.first_error);
        // The request in flight when the window closed counts as a latency, not as throughput.
        assert_eq!(tally.latency.len(), tally.right);
        assert!(tally.right_in_window <= tally.right);
    }

    #[test]
    fn a_wrong_answer_is_an_error_and_shown() {
        let tally = fire(
            serve(|number, stream| {
                let wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"status\": \"ok\"}";
                stream.write_all(if number == 3 { wrong } else { OK }).unwrap();
            }),
            Pace::Open(100.0),
        );
        assert_eq!(tally.errors, 1);
        assert_eq!(tally.right, 19);
        assert_eq!(tally.first_error.as_deref(), Some(r#"200 {"status": "ok"}"#));
    }

    #[test]
    fn a_closed_connection_is_an_error_and_ends_the_run() {
        let address = serve(|_, stream| stream.shutdown(Shutdown::Both).unwrap());
        let tally = fire(address, Pace::Closed);
        assert_eq!((tally.right, tally.errors), (0, 1));
        assert_eq!(tally.first_error.as_deref(), Some("the server closed the connection"));
    }

    #[test]
    fn a_stall_shows_in_every_request_it_delays() {
        let tally = fire(
            serve(|number, stream| {
                if number == 0 {
                    thread::sleep(Duration::from_millis(150));
                }
                stream.write_all(OK).unwrap();
            }),
            Pace::Open(100.0),
        );
        assert_eq!((tally.right, tally.errors, tally.unsent), (20, 0, 0));
        // Those due during the stall have waited 150, 140, … 10 ms.
        assert!(tally.latency.value_at_quantile(0.5) > 30_000_000);
    }
}
