//! The servers under load: started as child processes, asked whether they are ready, and stopped with SIGTERM.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::{NamedTempFile, TempPath};

use crate::http::Client;
use crate::load::SOURCES;
use crate::options::{PACKAGE, Plan};

/// The secret that servers and generator share, and the `Host` header.
pub const SECRET: &str = "a secret for the benchmark only";
pub const HOST: &str = "127.0.0.1";
/// Longest time that a server may take to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Short, as the time until a server is ready is measured.
const POLL: Duration = Duration::from_millis(1);

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Lyftr,
    /// The same HTTP stack doing nothing.
    Noop,
    /// The same HTTP stack, and one statement of PostgreSQL's per request.
    Pool,
    /// The original design, as it is commonly written.
    Plain,
    /// The same, tuned.
    Tuned,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    child: Child,
    pub address: SocketAddr,
    log: TempPath,
}

/// What matters of the response to a read.
#[derive(Debug, Deserialize)]
pub struct Answer {
    #[serde(alias = "total_messages")]
    pub total: u64,
    pub next: Option<String>,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Lyftr => "(a) lyftr",
            Self::Noop => "(b) noop",
            Self::Pool => "(b) pool, one INSERT a request",
            Self::Plain => "(c) reference, plain",
            Self::Tuned => "(c) reference, tuned",
        }
    }

    /// Whether it keeps messages, which can then be counted.
    pub fn stores(self) -> bool {
        self != Self::Noop
    }

    /// Whether it logs a line for each request.
    pub fn logs(self) -> bool {
        !matches!(self, Self::Noop | Self::Pool)
    }

    fn command(self, plan: &Plan, port: &str) -> Command {
        let beside = |name| plan.here.join(name);
        let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/reference");
        let uvicorn = ["-m", "uvicorn", "app:app", "--no-access-log", "--log-level", "warning"];
        let (program, arguments) = match self {
            Self::Lyftr => (beside("lyftr"), vec![]),
            Self::Noop => (beside("yardstick"), vec!["noop"]),
            Self::Pool => (beside("yardstick"), vec!["pool"]),
            Self::Plain | Self::Tuned => (
                Path::new(PACKAGE).join(".venv/bin/python"),
                [&uvicorn[..], &["--port", port, "--app-dir", reference]].concat(),
            ),
        };
        let mut command = Command::new(program);
        // The caller's environment must not change the figures.
        command.args(arguments).env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
        command.env("REFERENCE_MODE", if self == Self::Tuned { "tuned" } else { "plain" });
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}

/// The URL of the SQLite database in a folder.
pub fn sqlite_url(folder: &Path) -> String {
    format!("sqlite:///{}", folder.join("app.db").display())
}

impl Server {
    /// Starts a server on a database and waits until it is ready. Its log goes to a file, so that every line is written
    /// for real.
    pub fn start(kind: Kind, plan: &Plan, database: &str) -> Result<Self> {
        // Nobody listens on this port, at least a moment ago.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?.local_addr()?;
        let port = address.port().to_string();
        let (output, log) = NamedTempFile::new_in(&plan.folder)?.into_parts();
        let mut command = kind.command(plan, &port);
        let child = command
            .envs([("HOST", HOST), ("PORT", &port), ("DATABASE_URL", database), ("WEBHOOK_SECRET", SECRET)])
            .env("SOURCES", SOURCES)
            .env("ADMIN_TOKEN", SECRET)
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}; build it first", command.get_program().display()))?;
        let mut server = Self { kind, child, address, log };
        server.wait_until_ready()?;
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn get(&self, path: &str) -> Result<String> {
        Ok(Client::connect(self.address)?.get(path)?.to_owned())
    }

    /// How many messages it holds by its own account.
    pub fn total_messages(&self) -> Result<u64> {
        Ok(serde_json::from_str::<Answer>(&self.get("/stats")?)?.total)
    }

    pub fn metrics(&self) -> Result<String> {
        self.get("/metrics")
    }

    /// Stops it with SIGTERM, waits for its end, and returns the number of lines it has logged.
    pub fn stop(mut self) -> Result<usize> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no process id")?, Signal::TERM).context("cannot send SIGTERM")?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "{} still runs {PATIENCE:?} after SIGTERM", self.kind.name());
            thread::sleep(POLL);
        }
        Ok(BufReader::new(File::open(&self.log)?).split(b'\n').count())
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot send SIGKILL")?;
        self.child.wait()?;
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let path = if self.kind == Kind::Lyftr { "/health/ready" } else { "/health/live" };
        let deadline = Instant::now() + PATIENCE;
        while self.get(path).is_err() {
            let ended = self.child.try_wait()?.is_some();
            if ended || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                let state = if ended { "ended at its start" } else { "does not become ready" };
                bail!(
                    "{} {state}: {}",
                    self.kind.name(),
                    log.trim().lines().last().unwrap_or("it logged nothing")
                );
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After a clean stop there is no process left; one that cannot be killed cannot be helped here either.
        let _ = self.kill();
    }
}
