//! The tests' server of PostgreSQL, with the settings of the benchmark.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::machine;
use crate::options::Plan;

#[path = "../../tests/it/support/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is made for tests, which need more of it and may panic")]
mod support;

pub(crate) use support::{Cluster, Database};

/// The settings that the figures are measured with.
pub const SETTINGS: [&str; 5] =
    ["shared_buffers=512MB", "fsync=on", "synchronous_commit=on", "max_wal_size=4GB", "autovacuum=on"];
const DEADLINE: Duration = Duration::from_mins(2);

/// A running server, which ends with this.
pub struct Postgres {
    // Dropped first.
    database: Database,
    cluster: Cluster,
    postmaster: u32,
}

impl Postgres {
    /// Makes and starts a server, with its files in the plan's folder.
    ///
    /// # Panics
    /// If PostgreSQL is not installed or does not start.
    pub fn start(plan: &Plan) -> Result<Self> {
        tempfile::env::override_temp_dir(plan.folder.path())
            .map_err(|taken| anyhow::anyhow!("temporary files already go to {}", taken.display()))?;
        let cluster = Cluster::start(&SETTINGS);
        let file = std::fs::read_to_string(cluster.data().join("postmaster.pid"))?;
        let postmaster = file.lines().next().context("no process id")?.trim().parse()?;
        Ok(Self { database: cluster.database(), cluster, postmaster })
    }

    /// A new database; it is dropped with the result, for which the server writes out its memory.
    pub fn database(&self) -> Database {
        self.cluster.database()
    }

    /// The version of the server.
    pub fn version(&self) -> String {
        self.database.query("SHOW server_version", &[])[0].get(0)
    }

    /// CPU time that all processes of the server have used up to now.
    pub fn cpu_time(&self) -> Result<Duration> {
        machine::family_cpu_time(self.postmaster)
    }

    /// Bytes of the write-ahead log that were ever written.
    pub fn wal_bytes(&self) -> i64 {
        self.database.number("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
    }
}

/// Tries again and again until there is a result: what the tests' server needs of their support.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(begin.elapsed() < DEADLINE, "did not happen within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
