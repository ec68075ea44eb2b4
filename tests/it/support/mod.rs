//! What the tests stand on: a client that holds every answer to docs/openapi.json, the service in this process,
//! and the service as a process of its own.
//!
//! - [`client`]: a blocking HTTP/1.1 client, friendly ([`client::Client`]) or byte by byte
//!   ([`client::Connection`]).
//! - [`openapi`]: is this answer a documented one? Called by the client for whatever it reads.
//! - [`service`]: the whole service on a port of its own, with a store that can be told to fail
//!   ([`service::Faulty`]).
//! - [`postgres`]: a server of PostgreSQL's; [`pooler`]: PgBouncer in front of it.
//! - [`certificates`]: what a server needs for TLS.
//! - [`process`]: the binary as a child, to be killed, stopped and read from.
//! - [`senders`]: senders that go on whatever happens, and what they were promised.
//!
//! Nothing here sleeps until something is ready: [`eventually`] asks again until it is, for at most
//! [`DEADLINE`].
#![allow(dead_code, unused_imports, reason = "each face of the product uses its own part of this")]

use std::io::Write;
use std::time::{Duration, Instant};

use lyftr::store::{Behind, Store};
use serde_json::{Value, json};

pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod openapi;
pub(crate) mod pooler;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod senders;
pub(crate) mod service;

/// The secret that every service in the tests is started with, unless told otherwise.
pub(crate) const SECRET: &str = "a-secret-for-the-tests-of-lyftr";

/// How long a test waits for what must come. Long, so that a slow machine does not fail a test.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

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

/// A valid message from +919876543210 with this id.
pub(crate) fn message(id: &str) -> Value {
    message_with(id, "+919876543210", "2025-01-15T10:00:00Z", Some("Hello"))
}

/// A valid message; `text` of `None` is left out.
pub(crate) fn message_with(id: &str, from: &str, ts: &str, text: Option<&str>) -> Value {
    let mut message = json!({"message_id": id, "from": from, "to": "+14155550100", "ts": ts});
    if let Some(text) = text {
        message["text"] = text.into();
    }
    message
}

/// The value of `X-Signature` for a body, by [`SECRET`].
pub(crate) fn sign(body: &[u8]) -> String {
    lyftr::signature::Key::new(SECRET.as_bytes()).sign(body)
}

/// Numbers that look random, the same on each run.
#[derive(Debug)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    /// A number from 0 to `n` less one.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        // Knuth's linear congruential generator (MMIX); its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
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

/// Asks again and again until there is an answer.
///
/// # Panics
/// After [`DEADLINE`], naming `what`.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < DEADLINE, "did not happen within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until everything that is stored is in the indexes.
#[track_caller]
pub(crate) fn settle(store: &dyn Store) {
    eventually("the indexes are up to date", || (store.behind() == Behind::default()).then_some(()));
}
