//! Limits of the system's: to the size of a file (`ulimit -f`), which ends a process that does not expect it, and to
//! memory, so that no thread can be started.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{assert_ailing, assert_heals, assert_kept, assert_refused};
use crate::support::process::Process;
use crate::support::{eventually, message, message_with};

/// 256 KiB.
const BLOCKS: u64 = 512;
const REASON: &str = "limit of its size";
/// So large that half of it is more than the service asks for while the test runs: what it cannot have ends it.
const STACK_BYTES: u64 = 512 << 20;

fn limit(process: &Process, resource: Resource, current: Option<u64>) {
    let pid = Pid::from_raw(process.id().try_into().unwrap());
    prlimit(pid, resource, Rlimit { current, maximum: None }).unwrap();
}

#[test]
fn a_limit_to_the_size_of_a_file_refuses_messages_and_nothing_else() {
    let mut process = Process::builder().file_blocks_max(BLOCKS).start();
    let mut client = process.client();
    let mut expected = vec!["after".to_owned(), "refused".to_owned()];
    let text = "x".repeat(4000);
    let mut refused = 0;
    // After the first refusal the log may begin anew, so it is refused for good a little later.
    for n in 0.. {
        let id = format!("{n:04}");
        let reply = client.send(&message_with(&id, "+1", "2025-01-15T10:00:00Z", Some(&text)));
        if reply.status == 200 {
            expected.push(id);
            refused = 0;
        } else {
            assert_refused(&reply);
            refused += 1;
        }
        assert_eq!(client.json("/messages?limit=1")["total"], expected.len() - 2, "reads go on");
        if refused == 5 {
            break;
        }
    }
    assert_ailing(&mut client, REASON);
    process.kill9();

    // The log is as large as may be, so that a start cannot write to it.
    let mut process = Process::builder().folder(process.folder()).file_blocks_max(BLOCKS).start();
    let mut client = process.client();
    for _ in 0..2 {
        assert_ailing(&mut client, REASON);
        assert_eq!(client.json("/messages?limit=1")["total"], expected.len() - 2);
        assert_eq!(client.json("/stats")["total_messages"], expected.len() - 2);
    }
    let finished = Process::builder().folder(process.folder()).file_blocks_max(BLOCKS).args(&["check"]).run();
    assert!(finished.stdout.contains("sound"), "{finished:?}");

    limit(&process, Resource::Fsize, None);
    assert_heals(&mut client);
    expected.sort();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    assert_kept(&mut process, &expected);
}

#[test]
fn a_command_ends_with_an_error_at_the_limit() {
    let mut process = Process::start();
    let mut client = process.client();
    let text = "x".repeat(4000);
    for n in 0..100 {
        client.store(&message_with(&n.to_string(), "+1", "2025-01-15T10:00:00Z", Some(&text)));
    }
    let backup = |blocks| {
        let command = Process::builder().folder(process.folder()).file_blocks_max(blocks);
        command.args(&["backup", "copy.db"]).run()
    };
    let finished = backup(256);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    assert!(!process.folder().join("copy.db").exists());
    assert_eq!(backup(1 << 20).code(), Some(0));
    client.store(&message("after"));
    process.terminate();
}

#[test]
fn the_service_is_ready_again_after_no_thread_could_be_started() {
    // Enough memory is left for all that is not a thread, and not enough for a thread's stack.
    let process = Process::builder().env("RUST_MIN_STACK", &STACK_BYTES.to_string()).start();
    // The service has the threads of its own by then, without which it does not run.
    eventually("it is ready", || (process.client().get("/health/ready").status == 200).then_some(()));
    limit(&process, Resource::As, Some(process.memory("VmSize") as u64 + STACK_BYTES / 2));
    for _ in 0..3 {
        let mut asking = TcpStream::connect(process.address()).unwrap();
        let request = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        // Whatever is answered, or nothing.
        drop(asking.write_all(request.as_bytes()).and_then(|()| asking.read_to_end(&mut Vec::new())));
    }
    limit(&process, Resource::As, None);
    eventually("it is ready again", || (process.client().get("/health/ready").status == 200).then_some(()));
    process.client().store(&message("after"));
}
