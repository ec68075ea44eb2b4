//! The binary as a child process, with a folder and a port of its own. Dropping it kills it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Client, Connection};
use super::postgres::Database;
use super::senders::while_sending;
use super::{DEADLINE, Engine, SECRET, engine, eventually, lasting_port};

/// What the child says on one of its outputs, collected by a thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said(Arc<Mutex<String>>);

/// How the binary is to be run. The environment is empty but for what is set here.
#[derive(Debug, Clone)]
pub(crate) struct Builder {
    /// What runs the binary, if anything does, and its own arguments.
    launcher: Vec<String>,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    folder: Option<PathBuf>,
    stdout: Option<Arc<OwnedFd>>,
    /// The database is one of the [`engine`]'s in the place of a file in the folder.
    on_engine: bool,
}

/// A child, which may have ended by itself.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    address: Option<SocketAddr>,
    folder: PathBuf,
    /// Removed with the process, unless the folder was given.
    _own: Option<TempDir>,
    /// Unless it was given.
    database: Option<Database>,
    stdout: Said,
    stderr: Said,
    threads: Vec<JoinHandle<()>>,
}

impl Builder {
    /// Runs in this folder, which outlives it, in the place of a new one. The database is `app.db` in it.
    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.on_engine = false;
        self.folder = Some(folder.to_owned());
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.on_engine &= name != "DATABASE_URL";
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Leaves a variable unset that is set otherwise: `WEBHOOK_SECRET`, `PORT` or `DATABASE_URL`.
    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.on_engine &= name != "DATABASE_URL";
        self.environment.remove(name);
        self
    }

    /// Runs it under a limit of the size of its files that it can raise itself (`ulimit -S -f`), in blocks of 512 bytes.
    pub(crate) fn file_blocks_max(self, blocks: u64) -> Self {
        let limited = format!("ulimit -S -f {blocks} && exec \"$0\" \"$@\"");
        self.under(["sh".to_owned(), "-c".to_owned(), limited].into_iter())
    }

    /// Adds arguments.
    pub(crate) fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Has a program run the binary: its path, then its arguments.
    pub(crate) fn under(mut self, launcher: impl Iterator<Item = String>) -> Self {
        self.launcher.extend(launcher);
        self
    }

    /// The log goes there, and [`Process::log_lines`] has none of it.
    pub(crate) fn stdout(mut self, file: impl Into<OwnedFd>) -> Self {
        self.stdout = Some(Arc::new(file.into()));
        self
    }

    /// Starts the service and waits until it listens.
    #[track_caller]
    pub(crate) fn start(self) -> Process {
        let mut process = self.spawn();
        process.address = Some(process.learn_address());
        process
    }

    /// Starts a service that does not say here where it listens, for its `LOG_LEVEL` or since its log goes elsewhere.
    #[track_caller]
    pub(crate) fn start_silent(self) -> Process {
        let port = lasting_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut process = self.env("PORT", &port.to_string()).spawn();
        eventually("the service listens", || {
            assert!(process.is_running(), "ended: {}", process.stderr());
            TcpStream::connect(address).ok()
        });
        process.address = Some(address);
        process
    }

    /// Runs it and waits for its end: for commands, and for starts that fail.
    #[track_caller]
    pub(crate) fn run(self) -> Finished {
        self.spawn().finish()
    }

    /// Starts it and waits for nothing.
    pub(crate) fn spawn(mut self) -> Process {
        let database = self.on_engine.then(Database::new);
        if let Some(database) = &database {
            self.environment.insert("DATABASE_URL".to_owned(), database.url());
        }
        let own = self.folder.is_none().then(|| tempfile::tempdir().unwrap());
        let folder = self.folder.unwrap_or_else(|| own.as_ref().unwrap().path().to_owned());
        let stdout = self.stdout.map(|file| Stdio::from(file.try_clone().unwrap()));
        let binary = env!("CARGO_BIN_EXE_lyftr").to_owned();
        let mut words = self.launcher.into_iter().chain([binary]).chain(self.arguments);
        let mut child = Command::new(words.next().unwrap())
            .args(words)
            .env_clear()
            .envs(self.environment)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(stdout.unwrap_or_else(Stdio::piped))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, stderr) = (Said::default(), Said::default());
        let mut threads = vec![stderr.collect(child.stderr.take().unwrap())];
        threads.extend(child.stdout.take().map(|output| stdout.collect(output)));
        Process { child, address: None, folder, _own: own, database, stdout, stderr, threads }
    }
}

impl Process {
    /// A service with all defaults, in a new folder, on any free port.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    pub(crate) fn builder() -> Builder {
        let environment = [("WEBHOOK_SECRET", SECRET), ("PORT", "0"), ("DATABASE_URL", "sqlite:///app.db")];
        Builder {
            launcher: Vec::new(),
            arguments: Vec::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            folder: None,
            stdout: None,
            on_engine: engine() == Engine::Postgres,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("a process that listens")
    }

    /// A client with no connection yet.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address())
    }

    /// A new connection, for who wants to send bytes of his own.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    /// Where it runs and has its database.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("app.db")
    }

    /// The database on a server, unless it is a file.
    pub(crate) fn database_on_server(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// Brings the store into trouble from which it does not come back.
    pub(crate) fn break_store(&self) {
        match &self.database {
            Some(database) => drop(database.query("DROP TABLE event CASCADE", &[])),
            None => std::fs::remove_file(self.database()).unwrap(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its memory in bytes, by the name that Linux gives this kind of it.
    pub(crate) fn memory(&self, kind: &str) -> usize {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("Linux's account of a process");
        let line = status.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':')).expect(kind);
        line.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<usize>().ok()).expect("a number of kB")
            << 10
    }

    /// Lets so many senders work while `work` is done, each with a client of its own and one message after the other.
    pub(crate) fn while_sending<T>(
        &self,
        senders: usize,
        send: impl Fn(&mut Client, usize, usize) + Sync,
        work: impl FnOnce() -> T,
    ) -> T {
        let sender = |sender, goes_on: &dyn Fn() -> bool| {
            let mut client = self.client();
            let mut n = 0;
            while goes_on() {
                send(&mut client, sender, n);
                n += 1;
            }
        };
        while_sending(senders, sender, work)
    }

    /// Sends a signal, e.g. `Signal::STOP`.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill9(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        self.child.wait().unwrap();
        self.join();
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// If it does not end within [`DEADLINE`].
    #[track_caller]
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for it to end by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = eventually("the process ends", || self.child.try_wait().unwrap());
        self.join();
        status
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Every line on standard output so far.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        self.stdout.text().lines().map(ToOwned::to_owned).collect()
    }

    /// The same as JSON, which each line must be.
    #[track_caller]
    pub(crate) fn log_values(&self) -> Vec<Value> {
        let parse =
            |line: String| serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}"));
        self.log_lines().into_iter().map(parse).collect()
    }

    /// Everything on standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits for it to end by itself and tells how that was.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let status = self.wait();
        Finished { status, stdout: self.stdout.text(), stderr: self.stderr.text() }
    }

    #[track_caller]
    fn learn_address(&mut self) -> SocketAddr {
        let begin = Instant::now();
        loop {
            for line in self.log_lines() {
                let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}"));
                if line["message"] == "listening" {
                    return line["address"]
                        .as_str()
                        .and_then(|address| address.parse().ok())
                        .expect("an address");
                }
            }
            let ended = self.child.try_wait().unwrap();
            let waits = ended.is_none() && begin.elapsed() < DEADLINE;
            assert!(waits, "does not listen ({ended:?}): {}{}", self.stdout.text(), self.stderr.text());
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Waits until everything that the process said has been collected.
    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// The exit code; none after a signal.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl Said {
    /// As far as whole lines have come, and the last one at the end.
    pub(crate) fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Collects it from this output.
    pub(crate) fn collect(&self, output: impl Read + Send + 'static) -> JoinHandle<()> {
        let said = self.clone();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line);
                said.0.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
                line.clear();
            }
        })
    }
}
