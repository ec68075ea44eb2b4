//! A server of PostgreSQL's for the tests alone, on a Unix socket: its programs as user `postgres`, from what is
//! installed. It ends with the process that started it, however that ends.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};

use super::eventually;

/// Runs the server until a line comes that says to end it, or the process that would say so has ended: then its files
/// go too.
const GUARD: &str = r#"
    "$0" "$@" & server=$!
    read -r told
    kill -QUIT $(head -1 "$PGDATA/postmaster.pid") 2>/dev/null
    wait $server
    [ "$told" ] || rm -rf "${PGDATA%/*}"
"#;

/// A server.
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    settings: Vec<String>,
    place: Place,
    server: Option<Child>,
}

/// Where a server listens: the folder of its socket, and the port, which is part of the socket's name.
#[derive(Debug, Clone)]
struct Place {
    folder: PathBuf,
    port: u16,
}

/// A database on a server; it is dropped with this.
#[derive(Debug)]
pub(crate) struct Database {
    place: Place,
    name: String,
}

/// A connection past Lyftr that stays open.
pub(crate) struct Session {
    runtime: Runtime,
    client: Client,
}

impl Cluster {
    /// The server that tests share which do not hurt it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// A new server with these settings, e.g. `fsync=off`.
    ///
    /// # Panics
    /// If PostgreSQL is not installed; says what to install.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let mut cluster = Self::make(5432, settings);
        cluster.run();
        cluster
    }

    /// A new server that listens at this port of the machine too, with a certificate and its key.
    pub(crate) fn start_with_tls(port: u16, certificate: &str, key: &str) -> Self {
        let mut cluster = Self::make(port, &["listen_addresses=127.0.0.1", "ssl=on"]);
        cluster.set_certificate(certificate, key);
        cluster.run();
        cluster
    }

    /// Adds a setting, which counts from the next start on.
    pub(crate) fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// Has the server show this certificate from its next start on.
    pub(crate) fn set_certificate(&self, certificate: &str, key: &str) {
        for (name, content) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.data().join(name);
            std::fs::write(&file, content).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = other_user() {
                chown(&file, Some(user), Some(group)).unwrap();
            }
        }
    }

    fn make(port: u16, settings: &[&str]) -> Self {
        let folder = folder();
        let programs = programs();
        if let Some((user, group)) = other_user() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let place = Place { folder: folder.path().to_owned(), port };
        let cluster = Self {
            folder,
            place,
            programs,
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            server: None,
        };
        let made = cluster
            .program("initdb")
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster
    }

    /// Starts the server, again if it was stopped, and waits until it takes connections.
    pub(crate) fn run(&mut self) {
        let mut guard = Command::new("sh");
        guard.arg("-c").arg(GUARD).arg(self.programs.join("postgres"));
        let Place { folder, port } = &self.place;
        let fixed = ["listen_addresses=", "max_connections=300", "log_min_messages=fatal"];
        guard.arg("-k").arg(folder).args(["-p", &port.to_string()]);
        for setting in fixed.into_iter().chain(self.settings.iter().map(String::as_str)) {
            guard.args(["-c", setting]);
        }
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        self.as_other(&mut guard).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.server = Some(guard.spawn().unwrap());
        eventually("PostgreSQL takes connections", || {
            self.place.query("postgres", "SELECT 1", &[]).ok().map(drop)
        });
    }

    /// Kills all of the server as a power cut would, and waits until it is gone: a process of it that still ends
    /// would keep the next server from starting on these files.
    pub(crate) fn kill9(&mut self) {
        let id = self.server_id();
        // Halted first, so that it starts no process that is not listed.
        let _gone = kill_process(Pid::from_raw(id).unwrap(), Signal::STOP);
        let family: Vec<_> = std::iter::once(id).chain(children(id)).collect();
        for &process in &family {
            // One may have ended by itself.
            let _gone = kill_process(Pid::from_raw(process).unwrap(), Signal::KILL);
        }
        self.end();
        eventually("all of PostgreSQL is gone", || family.iter().all(|&id| !runs(id)).then_some(()));
    }

    /// Stops the server in good order, without waiting for those who are connected.
    pub(crate) fn stop(&mut self) {
        kill_process(Pid::from_raw(self.server_id()).unwrap(), Signal::INT).unwrap();
        self.end();
    }

    /// Sends all processes of the server a signal, e.g. `Signal::STOP`.
    pub(crate) fn signal(&self, signal: Signal) {
        let id = self.server_id();
        for process in std::iter::once(id).chain(children(id)) {
            let _gone = kill_process(Pid::from_raw(process).unwrap(), signal);
        }
    }

    /// A new database.
    pub(crate) fn database(&self) -> Database {
        Database::make(&self.place, "template1")
    }

    /// Runs a program of PostgreSQL's on a database, as user `postgres`. What it prints goes into a file, if one is named.
    #[track_caller]
    pub(crate) fn tool(&self, name: &str, database: &Database, arguments: &[&str], into: Option<&str>) {
        self.try_tool(name, database, arguments, into).unwrap();
    }

    /// The same, where it may fail: what it says then.
    pub(crate) fn try_tool(
        &self,
        name: &str,
        database: &Database,
        arguments: &[&str],
        into: Option<&str>,
    ) -> Result<(), String> {
        let Place { folder, port } = &self.place;
        let mut program = Command::new(self.programs.join(name));
        program.arg("-h").arg(folder).args([
            "-p",
            &port.to_string(),
            "-U",
            "postgres",
            "-d",
            database.name(),
        ]);
        program.args(into.iter().flat_map(|file| ["-f", file])).args(arguments);
        let done = program.output().unwrap();
        if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
    }

    /// A new database with the name of one on another server.
    pub(crate) fn database_like(&self, other: &Database) -> Database {
        self.place.query("postgres", &format!("CREATE DATABASE {}", other.name), &[]).unwrap();
        Database { place: self.place.clone(), name: other.name.clone() }
    }

    /// The socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.place.folder.join(format!(".s.PGSQL.{}", self.place.port))
    }

    /// The folder of the server's files.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The process id of the server.
    pub(crate) fn server_id(&self) -> i32 {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().trim().parse().unwrap()
    }

    fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _gone = server.stdin.take().unwrap().write_all(b"end\n");
            server.wait().unwrap();
        }
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        self.as_other(&mut command);
        command
    }

    /// As a user that PostgreSQL is willing to run as.
    fn as_other<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if let Some((user, group)) = other_user() {
            command.uid(user).gid(group);
        }
        command.env("PGDATA", self.data()).current_dir(self.folder.path())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
    }
}

impl Database {
    /// On the server that tests share.
    pub(crate) fn new() -> Self {
        Cluster::shared().database()
    }

    fn make(place: &Place, template: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        place.query("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"), &[]).unwrap();
        Self { place: place.clone(), name }
    }

    /// A copy that the server makes, once nobody is connected any more.
    pub(crate) fn copy(&self) -> Self {
        let others = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", self.name);
        eventually("all connections have ended", || {
            let left: i64 = self.place.query("postgres", &others, &[]).unwrap()[0].get(0);
            (left == 0).then_some(())
        });
        Self::make(&self.place, &self.name)
    }

    /// For another server, as user `postgres`.
    pub(crate) fn connection_string(&self) -> String {
        let Place { folder, port } = &self.place;
        format!("host={} port={port} user=postgres dbname={}", folder.display(), self.name)
    }

    /// For `DATABASE_URL`.
    pub(crate) fn url(&self) -> String {
        self.place.url(&self.name)
    }

    /// Where its server listens, as it stands in a URL.
    pub(crate) fn host(&self) -> String {
        self.place.host()
    }

    /// Its name on the server.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs a statement, past Lyftr.
    #[track_caller]
    pub(crate) fn query(&self, sql: &str, given: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        self.place.query(&self.name, sql, given).unwrap()
    }

    /// A connection past Lyftr.
    pub(crate) fn session(&self) -> Session {
        self.place.connect(&self.name).unwrap()
    }

    /// A session that is about to store a message with this id: a batch with the same one waits for what becomes of it.
    pub(crate) fn session_that_stores(&self, id: &str) -> Session {
        let session = self.session();
        session.run("BEGIN");
        session.run(&format!(
            "INSERT INTO message (message_id, seq, sender, recipient, ts_second, ts_nanosecond, ts_digits)
             VALUES ('{id}', 0, '+1', '+2', 0, 0, 0)"
        ));
        session
    }

    /// Waits until a batch waits for somebody else.
    pub(crate) fn until_a_batch_waits(&self) {
        eventually("the batch waits", || {
            (self.number("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0).then_some(())
        });
    }

    /// For `DATABASE_URL`, of a database with another name on the same server.
    pub(crate) fn url_of(&self, name: &str) -> String {
        self.place.url(name)
    }

    /// A number, by a statement past Lyftr.
    #[track_caller]
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.query(sql, &[])[0].get(0)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The server may be gone.
        drop(self.place.query("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name), &[]));
    }
}

impl Place {
    fn host(&self) -> String {
        format!("{}:{}", self.folder.display().to_string().replace('/', "%2F"), self.port)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.host())
    }

    fn connect(&self, database: &str) -> Result<Session, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).port(self.port).user("postgres").dbname(database);
        let client = runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            Ok(client)
        })?;
        Ok(Session { runtime, client })
    }

    fn query(
        &self,
        database: &str,
        sql: &str,
        given: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let session = self.connect(database)?;
        session.runtime.block_on(session.client.query(sql, given))
    }
}

impl Session {
    /// One past Lyftr by a URL, e.g. of a pooler.
    pub(crate) fn open(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        Self { runtime, client }
    }

    /// A setting as it is now.
    #[track_caller]
    pub(crate) fn show(&self, setting: &str) -> String {
        let said = self.runtime.block_on(self.client.simple_query(&format!("SHOW {setting}"))).unwrap();
        let value = said.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
            _ => None,
        });
        value.unwrap()
    }

    /// Runs statements.
    #[track_caller]
    pub(crate) fn run(&self, sql: &str) {
        self.try_run(sql).unwrap();
    }

    /// Runs statements that the server may refuse.
    pub(crate) fn try_run(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(self.client.batch_execute(sql))
    }
}

/// A folder for a server's files, in memory where there is room: none of them is to outlive the machine, and a server that
/// drops a database syncs all that it has.
fn folder() -> TempDir {
    const ROOM_BYTES: u64 = 2 << 30;
    let memory = Path::new("/dev/shm");
    let has_room =
        rustix::fs::statvfs(memory).is_ok_and(|space| space.f_bavail * space.f_frsize > ROOM_BYTES);
    let mut builder = tempfile::Builder::new();
    builder.prefix("lyftr-pg");
    if has_room { builder.tempdir_in(memory) } else { builder.tempdir() }.unwrap()
}

/// The folder of the programs of the newest PostgreSQL here.
fn programs() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|version| version.unwrap().path().join("bin"))
        .filter(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is not installed; to run these tests: apt-get install postgresql-15")
}

/// The number of the user and the group `postgres`, for a test that is run by root, whom PostgreSQL refuses.
pub(crate) fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::File::open("/etc/passwd").unwrap();
    let line = BufReader::new(users).lines().map(Result::unwrap).find(|line| line.starts_with("postgres:"));
    let line = line.expect("there is no user postgres; to run these tests: apt-get install postgresql-15");
    let mut fields = line.split(':').skip(2).map(|field| field.parse().unwrap());
    Some((fields.next()?, fields.next()?))
}

/// The numbers of the processes that a process has started.
fn children(id: i32) -> Vec<i32> {
    let file = format!("/proc/{id}/task/{id}/children");
    let listed = std::fs::read_to_string(file).unwrap_or_default();
    listed.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

/// Whether a process has not ended; one that nobody has waited for has.
fn runs(id: i32) -> bool {
    let listed = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The state comes after the name, which stands in parentheses: proc_pid_stat(5).
    listed.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}
