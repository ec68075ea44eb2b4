//! `DATABASE_URL`: which store, and where.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::postgres::Address;

/// The place of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Url {
    /// A file of SQLite's.
    Sqlite(PathBuf),
    /// A database on a server of PostgreSQL's.
    Postgres(Box<Address>),
}

/// Not a URL of a store. Repeats nothing of what was given that may be a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// It is of no form that is known.
    #[error(
        "should be sqlite:///relative/path.db, sqlite:////absolute/path.db or postgres://user:password@host/database"
    )]
    Form,
    /// Something is wrong in a URL of PostgreSQL's.
    #[error("{0}; it should look like postgres://user:password@host:5432/database")]
    Postgres(String),
}

impl FromStr for Url {
    type Err = BadUrl;

    /// For SQLite three slashes and a relative path, or four and an absolute one (the form `SQLAlchemy` made
    /// common); for PostgreSQL what `libpq` takes.
    fn from_str(url: &str) -> Result<Self, BadUrl> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return url.parse().map(|address| Self::Postgres(Box::new(address))).map_err(BadUrl::Postgres);
        }
        let path = url.strip_prefix("sqlite:///").ok_or(BadUrl::Form)?;
        let no_file = path.is_empty() || path.ends_with('/') || path == ":memory:";
        if no_file || path.contains(['?', '#', '\0']) {
            return Err(BadUrl::Form);
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
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
}
