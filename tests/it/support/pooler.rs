//! PgBouncer between Lyftr and the server that tests share. It ends with the process that started it.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use super::postgres::{Cluster, Database, Session, other_user};
use super::{eventually, skip};

/// Runs the pooler until a line comes, or the process that would send it has ended: then its files go too.
const GUARD: &str = r#"
    "$0" "$@" & pooler=$!
    read -r told
    kill -INT $pooler 2>/dev/null
    wait $pooler
    [ "$told" ] || rm -rf "${1%/*}"
"#;
/// Its name on the command line; Debian has it in a folder that is not on everybody's path.
const PROGRAMS: [&str; 2] = ["pgbouncer", "/usr/sbin/pgbouncer"];
/// The first version that knows `max_prepared_statements`.
const KNOWS_PREPARED: (u32, u32) = (1, 21);

/// A running pooler. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Pooler {
    guard: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Pooler {
    /// Lends out three connections to each database, another one for each transaction; shared by tests that do not hurt it.
    /// `None` where PgBouncer is missing, said loudly.
    #[track_caller]
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Pooler>> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["pool_mode = transaction"])).as_ref()
    }

    /// One with these lines in its configuration.
    #[track_caller]
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let Some((program, _)) = installed() else {
            skip("pgbouncer is missing: apt-get install pgbouncer, or run scripts/test as root");
            return None;
        };
        // Somebody else may take the port between the moment it is found free and the moment it is used.
        for _ in 0..5 {
            let folder = tempfile::Builder::new().prefix("lyftr-pooler").tempdir().unwrap();
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let config = folder.path().join("pgbouncer.ini");
            std::fs::write(&config, text(address, settings)).unwrap();
            std::fs::write(folder.path().join("users"), "\"postgres\" \"\"\n").unwrap();
            let mut guard = Command::new("sh");
            guard
                .arg("-c")
                .arg(GUARD)
                .arg(program)
                .arg(&config)
                .current_dir(folder.path())
                .stdin(Stdio::piped());
            let log = std::fs::File::create(folder.path().join("log")).unwrap();
            guard.stdout(log.try_clone().unwrap()).stderr(log);
            if let Some((user, group)) = other_user() {
                chown(folder.path(), Some(user), Some(group)).unwrap();
                guard.uid(user).gid(group);
            }
            let pooler = Self { guard: guard.spawn().unwrap(), address, folder };
            if pooler.listens() {
                return Some(pooler);
            }
            eprintln!("PgBouncer ended: {}", pooler.log());
        }
        panic!("PgBouncer does not start");
    }

    /// For `DATABASE_URL`, of a database on the server that tests share.
    pub(crate) fn url(&self, database: &Database) -> String {
        format!("postgres://postgres@{}/{}", self.address, database.name())
    }

    /// Has it part from its connections to the server, each when its transaction has ended, and make new ones.
    pub(crate) fn begin_sessions_anew(&self) {
        Session::open(&format!("postgres://postgres@{}/pgbouncer", self.address)).run("RECONNECT");
    }

    /// Whether it listens; `false` if it ended instead.
    fn listens(&self) -> bool {
        eventually("PgBouncer listens", || {
            if self.log().contains("FATAL") {
                return Some(false);
            }
            TcpStream::connect(self.address).is_ok().then_some(true)
        })
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.guard.stdin.take().map(|mut input| input.write_all(b"end\n")));
        drop(self.guard.wait());
    }
}

/// The setting with which a pooler knows prepared statements, where it can; and that with which it does not.
pub(crate) fn with_prepared_and_without() -> Vec<&'static str> {
    match installed() {
        Some((_, version)) if version >= KNOWS_PREPARED => {
            vec!["max_prepared_statements = 0", "max_prepared_statements = 100"]
        }
        _ => vec![""],
    }
}

/// The program, and its version.
fn installed() -> Option<(&'static str, (u32, u32))> {
    PROGRAMS.into_iter().find_map(|program| {
        let said = Command::new(program).arg("--version").output().ok()?.stdout;
        let said = String::from_utf8(said).unwrap();
        let mut numbers = said.split_whitespace().nth(1)?.split('.').map(|number| number.parse().unwrap());
        Some((program, (numbers.next()?, numbers.next()?)))
    })
}

fn text(address: SocketAddr, settings: &[&str]) -> String {
    let socket = Cluster::shared().socket();
    let folder = socket.parent().unwrap().display();
    format!(
        "[databases]\n* = host={folder} port=5432 user=postgres\n\
         [pgbouncer]\nlisten_addr = {}\nlisten_port = {}\nunix_socket_dir =\n\
         auth_type = trust\nauth_file = users\nadmin_users = postgres\n\
         default_pool_size = 3\nserver_round_robin = 1\nlog_connections = 0\nlog_disconnections = 0\n{}\n",
        address.ip(),
        address.port(),
        settings.join("\n")
    )
}
