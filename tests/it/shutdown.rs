//! How the service stops, and how it refuses to start: what it answers, what it says, and what it leaves behind.

use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use lyftr::query::{Filter, Page};
use lyftr::server::Limits;
use rusqlite::Connection as Database;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::client::{Connection, request, signed};
use crate::support::process::Process;
use crate::support::service::{Fault, Service};
use crate::support::{eventually, message, names, sign};

/// What every stop has to keep to, whatever the clients do.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends one new message after the other over one connection, until the service ends that.
struct Load {
    answered: AtomicUsize,
    acknowledged: Mutex<Vec<String>>,
    signalled: AtomicBool,
}

impl Load {
    fn send_until_closed(&self, name: usize, mut connection: Connection) {
        for n in 0.. {
            let id = format!("{name} {n}");
            if connection.try_write(signed(message(&id).to_string().as_bytes())).is_err() {
                break;
            }
            let in_time = !self.signalled.load(SeqCst);
            let Some(reply) = connection.reply_or_end("POST", "/webhook") else {
                assert!(!in_time, "{id} had been sent in full before the signal, and was not answered");
                break;
            };
            self.answered.fetch_add(1, SeqCst);
            assert_eq!(reply.line(), r#"200 {"status":"ok"}"#);
            self.acknowledged.lock().unwrap().push(id);
            if reply.header("connection") == Some("close") {
                break;
            }
        }
    }
}

/// The ids in the database, which nobody else has open.
fn stored(process: &Process) -> Vec<String> {
    if let Some(database) = process.database_on_server() {
        let rows = database.query("SELECT message_id FROM message ORDER BY message_id", &[]);
        return rows.iter().map(|row| row.get(0)).collect();
    }
    let database = Database::open(process.database()).unwrap();
    let mut query = database.prepare("SELECT message_id FROM message ORDER BY message_id").unwrap();
    query.query_map((), |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

fn assert_one_file(process: &Process) {
    if process.database_on_server().is_some() {
        return;
    }
    let mut names = names(process.folder(), "");
    // The index can be made anew, and the lock holds nothing.
    let derived = ["app.db-index", "app.db-texts"];
    names.retain(|name| !derived.iter().any(|file| name.starts_with(file)) && name != "app.db-lock");
    assert_eq!(names, ["app.db"], "every message is in the database, and none beside it");
}

/// Each line is JSON, which `log_values` sees to, and the last one says that this is the end.
#[track_caller]
fn assert_stopped(process: &Process, status: ExitStatus) -> Vec<Value> {
    let lines = process.log_values();
    assert_eq!(status.code(), Some(0), "{status:?} {:?} {}", lines.last(), process.stderr());
    assert_eq!(lines.last().unwrap()["message"], "stopped");
    assert!(lines.iter().any(|line| line["message"] == "stopping"));
    assert_eq!(process.stderr(), "");
    lines
}

fn stop_under_load(signal: Signal) {
    const SENDERS: usize = 8;
    let mut process = Process::start();
    let load = Load {
        answered: AtomicUsize::new(0),
        acknowledged: Mutex::default(),
        signalled: AtomicBool::new(false),
    };
    let status = std::thread::scope(|scope| {
        for name in 0..SENDERS {
            let (load, connection) = (&load, process.connect());
            scope.spawn(move || load.send_until_closed(name, connection));
        }
        eventually("some load", || (load.answered.load(SeqCst) > 100).then_some(()));
        load.signalled.store(true, SeqCst);
        process.signal(signal);
        process.wait()
    });
    let lines = assert_stopped(&process, status);
    assert_one_file(&process);
    let mut acknowledged = load.acknowledged.into_inner().unwrap();
    acknowledged.sort();
    // Whatever was stored was answered too, since every connection lived to read its answer.
    assert_eq!(stored(&process), acknowledged);
    let logged = lines.iter().filter(|line| line["path"] == "/webhook" && line["status"] == 200).count();
    assert_eq!(logged, acknowledged.len(), "one line in the log for each answer");
}

#[test]
fn sigterm_under_load_answers_what_has_arrived_and_loses_nothing() {
    stop_under_load(Signal::TERM);
}

#[test]
fn sigint_under_load_answers_what_has_arrived_and_loses_nothing() {
    stop_under_load(Signal::INT);
}

#[test]
fn pipelined_requests_are_all_answered_before_the_shutdown() {
    const COUNT: usize = 100;
    // However slow this machine is.
    let never = Duration::from_mins(10);
    let limits = Limits { pipelined_timeout: never, drain_timeout: never, ..Limits::default() };
    let mut service = Service::builder().limits(limits).start();
    service.faulty().inserts.all(Fault::Block);
    let requests: Vec<u8> =
        (0..COUNT).flat_map(|n| signed(message(&format!("{n:03}")).to_string().as_bytes())).collect();
    let mut connection = service.connect();
    connection.write(requests);
    service.faulty().inserts.wait_blocked(1);
    service.begin_stop();
    service.faulty().heal();
    for n in 0..COUNT {
        assert_eq!(connection.reply("POST", "/webhook").status, 200, "request {n}");
    }
    connection.expect_end();
    let listing = service.store().list(&Filter::default(), &Page::default()).unwrap();
    assert_eq!(listing.total, COUNT as u64);
}

#[test]
fn a_body_on_its_way_is_still_read_during_the_shutdown_and_probes_tell_of_it() {
    let mut process = Process::start();
    let body = message("late").to_string();
    let (begin, end) = body.split_at(20);
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: x\r\nX-Signature: {}\r\nContent-Length: {}\r\n\r\n{begin}",
        sign(body.as_bytes()),
        body.len()
    );
    let mut late = process.connect();
    late.write(head);
    let mut probe = process.connect();
    let mut ready = || {
        probe.write(request("GET", "/health/ready", &[], b""));
        probe.reply("GET", "/health/ready")
    };
    assert_eq!(ready().status, 200);
    process.signal(Signal::TERM);
    let refusal = eventually("the probe says so", || Some(ready()).filter(|reply| reply.status != 200));
    assert_eq!(refusal.line(), r#"503 {"status":"not_ready","detail":"the service is stopping"}"#);
    late.write(end);
    assert_eq!(late.reply("POST", "/webhook").line(), r#"200 {"status":"ok"}"#);
    let status = process.wait();
    assert_stopped(&process, status);
    assert_eq!(stored(&process), ["late"]);
}

/// Stops a process while this is going on, and tells how long that took.
fn stop(process: &mut Process) -> Duration {
    let begin = Instant::now();
    let status = process.terminate();
    let took = begin.elapsed();
    println!("stopped in {took:?}");
    assert_stopped(process, status);
    assert_one_file(process);
    took
}

#[test]
fn connections_that_wait_to_be_accepted_are_answered_before_the_shutdown() {
    let mut process = Process::start();
    // The operating system takes in connections and requests of which the service knows nothing yet.
    process.signal(Signal::STOP);
    let mut connections: Vec<_> = (0..100).map(|_| process.connect()).collect();
    for (n, connection) in connections.iter_mut().enumerate() {
        connection.write(signed(message(&format!("m{n:02}")).to_string().as_bytes()));
    }
    process.signal(Signal::TERM);
    process.signal(Signal::CONT);
    for connection in &mut connections {
        assert_eq!(connection.reply("POST", "/webhook").status, 200);
    }
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!(stored(&process).len(), 100);
}

#[test]
fn half_a_header_does_not_hold_up_the_shutdown() {
    let mut process = Process::start();
    let mut connections: Vec<_> = (0..20).map(|_| process.connect()).collect();
    for connection in &mut connections {
        connection.write("POST /webhook HTTP/1.1\r\nHost: x\r\nX-Sig");
    }
    let took = stop(&mut process);
    assert!(took < STOP_TIMEOUT, "{took:?}");
}

#[test]
fn half_a_body_does_not_hold_up_the_shutdown() {
    let mut process = Process::start();
    let mut client = process.client();
    let mut connections: Vec<_> = (0..20).map(|_| process.connect()).collect();
    for connection in &mut connections {
        let signature = "0".repeat(64);
        connection.write(format!(
            "POST /webhook HTTP/1.1\r\nHost: x\r\nX-Signature: {signature}\r\nContent-Length: 100\r\n\r\n{{\"half"
        ));
    }
    client.store(&message("beside them"));
    let took = stop(&mut process);
    assert!(took < STOP_TIMEOUT, "{took:?}");
    assert_eq!(stored(&process), ["beside them"]);
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_the_shutdown() {
    let mut process = Process::start();
    let mut connection = process.connect();
    connection.stream().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    // Asks until the service takes no more, because nothing is read of its answers.
    let question = request("GET", "/metrics", &[], b"").repeat(100);
    eventually("the connection is blocked", || connection.try_write(&question).err());
    let took = stop(&mut process);
    assert!(took < STOP_TIMEOUT, "{took:?}");
}

#[test]
fn idle_connections_do_not_hold_up_the_shutdown() {
    let mut process = Process::start();
    let mut clients: Vec<_> = (0..20).map(|_| process.client()).collect();
    for client in &mut clients {
        client.json("/stats");
    }
    let never_used: Vec<_> = (0..20).map(|_| process.connect()).collect();
    let took = stop(&mut process);
    drop((clients, never_used));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_service_without_connections_stops_at_once() {
    let mut process = Process::start();
    process.client().store(&message("m"));
    let took = stop(&mut process);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(stored(&process), ["m"]);
}

#[test]
fn a_service_without_a_secret_says_so_and_does_not_start() {
    for builder in
        [Process::builder().env_remove("WEBHOOK_SECRET"), Process::builder().env("WEBHOOK_SECRET", "")]
    {
        let finished = builder.run();
        assert!(finished.code().is_some_and(|code| code != 0), "{finished:?}");
        assert!(finished.stderr.contains("WEBHOOK_SECRET is not set"), "{finished:?}");
        assert_eq!(finished.stdout, "", "the log is for a service that runs");
    }
}

#[test]
fn a_service_whose_port_is_in_use_says_so_and_does_not_start() {
    let first = Process::start();
    let port = first.address().port().to_string();
    let finished = Process::builder().env("PORT", &port).run();
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let error = lines.last().unwrap();
    assert_eq!(error["level"], "ERROR");
    let why = error["error"].as_str().unwrap();
    assert!(
        why.contains(&format!("cannot listen on 127.0.0.1:{port}")) && why.contains("set HOST and PORT"),
        "{why}"
    );
}
