//! The servers under load: started as child processes in a fresh directory each, asked whether
//! they are ready, and stopped with SIGTERM by their process id.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fmt, thread};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::response::{self, Answer};

/// The secret that servers and generator share.
pub const SECRET: &str = "a secret for the benchmark only";

const READY_WITHIN: Duration = Duration::from_secs(20);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);
/// Finer, as the time until a server is ready is measured.
const READY_POLL: Duration = Duration::from_millis(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How much of what a server said on its way out is shown.
const LAST_WORDS_BYTES: usize = 500;

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// (a) Lyftr itself.
    Lyftr,
    /// (b) The same HTTP stack doing nothing.
    Noop,
    /// (c) The design Lyftr replaces, as it is commonly written.
    Plain,
    /// (c) The same, tuned.
    Tuned,
    /// Lyftr's HTTP stack, and one statement of PostgreSQL's per request.
    Pool,
}

/// Where the programs are.
#[derive(Debug, Default)]
pub struct Programs {
    /// The `lyftr` binary.
    pub lyftr: PathBuf,
    /// The `noop` binary.
    pub noop: PathBuf,
    /// The `pool` binary.
    pub pool: PathBuf,
    /// The Python of the reference's environment.
    pub python: PathBuf,
    /// The folder of `app.py`.
    pub reference: PathBuf,
}

/// A running server; killed when dropped, and its directory removed if it made it.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
    keeps_directory: bool,
}

impl Kind {
    /// Whether it keeps messages, which can then be counted.
    pub fn stores(self) -> bool {
        self != Self::Noop
    }

    fn health(self) -> &'static str {
        match self {
            Self::Lyftr => "/health/ready",
            Self::Noop | Self::Plain | Self::Tuned | Self::Pool => "/health/live",
        }
    }

    fn command(self, programs: &Programs, port: u16, directory: &Path) -> Command {
        let port = port.to_string();
        match self {
            Self::Lyftr => {
                let mut command = Command::new(&programs.lyftr);
                let database = format!("sqlite:///{}", directory.join("app.db").display());
                command.env("DATABASE_URL", database).env("HOST", "127.0.0.1").env("PORT", port);
                command
            }
            Self::Noop | Self::Pool => {
                let program = if self == Self::Noop { &programs.noop } else { &programs.pool };
                let mut command = Command::new(program);
                command.args(["--port", &port]);
                command
            }
            Self::Plain | Self::Tuned => {
                let mode = if self == Self::Plain { "plain" } else { "tuned" };
                let mut command = Command::new(&programs.python);
                command
                    .args(["-m", "uvicorn", "app:app", "--no-access-log", "--log-level", "warning"])
                    .args(["--host", "127.0.0.1", "--port", &port, "--app-dir"])
                    .arg(&programs.reference)
                    .env("PYTHONDONTWRITEBYTECODE", "1")
                    .env("REFERENCE_MODE", mode)
                    .env("REFERENCE_DATABASE", directory.join("app.db"));
                command
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(match self {
            Self::Lyftr => "(a) lyftr",
            Self::Noop => "(b) noop",
            Self::Plain => "(c) reference, plain",
            Self::Tuned => "(c) reference, tuned",
            Self::Pool => "(b) pool, one INSERT a request",
        })
    }
}

impl Server {
    /// Starts a server in `directory`, which it makes and which must not exist, and waits until
    /// it is ready. Its log goes to a file there, so that every line is written for real.
    pub fn start(kind: Kind, programs: &Programs, directory: PathBuf) -> Result<Self> {
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Self::launch(kind, programs, directory, false, None)
    }

    /// The same with a database of PostgreSQL's in place of a store in the directory.
    pub fn start_on(url: &str, kind: Kind, programs: &Programs, directory: PathBuf) -> Result<Self> {
        fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Self::launch(kind, programs, directory, false, Some(url))
    }

    /// Starts Lyftr on the store in `directory`, or on a new one if there is none, and waits until it is ready.
    /// The directory must be there and stays.
    pub fn open(programs: &Programs, directory: &Path) -> Result<Self> {
        Self::launch(Kind::Lyftr, programs, directory.to_owned(), true, None)
    }

    fn launch(
        kind: Kind,
        programs: &Programs,
        directory: PathBuf,
        keeps_directory: bool,
        database: Option<&str>,
    ) -> Result<Self> {
        let port = free_port()?;
        let mut command = kind.command(programs, port, &directory);
        if let Some(url) = database {
            command.env("DATABASE_URL", url);
        }
        // Nothing of the caller's environment changes what is measured.
        let path = env::var_os("PATH").unwrap_or_default();
        let given: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        let child = command
            .env_clear()
            .env("PATH", path)
            .env("WEBHOOK_SECRET", SECRET)
            .envs(given)
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(File::create(directory.join("stdout.log"))?)
            .stderr(File::create(directory.join("stderr.log"))?)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Self { kind, child, address, directory, keeps_directory };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How many messages it says it holds, by `GET /stats`.
    pub fn total_messages(&self) -> Result<u64> {
        let (status, body) = get(self.address, "/stats").context("no answer to GET /stats")?;
        ensure!(status == 200, "GET /stats was answered {status} {body}");
        total_messages(&body).with_context(|| format!("no total_messages in {body}"))
    }

    /// Stops it with SIGTERM, waits for its end, and returns the number of lines it has logged.
    pub fn stop(mut self) -> Result<u64> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no process id")?, Signal::TERM).context("cannot send SIGTERM")?;
        let deadline = Instant::now() + STOPPED_WITHIN;
        while self.child.try_wait()?.is_none() {
            ensure!(
                Instant::now() < deadline,
                "{} still runs {STOPPED_WITHIN:?} after SIGTERM and is killed",
                self.kind
            );
            thread::sleep(POLL);
        }
        count_lines(&self.directory.join("stdout.log"))
    }

    /// Ends it with SIGKILL, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot send SIGKILL")?;
        self.child.wait()?;
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if matches!(get(self.address, self.kind.health()), Ok((200, _))) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at its start, {status}: {}", self.kind, self.last_words());
            }
            if Instant::now() > deadline {
                bail!("{} is not ready after {READY_WITHIN:?}: {}", self.kind, self.last_words());
            }
            thread::sleep(READY_POLL);
        }
    }

    fn last_words(&self) -> String {
        ["stderr.log", "stdout.log"]
            .iter()
            .filter_map(|name| fs::read(self.directory.join(name)).ok())
            .find(|log| !log.is_empty())
            .map(|log| log[log.len().saturating_sub(LAST_WORDS_BYTES)..].to_vec())
            .map_or_else(
                || "it said nothing".to_owned(),
                |log| String::from_utf8_lossy(&log).trim().to_owned(),
            )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After a clean stop there is no process left, and `kill` knows that; what cannot be
        // killed or removed cannot be helped here either.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.keeps_directory {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// A port nobody listens on, at least a moment ago.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// One GET on a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    match response::read(&bytes) {
        Answer::Whole { status, body, .. } => Ok((status, String::from_utf8_lossy(body).into_owned())),
        Answer::Partial => Err(anyhow!("half an answer")),
        Answer::Broken(reason) => Err(anyhow!(reason)),
    }
}

/// The number behind `"total_messages":`. The rest of the answer is not the benchmark's business,
/// so it needs no JSON parser.
fn total_messages(body: &str) -> Option<u64> {
    let (_, value) = body.split_once(r#""total_messages":"#)?;
    value.split([',', '}']).next()?.trim().parse().ok()
}

fn count_lines(path: &Path) -> Result<u64> {
    let count = || -> io::Result<u64> {
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
        let mut lines = 0;
        while reader.skip_until(b'\n')? > 0 {
            lines += 1;
        }
        Ok(lines)
    };
    count().with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_found_wherever_it_stands() {
        assert_eq!(total_messages(r#"{"total_messages":123,"senders_count":1}"#), Some(123));
        assert_eq!(total_messages(r#"{"senders_count":1,"total_messages": 0}"#), Some(0));
        assert_eq!(total_messages(r#"{"detail":"Not Found"}"#), None);
    }
}
