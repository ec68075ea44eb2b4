//! What the tests stand on: a client that holds every answer to docs/openapi.json, the service in this process,
//! and the service as a process of its own.
//!
//! - [`browser`]: Chromium, driven as a person would.
//! - [`client`]: a blocking HTTP/1.1 client, friendly ([`client::Client`]) or byte by byte
//!   ([`client::Connection`]).
//! - [`chunked`]: an answer whose length is not known before.
//! - [`openapi`]: is this answer a documented one? Called by the client for whatever it reads.
//! - [`messages`]: messages to send and to store; [`reference`]: a store that is a plain map.
//! - [`fake`]: a service that is nothing but its answers.
//! - [`service`]: the whole service on a port of its own, with a store that can be told to fail
//!   ([`service::Faulty`]).
//! - [`postgres`]: a server of PostgreSQL's; [`pooler`]: PgBouncer in front of it.
//! - [`certificates`]: what a server needs for TLS.
//! - [`process`]: the binary as a child, to be killed, stopped and read from.
//! - [`sandbox`]: the binary without some system calls.
//! - [`stream`]: the log as Server-Sent Events.
//! - [`senders`]: senders that go on whatever happens, and what they were promised.
//!
//! Nothing here sleeps until something is ready: [`eventually`] asks again until it is, for at most
//! [`DEADLINE`].
#![allow(dead_code, unused_imports, reason = "each face of the product uses its own part of this")]

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use lyftr::store::{Behind, Store};

pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod chunked;
pub(crate) mod client;
pub(crate) mod fake;
mod messages;
pub(crate) mod openapi;
pub(crate) mod pooler;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod reference;
pub(crate) mod sandbox;
pub(crate) mod senders;
pub(crate) mod service;
pub(crate) mod stream;
mod wait;

pub(crate) use messages::{
    Fate, Messages, events, fates, filled_store, message, message_with, mixed, open_store, parsed, sqlite_url,
};
pub(crate) use wait::{Answer, DEADLINE, eventually};

/// The secret that every service in the tests is started with, unless told otherwise.
pub(crate) const SECRET: &str = "a-secret-for-the-tests-of-lyftr";

/// What the services under test keep their messages with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// SQLite, unless `LYFTR_TEST_STORE` says `postgres`: the same tests for another store.
#[expect(clippy::disallowed_methods, reason = "what is tested is not a setting of the service")]
pub(crate) fn engine() -> Engine {
    match std::env::var("LYFTR_TEST_STORE").as_deref() {
        Ok("postgres") => Engine::Postgres,
        Ok("sqlite") | Err(_) => Engine::Sqlite,
        Ok(other) => panic!("LYFTR_TEST_STORE should be sqlite or postgres: {other}"),
    }
}

/// Whether the services under test keep their messages with SQLite: for a test of what only a file can suffer.
pub(crate) fn on_sqlite() -> bool {
    engine() == Engine::Sqlite
}

/// The value of `X-Signature` for a body, by [`SECRET`].
pub(crate) fn sign(body: &[u8]) -> String {
    lyftr::signature::Key::new(SECRET.as_bytes()).sign(body)
}

/// Says that a test is not run, and why: what it needs, and how to get that. Under CI, which must skip nothing, it
/// fails.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "CI is not a setting of the service")]
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "CI must not skip this test: {why}");
    shout(&format!("SKIPPED: {why}"));
}

/// Says something on standard error, also when the test passes: what goes through `eprintln!` is only shown when
/// it fails.
pub(crate) fn shout(what: &str) {
    drop(writeln!(std::io::stderr(), "\n*** {what} ***\n"));
}

/// A port that the operating system gives to nobody by itself: for a service that is told where to listen, or that
/// comes back again and again.
pub(crate) fn lasting_port() -> u16 {
    let ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000)).take(100);
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("a free port")
}

/// Waits until everything that is stored is in the indexes.
#[track_caller]
pub(crate) fn settle(store: &dyn Store) {
    eventually("the indexes are up to date", || (store.backlog().behind == Behind::default()).then_some(()));
}

/// The names in a folder that begin so, in order.
pub(crate) fn names(folder: &Path, begin: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.starts_with(begin));
    names.sort();
    names
}

/// Compiles a file of `tests/it` with the C compiler that building Lyftr needs anyway.
#[track_caller]
pub(crate) fn compile(source: &str, flags: &[&str], program: &Path) {
    let source: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/it", source].iter().collect();
    let output = Command::new("cc")
        .args(flags)
        .args(["-O1", "-Wall", "-Werror", "-o"])
        .arg(program)
        .arg(source)
        .output();
    let output = output.expect("a C compiler called cc");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
