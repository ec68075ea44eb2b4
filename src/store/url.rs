//! `DATABASE_URL`: which store, and where.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The place of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Url {
    /// A file of SQLite's.
    Sqlite(PathBuf),
}

/// Not a URL of a store. Does not repeat what was given, since that may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("should be sqlite:///relative/path.db or sqlite:////absolute/path.db")]
pub struct BadUrl;

impl FromStr for Url {
    type Err = BadUrl;

    /// Three slashes and a relative path, or four and an absolute one (the form `SQLAlchemy` made common).
    fn from_str(url: &str) -> Result<Self, BadUrl> {
        let path = url.strip_prefix("sqlite:///").ok_or(BadUrl)?;
        let no_file = path.is_empty() || path.ends_with('/') || path == ":memory:";
        if no_file || path.contains(['?', '#', '\0']) {
            return Err(BadUrl);
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:///{}", path.display()),
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
            assert_eq!(bad.parse::<Url>(), Err(BadUrl), "{bad}");
        }
    }
}
