//! A `postgres://` URL: the servers, the user, and the TLS mode.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::TlsMode;

/// The port of a server if the URL has none.
const DEFAULT_PORT: u16 = 5432;
/// A connection is closed when the other end acknowledges no data for this time, unless the URL has a
/// `tcp_user_timeout`.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
/// The supported parameters, besides `sslmode`, `sslrootcert`, `host`, `hostaddr` and `port`.
const SUPPORTED: [&str; 15] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
    "sslnegotiation",
];
/// Parameters of `libpq` that Lyftr does not support. An error repeats an unknown name only if it is in this list: any
/// other may be a piece of a password with a `?` or an `&` in it.
const UNSUPPORTED: [&str; 18] = [
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "sslcompression",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "gssencmode",
    "krbsrvname",
    "keepalives_count",
    "client_encoding",
    "service",
    "passfile",
    "require_auth",
    "requirepeer",
    "fallback_application_name",
];

/// The address of a PostgreSQL database. Prints no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// The user, the database and the options of a connection, without a server.
    pub(super) config: Config,
    /// The servers, in the order of the URL.
    pub(super) servers: Vec<Server>,
    pub(super) tls_mode: TlsMode,
}

/// One server of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    /// The folder of its Unix socket, and the port.
    Socket(PathBuf, u16),
    /// Its host name, its IP address if the URL has one (`hostaddr`), and the port.
    Host(String, Option<IpAddr>, u16),
}

impl FromStr for Address {
    type Err = String;

    /// Reads a URL as `libpq` does: `postgres://user:password@host:port/database?parameter=value`. Errors repeat no values.
    fn from_str(url: &str) -> Result<Self, String> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = place.split_once("://").ok_or("has no scheme")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        unambiguous(authority, path, query)?;
        let (mut mode, mut root, mut places, mut others) =
            ("prefer".to_owned(), None, Vec::new(), Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let Some((name, value)) = parameter.split_once('=') else { return Err(unknown("")) };
            let decoded = |name: &str| {
                let value = percent_decode_str(value).decode_utf8();
                value.map(String::from).map_err(|_| format!("has a parameter {name} that is not UTF-8"))
            };
            match name {
                "sslmode" => mode = decoded("sslmode")?,
                "sslrootcert" => root = Some(PathBuf::from(decoded("sslrootcert")?)),
                // The parser takes a list of hosts for one host.
                "host" => places.extend(value.split(',').map(|host| format!("host={host}"))),
                "hostaddr" | "port" => places.push(parameter.to_owned()),
                _ if SUPPORTED.contains(&name) => others.push(parameter),
                _ => return Err(unknown(name)),
            }
        }
        let tls_mode = tls_mode(&mode, root)?;
        let servers = servers(&parse(&format!("{place}?{}", places.join("&")))?)?;
        let credentials = authority.split_once('@').map_or("", |(credentials, _)| credentials);
        let mut config = parse(&format!("{scheme}://{credentials}@/{path}?{}", others.join("&")))?;
        settle(&mut config, &tls_mode);
        if config.get_user().is_none_or(str::is_empty) {
            return Err("names no user".to_owned());
        }
        Ok(Self { config, servers, tls_mode })
    }
}

/// Refuses an ambiguous URL: the wrong reading takes a piece of the password for the name of a host or a user, and these
/// are printed.
fn unambiguous(authority: &str, path: &str, query: &str) -> Result<(), String> {
    if authority.matches('@').count() > 1 || path.contains('@') || query.contains('@') {
        return Err("has an @, / or ? that can be read in two ways: in a user, a password or a parameter, write @ as %40, \
                    / as %2F and ? as %3F"
            .to_owned());
    }
    let has_blank = [authority, path].into_iter().any(|part| part.contains(char::is_whitespace));
    if has_blank || query.contains(char::is_control) {
        return Err("has a blank or a line end in it; write a blank as %20".to_owned());
    }
    Ok(())
}

fn unknown(name: &str) -> String {
    if UNSUPPORTED.contains(&name) {
        return format!("has the parameter {name}, which Lyftr does not support");
    }
    "has an unknown parameter, or one without a value; in a password, write ? as %3F and & as %26".to_owned()
}

fn parse(url: &str) -> Result<Config, String> {
    Config::from_str(url).map_err(|error| {
        let why = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("is not a PostgreSQL URL{}", why.unwrap_or_default())
    })
}

fn settle(config: &mut Config, tls_mode: &TlsMode) {
    config.ssl_mode(match tls_mode {
        TlsMode::Disable => SslMode::Disable,
        TlsMode::Prefer => SslMode::Prefer,
        _ => SslMode::Require,
    });
    if config.get_application_name().is_none() {
        config.application_name("lyftr");
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(TCP_USER_TIMEOUT);
    }
}

/// The servers, in the order of the URL.
fn servers(places: &Config) -> Result<Vec<Server>, String> {
    let (hosts, addresses, ports) = (places.get_hosts(), places.get_hostaddrs(), places.get_ports());
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err("names no host".to_owned());
    }
    if (hosts.len() < count && !hosts.is_empty())
        || (addresses.len() < count && !addresses.is_empty())
        || (ports.len() > 1 && ports.len() != count)
    {
        return Err("names different numbers of hosts, addresses and ports".to_owned());
    }
    let server = |n: usize| {
        let address = addresses.get(n).copied();
        let port = ports.get(n).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
        match hosts.get(n) {
            Some(Host::Unix(folder)) => Server::Socket(folder.clone(), port),
            Some(Host::Tcp(name)) => Server::Host(name.clone(), address, port),
            None => Server::Host(address.map(|ip| ip.to_string()).unwrap_or_default(), address, port),
        }
    };
    Ok((0..count).map(server).collect())
}

impl Address {
    /// The configuration of a connection to one server, at `address` unless it has a socket.
    pub(super) fn config_for(&self, server: &Server, address: Option<IpAddr>) -> Config {
        let mut config = self.config.clone();
        match server {
            // A connection by a socket stays on this machine and has no TLS, as with `libpq`.
            Server::Socket(folder, port) => config.host_path(folder).port(*port).ssl_mode(SslMode::Disable),
            Server::Host(name, _, port) => config.host(name).port(*port),
        };
        if let Some(address) = address {
            config.hostaddr(address);
        }
        config
    }
}

/// The TLS mode of `sslmode` and `sslrootcert`, as
/// [libpq](https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION) knows them.
fn tls_mode(mode: &str, root: Option<PathBuf>) -> Result<TlsMode, String> {
    let needed = || "needs sslrootcert, the file of the trusted certificates, for this sslmode".to_owned();
    Ok(match (mode, root) {
        ("disable", _) => TlsMode::Disable,
        ("prefer", _) => TlsMode::Prefer,
        ("require", None) => TlsMode::Require,
        ("require" | "verify-ca", Some(root)) => TlsMode::VerifyCa(root),
        ("verify-full", Some(root)) => TlsMode::VerifyFull(root),
        ("verify-ca" | "verify-full", None) => return Err(needed()),
        _ => {
            return Err(
                "has an sslmode other than disable, prefer, require, verify-ca or verify-full".to_owned()
            );
        }
    })
}

impl fmt::Display for Address {
    /// Prints the user, the servers and the database, without the password and the parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        write!(f, "postgres://{}@", shown(config.get_user().unwrap_or_default()))?;
        for (n, server) in self.servers.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match server {
                Server::Socket(folder, port) => write!(f, "{comma}{}:{port}", Path::display(folder))?,
                Server::Host(name, address, port) => {
                    let is_address = address.is_some() || name.parse::<IpAddr>().is_ok();
                    write!(f, "{comma}{}:{port}", if is_address { name } else { shown(name) })?;
                }
            }
        }
        write!(f, "/{}", shown(config.get_dbname().or(config.get_user()).unwrap_or_default()))
    }
}

/// A name as it may be printed: "…" if it looks like something else, such as a password in the wrong place.
fn shown(name: &str) -> &str {
    if name.contains([':', '/', '=', '?', '&', ' ']) { "…" } else { name }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Address, String> {
        url.parse()
    }

    #[test]
    fn a_url_names_servers_and_user_and_prints_no_password() {
        let address = parse("postgres://me:s3cret@db.example:5433/inbox?application_name=x").unwrap();
        assert_eq!(address.to_string(), "postgres://me@db.example:5433/inbox");
        assert!(!format!("{address:?}").contains("s3cret"));
        assert_eq!(address.config.get_password(), Some(&b"s3cret"[..]));
        let socket = parse("postgresql://me@/inbox?host=%2Frun%2Fpostgresql&port=5433").unwrap();
        assert_eq!(socket.to_string(), "postgres://me@/run/postgresql:5433/inbox");
        let two = parse("postgres://me@one,two:5433/inbox").unwrap();
        assert_eq!(two.to_string(), "postgres://me@one:5432,two:5433/inbox");
        let ip = parse("postgres://me@[::1]/inbox?hostaddr=::1").unwrap();
        assert_eq!(ip.to_string(), "postgres://me@::1:5432/inbox");
        // A name that looks like something else is not printed.
        let encoded = parse("postgres://me%3As3cret@host/postgres%3A%2F%2Fme%3As3cret%40host").unwrap();
        assert_eq!(encoded.to_string(), "postgres://…@host:5432/…");
    }

    #[test]
    fn each_server_has_a_configuration_of_its_own() {
        let address = parse("postgres://me:pw@/inbox?host=/run,db.example&port=1,2&sslmode=require").unwrap();
        let [socket, host] = &address.servers[..] else { panic!("{:?}", address.servers) };
        let socket = address.config_for(socket, None);
        assert_eq!((socket.get_ports(), socket.get_ssl_mode()), (&[1][..], SslMode::Disable), "no TLS there");
        let ip = IpAddr::from([127, 0, 0, 1]);
        let host = address.config_for(host, Some(ip));
        assert_eq!((host.get_hostaddrs(), host.get_ports()), (&[ip][..], &[2][..]));
        assert_eq!(host.get_hosts(), [Host::Tcp("db.example".to_owned())], "for the certificate");
        assert_eq!((host.get_password(), host.get_dbname()), (Some(&b"pw"[..]), Some("inbox")));
    }

    #[test]
    fn sslmode_is_as_libpq_knows_it() {
        let root = || PathBuf::from("/etc/root.pem");
        for (parameters, tls_mode, mode) in [
            ("", TlsMode::Prefer, SslMode::Prefer),
            ("sslmode=disable", TlsMode::Disable, SslMode::Disable),
            ("sslmode=prefer", TlsMode::Prefer, SslMode::Prefer),
            ("sslmode=require", TlsMode::Require, SslMode::Require),
            ("sslmode=require&sslrootcert=/etc/root.pem", TlsMode::VerifyCa(root()), SslMode::Require),
            ("sslrootcert=%2Fetc%2Froot.pem&sslmode=verify-ca", TlsMode::VerifyCa(root()), SslMode::Require),
            ("sslmode=verify-full&sslrootcert=/etc/root.pem", TlsMode::VerifyFull(root()), SslMode::Require),
        ] {
            let address = parse(&format!("postgres://me@host/db?{parameters}")).unwrap();
            assert_eq!((address.tls_mode, address.config.get_ssl_mode()), (tls_mode, mode), "{parameters}");
        }
    }

    #[test]
    fn errors_repeat_no_values() {
        for (url, said) in [
            ("postgres://", "names no host"),
            ("postgres:///db", "names no host"),
            ("postgres://host/db", "names no user"),
            ("postgres://me:s3cret@host:99999/db", "port"),
            ("postgres://me:s3cret@host/db?sslmode=s3cret", "sslmode other than"),
            ("postgres://me:s3cret@host/db?sslmode=verify-full", "sslrootcert"),
            ("postgres://me@host/db?s3cre=s3cret", "an unknown parameter"),
            ("postgres://me@host/db?sslcert=s3cret", "the parameter sslcert"),
            ("postgres://me:a@s3cret@host/db", "two ways"),
            ("postgres://me:a/s3cret@host/db", "two ways"),
            ("postgres://me:a?s3cret@host/db", "two ways"),
            ("postgres://host/db?user=me&password=a@s3cret", "two ways"),
            ("postgres://me:a s3cret@host/db", "blank"),
            ("postgres://:s3cret@host/db", "names no user"),
            ("postgres://me:s3cret@one,two/db?hostaddr=127.0.0.1", "numbers of hosts"),
            ("postgres://me@host/db?sslrootcert=%ff", "not UTF-8"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(said) && !error.contains("s3cret"), "{url}: {error}");
        }
    }
}
