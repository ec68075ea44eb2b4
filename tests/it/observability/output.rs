//! Standard output that takes nothing for a while: what waits, what is lost, and that every line stays whole.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lyftr::telemetry::Log;
use proptest::prelude::*;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde_json::Value;

use crate::damage::disk::Disk;
use crate::support::eventually;
use crate::support::process::Process;

/// More than a pipe holds.
const REQUESTS: usize = 1_500;

#[track_caller]
fn parse(log: &str) -> Vec<Value> {
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line:?}")))
        .collect()
}

#[test]
fn a_pipe_that_another_program_made_nonblocking_loses_no_line_while_its_reader_pauses() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    // Of the open file, so of every process that has it; Node.js does so at its start.
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    let mut process = Process::builder().stdout(writer).start_silent();
    let mut client = process.client();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/health/live").status, 200);
    }
    let dropped = client.metric("log_lines_dropped_total");
    let reader = std::thread::spawn(move || {
        let mut log = String::new();
        reader.read_to_string(&mut log).unwrap();
        log
    });
    assert!(process.terminate().success());
    let lines = parse(&reader.join().unwrap());
    assert_eq!(lines.iter().filter(|line| line["path"] == "/health/live").count(), REQUESTS);
    assert_eq!(dropped, 0.0);
}

#[test]
fn a_command_prints_all_of_its_answer_to_a_pipe_that_does_not_wait() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
    // Full, but for less than a signature.
    let mut full = writer.try_clone().unwrap();
    let mut stuffed = 0;
    for size in [4096, 1] {
        while let Ok(written) = full.write(&[b'x'; 4096][..size]) {
            stuffed += written;
        }
    }
    drop(full);
    let mut process = Process::builder().args(&["sign"]).stdout(writer).spawn();
    // Long enough that it wants to print, in all likelihood; the test holds in any case.
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(10));
        assert!(process.is_running(), "ended without having printed");
    }
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text[stuffed..], format!("{}\n", crate::support::sign(b"")));
    assert_eq!(process.finish().code(), Some(0));
}

#[test]
fn a_full_disk_leaves_every_line_of_the_log_whole() {
    let Some(disk) = Disk::mount("size=256k") else { return };
    let path = disk.path().join("log");
    let log = File::options().create(true).append(true).open(&path).unwrap();
    let mut process = Process::builder().stdout(log).start_silent();
    let mut client = process.client();
    for round in 1..=3 {
        let dropped = client.metric("log_lines_dropped_total");
        disk.while_full(|| {
            eventually("lines are dropped", || {
                (client.metric("log_lines_dropped_total") > dropped).then_some(())
            });
        });
        let id = format!("after-{round}");
        eventually("a line is written again", || {
            client.request("GET", "/health/live", &[("X-Request-ID", &id)], b"");
            std::fs::read_to_string(&path).unwrap().contains(&id).then_some(())
        });
    }
    assert!(process.terminate().success());
    let lines = parse(&std::fs::read_to_string(&path).unwrap());
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

/// What happens to one write.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// At most so many bytes are written.
    Short(usize),
    Interrupted,
    Full,
    /// Neither an error nor a byte.
    Nothing,
}

/// Writes as it is fated, and all when that has come to its end.
struct Fated {
    fates: std::vec::IntoIter<Fate>,
    written: Arc<Mutex<Vec<u8>>>,
}

impl Write for Fated {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let most = match self.fates.next() {
            Some(Fate::Short(most)) => most.min(bytes.len()),
            Some(Fate::Interrupted) => return Err(ErrorKind::Interrupted.into()),
            Some(Fate::Full) => return Err(Error::from(ErrorKind::StorageFull)),
            Some(Fate::Nothing) => 0,
            None => bytes.len(),
        };
        self.written.lock().unwrap().extend_from_slice(&bytes[..most]);
        Ok(most)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => (1..200_usize).prop_map(Fate::Short),
        1 => Just(Fate::Interrupted),
        2 => Just(Fate::Full),
        1 => Just(Fate::Nothing),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn each_line_of_the_log_is_written_whole_or_counted_as_dropped(
        fates in prop::collection::vec(fate(), 0..20),
        lines in 1..30_usize,
    ) {
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let out = Fated { fates: fates.into_iter(), written: Arc::clone(&written) };
        let (log, guard) = Log::start(tracing::Level::INFO, out).unwrap();
        for nth in 0..lines {
            log.request(&lyftr::telemetry::RequestLine {
                level: tracing::Level::INFO,
                request_id: &nth.to_string(),
                method: "GET",
                path: "/stats",
                status: 200,
                latency: Duration::ZERO,
                webhook: None,
            });
            if nth % 7 == 6 {
                // Some in another write.
                std::thread::sleep(Duration::from_millis(3));
            }
        }
        drop(guard);
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        // The last line may still want its end.
        let (whole, begun) = text.split_at(text.rfind('\n').map_or(0, |end| end + 1));
        let ids: Vec<usize> =
            parse(whole).iter().map(|line| line["request_id"].as_str().unwrap().parse().unwrap()).collect();
        prop_assert!(ids.is_sorted(), "{ids:?}");
        let told = ids.len() + usize::try_from(log.dropped()).unwrap() + usize::from(!begun.is_empty());
        prop_assert_eq!(told, lines);
    }
}
