//! A server of PostgreSQL's for the benchmark alone, on a Unix socket, its programs as user `postgres` where the
//! benchmark runs as root. It ends, and its files go, with the process that started it, however that ends.

use std::fs::{self, File};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Row};

use crate::procfs;
use crate::scale::questions::{Counts, Question};

/// What the figures are measured with.
pub const SETTINGS: [&str; 5] =
    ["shared_buffers=512MB", "fsync=on", "synchronous_commit=on", "max_wal_size=4GB", "autovacuum=on"];
/// Makes a cluster and runs its server until the standard input ends, then removes the files. What is run is in `$AS`
/// as another user, if it must be one.
const GUARD: &str = r#"
    if $AS "$PROGRAMS/initdb" -D "$DATA" --username=postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync
    then
        $AS "$PROGRAMS/postgres" -D "$DATA" "$@" & server=$!
        read -r _
        kill -QUIT $server
        wait $server
    else
        : > failed
        read -r _
    fi
    cd / && rm -rf "$FILES"
"#;
const INSTALLED: &str = "/usr/lib/postgresql";
const PORT: u16 = 5432;
const STARTED_WITHIN: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(50);
/// Longest path of a Unix socket on Linux.
const SOCKET_PATH_MAX: usize = 107;
/// How much of the server's log is shown when it does not start.
const LAST_WORDS_BYTES: usize = 500;

/// A server.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    guard: Child,
    postmaster: u32,
    version: String,
}

/// A database on a server.
#[derive(Clone, Debug)]
pub struct Database {
    folder: PathBuf,
    name: String,
}

/// A connection past Lyftr.
pub struct Session {
    runtime: Runtime,
    client: Client,
}

impl Cluster {
    /// Makes and starts a server in `scratch`, which is removed with it. `programs` are those of the newest
    /// installed PostgreSQL when nothing is said.
    pub fn start(scratch: &Path, programs: Option<&Path>) -> Result<Self> {
        let programs = programs.map_or_else(newest_programs, |programs| Ok(programs.to_owned()))?;
        let folder = scratch.join("cluster");
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let socket = folder.join(format!(".s.PGSQL.{PORT}"));
        let length = socket.as_os_str().len();
        ensure!(length <= SOCKET_PATH_MAX, "{} is too long for a socket", socket.display());
        let mut prefix = String::new();
        if let Some((user, group)) = other_user()? {
            chown(&folder, Some(user), Some(group))?;
            prefix = format!("setpriv --reuid={user} --regid={group} --clear-groups");
        }
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard", "-k"]).arg(&folder).args(["-p", &PORT.to_string()]);
        for setting in ["listen_addresses=", "max_connections=100"].into_iter().chain(SETTINGS) {
            guard.args(["-c", setting]);
        }
        let log = File::create(folder.join("log"))?;
        let guard = guard
            .env("AS", prefix)
            .env("PROGRAMS", &programs)
            .env("DATA", folder.join("data"))
            .env("FILES", scratch)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at the terminal is for the benchmark, which takes the guard with it.
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        let mut cluster = Self { folder, guard, postmaster: 0, version: String::new() };
        let session = cluster.first_session()?;
        cluster.version = session.row("SHOW server_version")?.try_get(0)?;
        let file = fs::read_to_string(cluster.folder.join("data/postmaster.pid"))?;
        cluster.postmaster = file.lines().next().unwrap_or_default().trim().parse()?;
        Ok(cluster)
    }

    /// Waits until the server takes connections.
    fn first_session(&self) -> Result<Session> {
        let maintenance = self.maintenance();
        let deadline = Instant::now() + STARTED_WITHIN;
        loop {
            let failed = self.folder.join("failed").exists();
            match maintenance.session() {
                Ok(session) => return Ok(session),
                Err(error) if failed || Instant::now() > deadline => {
                    let log = fs::read(self.folder.join("log")).unwrap_or_default();
                    let log = &log[log.len().saturating_sub(LAST_WORDS_BYTES)..];
                    bail!("PostgreSQL does not start, {error:#}: {}", String::from_utf8_lossy(log).trim());
                }
                Err(_) => thread::sleep(POLL),
            }
        }
    }

    /// The version of the server.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// CPU time that all processes of the server have used up to now.
    pub fn cpu_time(&self) -> Result<Duration> {
        procfs::family_cpu_time(self.postmaster)
    }

    /// Bytes of the write-ahead log that were ever written.
    pub fn log_bytes(&self) -> Result<u64> {
        self.maintenance().session()?.count("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
    }

    /// A new database of this name, a copy of `template` if there is one.
    pub fn create(&self, name: &str, template: Option<&Database>) -> Result<Database> {
        let template = template.map_or("template1", |database| &database.name);
        let sql = format!("CREATE DATABASE {name} TEMPLATE {template}");
        self.maintenance().session()?.run(&sql)?;
        Ok(Database { folder: self.folder.clone(), name: name.to_owned() })
    }

    /// Drops a database, for which the server writes out all that is in its memory.
    pub fn drop(&self, database: &Database) -> Result<()> {
        self.maintenance().session()?.run(&format!("DROP DATABASE {} WITH (FORCE)", database.name))
    }

    fn maintenance(&self) -> Database {
        Database { folder: self.folder.clone(), name: "postgres".to_owned() }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        // What does not end cannot be helped here either.
        let _ = self.guard.wait();
    }
}

impl Database {
    /// For `DATABASE_URL`.
    pub fn url(&self) -> String {
        let folder = self.folder.display().to_string();
        format!("postgres://postgres@{}:{PORT}/{}", percent_encoded(&folder), self.name)
    }

    /// A new connection.
    pub fn session(&self) -> Result<Session> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.folder).port(PORT).user("postgres").dbname(&self.name);
        let client = runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(connection);
            anyhow::Ok(client)
        });
        let client = client.with_context(|| format!("cannot connect to database {}", self.name))?;
        Ok(Session { runtime, client })
    }
}

impl Session {
    /// Runs statements.
    pub fn run(&self, sql: &str) -> Result<()> {
        self.runtime.block_on(self.client.batch_execute(sql)).with_context(|| sql.to_owned())
    }

    /// All rows that a statement gives.
    pub fn rows(&self, sql: &str) -> Result<Vec<Row>> {
        self.runtime.block_on(self.client.query(sql, &[])).with_context(|| sql.to_owned())
    }

    /// The one row that a statement gives.
    pub fn row(&self, sql: &str) -> Result<Row> {
        self.runtime.block_on(self.client.query_one(sql, &[])).with_context(|| sql.to_owned())
    }

    /// The one `bigint` that a statement gives, which is not negative.
    pub fn count(&self, sql: &str) -> Result<u64> {
        Ok(u64::try_from(self.row(sql)?.try_get::<_, i64>(0)?)?)
    }

    /// What is needed for more than statements.
    pub fn parts(&self) -> (&Runtime, &Client) {
        (&self.runtime, &self.client)
    }
}

impl Counts for Session {
    fn count(&self, question: &Question) -> Result<u64> {
        self.count(&question.sql("ILIKE"))
    }
}

/// All that is not plainly part of a host name, as a URL needs it.
fn percent_encoded(path: &str) -> String {
    path.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The folder of the programs of the newest PostgreSQL here.
fn newest_programs() -> Result<PathBuf> {
    let versions = fs::read_dir(INSTALLED).into_iter().flatten().flatten().filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let programs = entry.path().join("bin");
        (programs.join("initdb").exists() && programs.join("postgres").exists())
            .then_some((version, programs))
    });
    let newest = versions.max_by_key(|(version, _)| *version);
    let (_, programs) = newest.with_context(|| {
        format!("there is no PostgreSQL in {INSTALLED}; install postgresql, or say --programs")
    })?;
    Ok(programs)
}

/// The numbers of the user and the group `postgres` if this is root, whom PostgreSQL refuses.
fn other_user() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    user_numbers(&users, "postgres").map(Some).context("root cannot run PostgreSQL, and no user is postgres")
}

fn user_numbers(users: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = users.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let found = fields.next() == Some(name);
        found.then_some(fields)
    })?;
    let user = fields.nth(1)?.parse().ok()?;
    Some((user, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_host() {
        assert_eq!(percent_encoded("/tmp/a b_1.x-y"), "%2Ftmp%2Fa%20b_1.x-y");
    }

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let users = "root:x:0:0::/root:/bin/sh\npostgres2:x:1:2::/:/x\npostgres:x:101:104:,,,:/var:/bin/sh\n";
        assert_eq!(user_numbers(users, "postgres"), Some((101, 104)));
        assert_eq!(user_numbers(users, "nobody"), None);
    }
}
