//! A URL of PostgreSQL's: where the server is, as whom to go there, and how the way is protected.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::tls::Protection;

/// Longest time that a new connection may take, unless the URL has a `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this time a connection whose other end takes nothing is given up, unless the URL has a
/// `tcp_user_timeout`.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a database of PostgreSQL's is. Prints no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) config: Config,
    pub(super) protection: Protection,
}

impl FromStr for Address {
    type Err = String;

    /// As `libpq` reads it: `postgres://user:password@host:port/database?parameter=value`. What is wrong is told
    /// without the values.
    fn from_str(url: &str) -> Result<Self, String> {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut root, mut others) = ("prefer".to_owned(), None, Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let decoded = || {
                let value = percent_decode_str(value).decode_utf8();
                value.map(String::from).map_err(|_| format!("has a parameter {name} that is not UTF-8"))
            };
            match name {
                "sslmode" => mode = decoded()?,
                "sslrootcert" => root = Some(PathBuf::from(decoded()?)),
                _ => others.push(parameter),
            }
        }
        let protection = protection(&mode, root)?;
        let url = if others.is_empty() { place.to_owned() } else { format!("{place}?{}", others.join("&")) };
        let mut config = Config::from_str(&url).map_err(|error| {
            let why = std::error::Error::source(&error).map(|source| format!(": {source}"));
            format!("is not a URL of PostgreSQL's{}", why.unwrap_or_default())
        })?;
        config.ssl_mode(match protection {
            Protection::None => SslMode::Disable,
            Protection::IfOffered => SslMode::Prefer,
            _ => SslMode::Require,
        });
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("names no host".to_owned());
        }
        if config.get_user().is_none() {
            return Err("names no user".to_owned());
        }
        if config.get_application_name().is_none() {
            config.application_name("lyftr");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        Ok(Self { config, protection })
    }
}

/// `sslmode` and `sslrootcert`, as
/// [libpq](https://www.postgresql.org/docs/current/libpq-ssl.html#LIBPQ-SSL-PROTECTION) knows them.
fn protection(mode: &str, root: Option<PathBuf>) -> Result<Protection, String> {
    let needed = || "needs sslrootcert, the file of the certificates to trust, for this sslmode".to_owned();
    Ok(match (mode, root) {
        ("disable", _) => Protection::None,
        ("prefer", _) => Protection::IfOffered,
        ("require", None) => Protection::Encrypted,
        ("require" | "verify-ca", Some(root)) => Protection::Authority(root),
        ("verify-full", Some(root)) => Protection::Host(root),
        ("verify-ca" | "verify-full", None) => return Err(needed()),
        _ => {
            return Err(
                "has an sslmode other than disable, prefer, require, verify-ca or verify-full".to_owned()
            );
        }
    })
}

impl fmt::Display for Address {
    /// Without the password and the parameters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        write!(f, "postgres://{}@", config.get_user().unwrap_or_default())?;
        for (n, host) in config.get_hosts().iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
                Host::Unix(path) => write!(f, "{comma}{}", Path::display(path))?,
            }
            if let Some(port) = config.get_ports().get(n).or(config.get_ports().first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", config.get_dbname().or(config.get_user()).unwrap_or_default())
    }
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
    fn a_url_says_where_and_as_whom_and_prints_no_password() {
        let address = parse("postgres://me:s3cret@db.example:5433/inbox?application_name=x").unwrap();
        assert_eq!(address.to_string(), "postgres://me@db.example:5433/inbox");
        assert!(!format!("{address:?}").contains("s3cret"));
        assert_eq!(address.config.get_password(), Some(&b"s3cret"[..]));
        let socket = parse("postgresql://me@/inbox?host=%2Frun%2Fpostgresql&port=5433").unwrap();
        assert_eq!(socket.to_string(), "postgres://me@/run/postgresql:5433/inbox");
        let two = parse("postgres://me@one,two:5433/inbox").unwrap();
        assert_eq!(two.to_string(), "postgres://me@one:5432,two:5433/inbox");
    }

    #[test]
    fn sslmode_is_as_libpq_knows_it() {
        let root = || PathBuf::from("/etc/root.pem");
        for (parameters, protection, mode) in [
            ("", Protection::IfOffered, SslMode::Prefer),
            ("sslmode=disable", Protection::None, SslMode::Disable),
            ("sslmode=prefer", Protection::IfOffered, SslMode::Prefer),
            ("sslmode=require", Protection::Encrypted, SslMode::Require),
            ("sslmode=require&sslrootcert=/etc/root.pem", Protection::Authority(root()), SslMode::Require),
            (
                "sslrootcert=%2Fetc%2Froot.pem&sslmode=verify-ca",
                Protection::Authority(root()),
                SslMode::Require,
            ),
            ("sslmode=verify-full&sslrootcert=/etc/root.pem", Protection::Host(root()), SslMode::Require),
        ] {
            let address = parse(&format!("postgres://me@host/db?{parameters}")).unwrap();
            assert_eq!(
                (address.protection, address.config.get_ssl_mode()),
                (protection, mode),
                "{parameters}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_the_values() {
        for (url, said) in [
            ("postgres://", "names no host"),
            ("postgres:///db", "names no host"),
            ("postgres://host/db", "names no user"),
            ("postgres://me:s3cret@host:99999/db", "port"),
            ("postgres://me:s3cret@host/db?sslmode=s3cret", "sslmode other than"),
            ("postgres://me:s3cret@host/db?sslmode=verify-full", "sslrootcert"),
            ("postgres://me@host/db?s3cre=s3cret", "unknown"),
            ("postgres://me@host/db?sslrootcert=%ff", "not UTF-8"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(said) && !error.contains("s3cret"), "{url}: {error}");
        }
    }
}
