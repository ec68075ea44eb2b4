//! The tests' server of PostgreSQL, with the settings of the benchmark.

use std::time::Duration;

use anyhow::{Result, anyhow};

use crate::machine;
use crate::options::Plan;

#[path = "../../tests/it/support/postgres.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is made for tests, which need more of it and may panic")]
mod support;
#[path = "../../tests/it/support/wait.rs"]
mod wait;

pub(crate) use support::{Cluster, Database};
use wait::eventually;

/// The settings that the figures are measured with.
pub const SETTINGS: [&str; 5] =
    ["shared_buffers=512MB", "fsync=on", "synchronous_commit=on", "max_wal_size=4GB", "autovacuum=on"];

/// A running server, which ends with this.
pub struct Postgres {
    // Dropped first.
    database: Database,
    cluster: Cluster,
}

impl Postgres {
    /// Makes and starts a server, with its files in the plan's folder. Panics if PostgreSQL is not installed.
    pub fn start(plan: &Plan) -> Result<Self> {
        tempfile::env::override_temp_dir(plan.folder.path())
            .map_err(|taken| anyhow!("temporary files already go to {}", taken.display()))?;
        let cluster = Cluster::start(&SETTINGS);
        Ok(Self { database: cluster.database(), cluster })
    }

    /// A new database; it is dropped with the result, for which the server writes out its memory.
    pub fn database(&self) -> Database {
        self.cluster.database()
    }

    pub fn version(&self) -> String {
        self.database.query("SHOW server_version", &[])[0].get(0)
    }

    /// CPU time that all processes of the server have used up to now.
    pub fn cpu_time(&self) -> Result<Duration> {
        machine::family_cpu_time(self.cluster.server_id().try_into()?)
    }

    /// Bytes of the write-ahead log that were ever written.
    pub fn wal_bytes(&self) -> i64 {
        self.database.number("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
    }
}
