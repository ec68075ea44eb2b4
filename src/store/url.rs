//! `DATABASE_URL`: the engine and the place of a store.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::postgres::Address;

/// The place of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Url {
    /// The path of a SQLite file.
    Sqlite(PathBuf),
    /// The address of a database on a PostgreSQL server.
    Postgres(Box<Address>),
}

/// An invalid URL. The text repeats no part of the input that may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// The URL has an unknown form.
    #[error(
        "should be sqlite:///relative/path.db, sqlite:////absolute/path.db or postgres://user:password@host/database"
    )]
    Form,
    /// The URL of a PostgreSQL database is wrong.
    #[error("{0}; it should look like postgres://user:password@host:5432/database")]
    Postgres(String),
}

impl FromStr for Url {
    type Err = BadUrl;

    /// For SQLite three slashes and a relative path, or four and an absolute one (the form `SQLAlchemy` made
    /// common); for PostgreSQL the URLs that `libpq` accepts.
    fn from_str(url: &str) -> Result<Self, BadUrl> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return url.parse().map(|address| Self::Postgres(Box::new(address))).map_err(BadUrl::Postgres);
        }
        let path = url.strip_prefix("sqlite:///").ok_or(BadUrl::Form)?;
        let no_file = path.is_empty() || path.ends_with('/') || path == ":memory:";
        if no_file || path.contains(['?', '#', '\0']) || path.contains("://") {
            return Err(BadUrl::Form);
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl Url {
    /// Whether both lead to one database: the URLs are equal, or two paths lead to one file, by another name or a link.
    pub fn is_same_database(&self, other: &Self) -> bool {
        if let (Self::Sqlite(one), Self::Sqlite(other)) = (self, other)
            && let (Ok(one), Ok(other)) = (one.canonicalize(), other.canonicalize())
        {
            return one == other;
        }
        self == other
    }
}

impl fmt::Display for Url {
    /// Without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:///{}", path.display()),
            Self::Postgres(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_slashes_are_relative_four_absolute() {
        assert_eq!("sqlite:///./data/app.db".parse(), Ok(Url::Sqlite("./data/app.db".into())));
        assert_eq!("sqlite:////data/app.db".parse(), Ok(Url::Sqlite("/data/app.db".into())));
        assert_eq!(Url::Sqlite("/data/app.db".into()).to_string(), "sqlite:////data/app.db");
    }

    #[test]
    fn other_urls_are_refused() {
        for bad in [
            "",
            "sqlite://",
            "sqlite:///",
            "sqlite://data/app.db",
            "/data/app.db",
            "mysql://x/y",
            "sqlite:///data/",
            "sqlite:///:memory:",
            "sqlite:///a.db?mode=ro",
        ] {
            assert_eq!(bad.parse::<Url>(), Err(BadUrl::Form), "{bad}");
        }
    }

    /// Where a password may stand, rightly or by mistake, and what may be wrong around it.
    const MISTYPED: [&str; 20] = [
        "postgres://me:PW@host:5432/db",
        "postgres://me:PW@host",
        "postgres://me:PW@",
        "postgres://me:PW@host:port/db",
        "postgres://me:PW@host:99999/db",
        "postgres://me:PW@host/db?sslmode=wrong",
        "postgres://me:PW@host/db?sslrootcert=%ff",
        "postgres://me:PW@host/db?PW=x",
        "postgres://:PW@host/db",
        "postgresql://me:PW@one,two:5433/db",
        "postgres://me:PW@/db?host=/run",
        "postgres://host/db?user=me&password=PW",
        "postgres://me@host/db?password=PW&port=x",
        "postgres:/me:PW@host/db",
        "postgres:me:PW@host/db",
        "me:PW@host/db",
        "host=host user=me password=PW",
        "sqlite://me:PW@host/db",
        "sqlite:///postgres://me:PW@host/db",
        " postgres://me:PW@host/db",
    ];

    proptest::proptest! {
        /// Of letters and digits that no message has, and of all that has a meaning in a URL.
        #[test]
        fn no_piece_of_a_password_is_ever_told(password in "[ЖЩЮXZ79@/?#:%&=,;+. \\[\\]\\\\-]{4,24}") {
            for mistyped in MISTYPED {
                let given = mistyped.replace("PW", &password);
                let said = match given.parse::<Url>() {
                    Ok(url) => format!("{url} {url:?}"),
                    Err(bad) => format!("{bad} {bad:?}"),
                };
                let characters: Vec<char> = password.chars().collect();
                let pieces = characters.windows(4).filter(|piece| piece.iter().any(|c| c.is_alphanumeric()));
                for piece in pieces.map(|piece| piece.iter().collect::<String>()) {
                    proptest::prop_assert!(!said.contains(&piece), "{piece:?} of {given:?}: {said}");
                }
            }
        }
    }
}
