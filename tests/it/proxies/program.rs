//! nginx and HAProxy, each as a child with a folder and a port of its own. Dropping it kills it.
//!
//! Their configuration is the one that docs/operations/proxies.md shows, with what a test needs around it.

use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::client::{Client, Connection};
use crate::support::{eventually, lasting_port, skip};

const PROXIES: &str = include_str!("../../../docs/operations/proxies.md");
const SCALING: &str = include_str!("../../../docs/scaling.md");
const SHIPPED: &str = include_str!("../../../deploy/haproxy/haproxy.cfg");
/// Where docs/operations/proxies.md has Lyftr, and where the proxy.
const LYFTR: &str = "127.0.0.1:8000";
const PROXY: &str = "127.0.0.1:8080";
/// The socket in its folder where HAProxy tells how the replicas are.
const STATS: &str = "stats";

/// A proxy, and how it is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// Reads a body to its end before it passes anything on.
    Nginx,
    /// Passes a body on as it comes.
    NginxStreaming,
    /// Passes a body on as it comes, and shares connections more eagerly.
    Haproxy,
}

impl Program {
    pub(super) const ALL: [Self; 3] = [Self::Nginx, Self::NginxStreaming, Self::Haproxy];

    /// Its name on the command line; Debian has it in a folder that is not on everybody's path.
    fn places(self) -> [&'static str; 2] {
        match self {
            Self::Nginx | Self::NginxStreaming => ["nginx", "/usr/sbin/nginx"],
            Self::Haproxy => ["haproxy", "/usr/sbin/haproxy"],
        }
    }

    /// The command that runs in the foreground, as one process, and touches nothing outside the folder.
    fn command(self, place: &str, folder: &Path) -> Command {
        let mut command = Command::new(place);
        match self {
            Self::Nginx | Self::NginxStreaming => command.arg("-p").arg(folder).args(["-e", "errors", "-c"]),
            Self::Haproxy => command.args(["-db", "-f"]),
        };
        command.arg(folder.join("config")).current_dir(folder).env_clear().stdin(Stdio::null());
        command
    }

    /// Writes a line into the file `log` for each request it sees, with the address it passed it on to, if it did.
    fn config(self, listen: SocketAddr, upstream: SocketAddr) -> String {
        let documented = |language: &str| {
            let text = documented(language, 0);
            assert!(text.contains(LYFTR) && text.contains(PROXY), "{text}");
            text.replace(LYFTR, &upstream.to_string())
        };
        match self {
            Self::Nginx | Self::NginxStreaming => {
                let buffering = if self == Self::Nginx { "on" } else { "off" };
                let server = documented("nginx").replace(PROXY, &listen.to_string());
                let folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {kind};\n"))
                    .concat();
                format!(
                    "daemon off;\nmaster_process off;\npid pid;\nevents {{}}\nhttp {{\n{folders}\
                     log_format seen '$status $upstream_addr';\naccess_log log seen;\n\
                     proxy_request_buffering {buffering};\n{server}}}\n"
                )
            }
            Self::Haproxy => {
                // Without `maxconn` it makes room for as many connections as it may open files.
                let frontend = format!(
                    "{listen}\n    log global\n    log-format \"%ST %si:%sp\"\n    option dontlognull"
                );
                let rest = documented("haproxy").replace(PROXY, &frontend);
                format!("global\n    nbthread 1\n    maxconn 200\n    log stdout format raw local0\n{rest}")
            }
        }
    }
}

/// The example in docs/operations/proxies.md in this language, of several the one with this number.
fn documented(language: &str, number: usize) -> &'static str {
    let example =
        PROXIES.split(&format!("```{language}\n")).nth(number + 1).expect("docs/operations/proxies.md");
    example.split("```").next().unwrap()
}

/// The same configuration with each timeout in it a tenth as long.
fn in_haste(config: &str) -> String {
    let shorten = |line: &str| -> String {
        let words = line.split(' ').map(|word| {
            let seconds =
                word.trim_end_matches(';').strip_suffix('s').and_then(|number| number.parse::<u32>().ok());
            let end = if word.ends_with(';') { ";" } else { "" };
            seconds.map_or_else(|| word.to_owned(), |seconds| format!("{}ms{end}", seconds * 100))
        });
        words.collect::<Vec<_>>().join(" ")
    };
    let lines =
        config.lines().map(|line| if line.contains("timeout") { shorten(line) } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    address: SocketAddr,
    upstream: SocketAddr,
    folder: TempDir,
}

impl Proxy {
    /// Starts one in front of the service at this address. `None`, said loudly, where the program is missing.
    #[track_caller]
    pub(super) fn start(program: Program, upstream: SocketAddr) -> Option<Self> {
        Self::start_with(program, |address| program.config(address, upstream), upstream)
    }

    /// The same, as if a second were a tenth of one: each of its timeouts is shorter by that, those by default too.
    #[track_caller]
    pub(super) fn in_haste(program: Program, upstream: SocketAddr) -> Option<Self> {
        let config = |address| {
            let config = in_haste(&program.config(address, upstream));
            config.replace("access_log log seen;", "access_log log seen;\nproxy_read_timeout 6000ms;")
        };
        Self::start_with(program, config, upstream)
    }

    /// Starts HAProxy as deploy/haproxy/haproxy.cfg has it, but for Docker's name server, in front of one replica, and with
    /// a hundredth of its connections.
    #[track_caller]
    pub(super) fn shipped(replica: SocketAddr) -> Option<Self> {
        let config = |address: SocketAddr| {
            let changes = [
                ("server-template lyftr- 8 api:8000", format!("server one {replica}")),
                (" resolvers docker resolve-prefer ipv4 init-addr none", String::new()),
                ("bind :8000", format!("bind {address}")),
                ("log stdout", format!("stats socket unix@{STATS}\n    log stdout")),
                ("maxconn 6000", "maxconn 60".to_owned()),
                ("ge 2000", "ge 20".to_owned()),
            ];
            changes.iter().fold(SHIPPED.to_owned(), |config, (from, to)| {
                assert!(config.contains(from), "{from}: {config}");
                config.replace(from, to)
            })
        };
        Self::start_with(Program::Haproxy, config, replica)
    }

    /// Starts HAProxy in front of the replicas at these three addresses, as docs/scaling.md shows it.
    #[track_caller]
    pub(crate) fn before_replicas(replicas: &[SocketAddr]) -> Option<Self> {
        let (_, rest) = SCALING.split_once("```haproxy\n").expect("docs/scaling.md");
        let documented = rest.split("```").next().unwrap();
        let config = |address: SocketAddr| {
            let frontend = format!("{address}\n    log global\n    log-format \"%ST retries=%rc\"");
            let mut config = documented.replace(PROXY, &frontend);
            for (n, replica) in replicas.iter().enumerate() {
                let there = format!("127.0.0.1:{}", 8001 + n);
                assert!(config.contains(&there), "{config}");
                config = config.replace(&there, &replica.to_string());
            }
            format!(
                "global\n    nbthread 1\n    maxconn 200\n    stats socket unix@{STATS}\n    log stdout format raw local0\n{config}"
            )
        };
        Self::start_with(Program::Haproxy, config, replicas[0])
    }

    /// Waits until HAProxy takes so many replicas for ready.
    #[track_caller]
    pub(crate) fn await_ready(&self, replicas: usize) {
        eventually("the proxy knows that the replicas are ready", || {
            let mut socket = UnixStream::connect(self.folder.path().join(STATS))?;
            socket.write_all(b"show stat\n")?;
            let table = std::io::read_to_string(socket)?;
            let is_ready = |line: &&str| {
                line.starts_with("lyftr,") && line.contains(",UP") && !line.contains(",BACKEND,")
            };
            let ready = table.lines().filter(is_ready).count();
            if ready == replicas { Ok(()) } else { Err(std::io::Error::other(table)) }
        });
    }

    /// Starts nginx with TLS, as docs/operations/proxies.md shows it, with this certificate and key.
    #[track_caller]
    pub(super) fn with_tls(upstream: SocketAddr, certificate: &Path, key: &Path) -> Option<Self> {
        let config = |address: SocketAddr| {
            let plain = Program::Nginx.config(address, upstream);
            let listen = format!("    listen {address};\n");
            assert!(plain.contains(&listen), "{plain}");
            let tls = documented("nginx", 1)
                .replace("443", &address.to_string())
                .replace("/etc/lyftr/certificate.pem", &certificate.display().to_string())
                .replace("/etc/lyftr/key.pem", &key.display().to_string());
            plain.replace(&listen, &tls)
        };
        Self::start_with(Program::Nginx, config, upstream)
    }

    #[track_caller]
    fn start_with(
        program: Program,
        config: impl Fn(SocketAddr) -> String,
        upstream: SocketAddr,
    ) -> Option<Self> {
        // Somebody else may take the port between the moment it is found free and the moment it is used.
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let address = SocketAddr::from(([127, 0, 0, 1], lasting_port()));
            std::fs::write(folder.path().join("config"), config(address)).unwrap();
            let Some(child) = spawn(program, folder.path()) else {
                skip(&format!(
                    "{} is missing: apt-get install nginx haproxy, or run scripts/test as root",
                    program.places()[0]
                ));
                return None;
            };
            let mut proxy = Self { child, address, upstream, folder };
            if proxy.listens() {
                return Some(proxy);
            }
            eprintln!("{program:?} ended: {}", proxy.errors());
        }
        panic!("{program:?} does not start");
    }

    /// Whether it listens; `false` if it ended instead.
    fn listens(&mut self) -> bool {
        eventually("the proxy listens", || {
            if self.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            TcpStream::connect(self.address).is_ok().then_some(true)
        })
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("errors")).unwrap_or_default()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of the proxy, with no connection yet.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// A new connection to the proxy.
    pub(super) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// How many requests it has seen so far, each of which it answers once. It says so a little after its answer.
    pub(super) fn seen(&self) -> usize {
        self.log().lines().count()
    }

    /// How many requests it has passed on to the service.
    pub(super) fn passed_on(&self) -> usize {
        self.log().matches(&self.upstream.to_string()).count()
    }

    /// Requests that it sent a second time, since the first one was not answered.
    pub(crate) fn retried(&self) -> usize {
        self.log().lines().filter(|line| !line.ends_with("retries=0")).count()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts the program; `None` if there is no such program.
fn spawn(program: Program, folder: &Path) -> Option<Child> {
    let output = |name: &str| File::options().create(true).append(true).open(folder.join(name)).unwrap();
    program.places().into_iter().find_map(|place| {
        let mut command = program.command(place, folder);
        match command.stdout(output("log")).stderr(output("errors")).spawn() {
            Ok(child) => Some(child),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => panic!("{place}: {error}"),
        }
    })
}
