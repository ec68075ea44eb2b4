//! Settings: [`Args`] as given on the command line and in the environment, [`Config`] as checked. The only module that
//! reads the environment, but for the options of `copy` and `healthcheck`, which clap reads.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use tracing::Level;

use crate::source;
use crate::store;

mod secret;
mod warnings;

pub use secret::Secret;
pub(crate) use warnings::short;
pub use warnings::warning_of;

/// The settings of the service as given. Each is a command-line option and an environment variable; secrets are variables
/// only, see [`Environment`]. Everything is text here, so that all configuration errors can be told at once.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Minimum log level: DEBUG, INFO, WARN or ERROR
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL", default_value = "INFO")]
    pub log_level: String,
    /// Address to listen on, or a host name with all its addresses; 0.0.0.0 for all addresses of the machine
    #[arg(long, env = "HOST", value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: String,
    /// Port to listen on; 0 for any free one
    #[arg(long, env = "PORT", value_name = "NUMBER", default_value = "8000")]
    pub port: String,
    /// Maximum size of a request body, in bytes
    #[arg(long, env = "MAX_BODY_BYTES", value_name = "BYTES", default_value = "262144")]
    pub max_body_bytes: String,
    /// Maximum queue length, in messages; a message beyond it is answered 503
    #[arg(long, env = "QUEUE_MAX", value_name = "NUMBER", default_value = "4096")]
    pub queue_max: String,
    /// Maximum number of followers that wait for events at once, streams included; one beyond it is answered 503
    #[arg(long, env = "FOLLOWERS_MAX", value_name = "NUMBER", default_value = "1000")]
    pub followers_max: String,
    /// Number of days for which events are kept after their receipt, or forever
    #[arg(long, env = "KEEP_DAYS", value_name = "DAYS", default_value = "forever")]
    pub keep_days: String,
    /// Maximum number of open connections; for a connection beyond it, the one that waits longest without a request is closed
    #[arg(long, env = "MAX_CONNECTIONS", value_name = "NUMBER", default_value = "12000")]
    pub max_connections: String,
    /// Time to keep an idle connection open, in seconds; longer than a proxy in front keeps it
    #[arg(long, env = "KEEP_ALIVE_SECS", value_name = "SECONDS", default_value = "75")]
    pub keep_alive_secs: String,
    /// Whether there is a page for people at /: on or off
    #[arg(long, env = "PAGE", value_name = "WORD", default_value = "on")]
    pub page: String,
    /// The configured sources.
    #[command(flatten)]
    pub sources: SourcesArgs,
}

/// The configured sources as given.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SourcesArgs {
    /// File with the sources in TOML, which is read again at SIGHUP
    #[arg(long, env = "SOURCES_FILE", value_name = "FILE")]
    pub sources_file: Option<String>,
    /// The sources in TOML, in the place of a file
    #[arg(long, env = "SOURCES", value_name = "TOML")]
    pub sources: Option<String>,
}

impl SourcesArgs {
    /// Reads the sources, and the secrets that they refer to.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn read(&self, environment: Environment) -> Result<source::Config, ConfigErrors> {
        let variable = |name: &str| (environment.0)(name);
        let file = |path: &Path| std::fs::read(path);
        let outside = source::Outside { variable: &variable, file: &file };
        let given = |value: &Option<String>| value.clone().unwrap_or_default();
        source::Config::read(&given(&self.sources_file), &given(&self.sources), outside)
    }
}

/// The settings of the database as given.
#[derive(Clone, clap::Args)]
pub struct DatabaseArgs {
    /// URL of the database: `sqlite:///relative/path`, `sqlite:////absolute/path` or `postgres://user:password@host/database`
    #[arg(long, env = "DATABASE_URL", value_name = "URL", default_value = DATABASE_URL, hide_env_values = true)]
    pub database_url: String,
    /// Maximum number of connections of this process to PostgreSQL
    #[arg(long, env = "DATABASE_CONNECTIONS", value_name = "NUMBER", default_value = "8")]
    pub database_connections: String,
    /// Maximum time for one query, in seconds
    #[arg(long, env = "DATABASE_TIMEOUT_SECS", value_name = "SECONDS", default_value = "10")]
    pub database_timeout_secs: String,
}

/// A hundred years.
pub(crate) const KEEP_DAYS_MAX: u32 = 36_500;
const DATABASE_URL: &str = "sqlite:///./data/app.db";

impl fmt::Debug for DatabaseArgs {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseArgs").finish_non_exhaustive()
    }
}

/// The settings of the database as checked.
#[derive(Debug, Clone)]
pub struct Database {
    /// The URL of the database.
    pub url: store::Url,
    /// The settings of the store.
    pub settings: store::Settings,
}

impl Database {
    /// Checks the settings.
    ///
    /// # Errors
    /// Every configuration error at once.
    pub fn check(args: &DatabaseArgs, environment: Environment) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let url = note(&mut errors, database_url(&args.database_url, environment));
        let connections =
            note(&mut errors, number("DATABASE_CONNECTIONS", &args.database_connections, 2, 1_000));
        let seconds =
            note(&mut errors, number("DATABASE_TIMEOUT_SECS", &args.database_timeout_secs, 1, 3_600));
        let checked = move || {
            let settings =
                store::Settings { connections: connections?, timeout: Duration::from_secs(seconds?) };
            Some(Self { url: url?, settings })
        };
        checked().ok_or(ConfigErrors(errors))
    }
}

fn database_url(given: &str, environment: Environment) -> Result<store::Url, String> {
    // Somebody may have set the URL itself, and an error about a file may hold the file's path.
    let is_url = |path: &OsString| path.to_string_lossy().contains([':', '@', '=']);
    if environment.present("DATABASE_URL_FILE").as_ref().is_some_and(is_url) {
        return Err(
            "DATABASE_URL_FILE should be the path of a file that holds the URL, without any of : @ = in it"
                .to_owned(),
        );
    }
    let (name, url) = match environment.file_of("DATABASE_URL")? {
        Some(_) if !given.is_empty() && given != DATABASE_URL => {
            return Err("DATABASE_URL and DATABASE_URL_FILE are both set; set one of them".to_owned());
        }
        Some(secret) => ("DATABASE_URL_FILE", String::from_utf8_lossy(secret.expose()).into_owned()),
        None => ("DATABASE_URL", given.to_owned()),
    };
    url.parse().map_err(|bad| format!("{name} {bad}"))
}

/// The settings as checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The database.
    pub database: Database,
    /// Minimum log level.
    pub log_level: Level,
    /// Address or name to listen on.
    pub host: String,
    /// Port to listen on; 0 for any.
    pub port: u16,
    /// Maximum size of a request body, in bytes.
    pub max_body_bytes: usize,
    /// Maximum queue length, in messages.
    pub queue_max: usize,
    /// Maximum number of followers that wait at once.
    pub followers_max: usize,
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// Time to keep an idle connection open.
    pub keep_alive: Duration,
    /// The key that messages are signed with.
    pub webhook_secret: Secret,
    /// Former keys, which stay valid until every sender has changed to the current one. Each in all the forms that it may
    /// be meant in.
    pub webhook_secrets_previous: Vec<Vec<Secret>>,
    /// The bearer token that reads need; without one everybody may read.
    pub read_token: Option<Secret>,
    /// The bearer token that erasing needs; without one nobody may erase by a request.
    pub admin_token: Option<Secret>,
    /// Number of days for which events are kept after their receipt; `None` for ever.
    pub keep_days: Option<u32>,
    /// Whether there is a page for people.
    pub page: bool,
    /// The configured sources.
    pub sources: source::Config,
}

/// Every configuration error, each in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);

/// Where secrets come from: the variable `NAME`, or the file that `NAME_FILE` names.
#[derive(Clone, Copy)]
pub struct Environment(fn(&str) -> Option<OsString>);

impl Environment {
    /// The environment of this process.
    #[expect(clippy::disallowed_methods, reason = "the one place where the environment enters")]
    pub fn of_process() -> Self {
        Self(|name| std::env::var_os(name))
    }

    /// An environment for tests: `lookup` gives the value of a variable.
    pub fn of(lookup: fn(&str) -> Option<OsString>) -> Self {
        Self(lookup)
    }

    /// The secret `name`; an empty value means that there is none.
    ///
    /// # Errors
    /// In words, if both `name` and `name_FILE` are set or the file cannot be read.
    pub fn secret(&self, name: &str) -> Result<Option<Secret>, String> {
        let value = self.present(name);
        if value.is_some() && self.present(&format!("{name}_FILE")).is_some() {
            return Err(format!("{name} and {name}_FILE are both set; set one of them"));
        }
        match value {
            Some(value) => Ok(Some(Secret::new(value.into_encoded_bytes()))),
            None => self.file_of(name),
        }
    }

    /// The content of the file that `name_FILE` names.
    fn file_of(self, name: &str) -> Result<Option<Secret>, String> {
        let file_name = format!("{name}_FILE");
        let Some(path) = self.present(&file_name) else { return Ok(None) };
        Secret::read(Path::new(&path)).map(Some).map_err(|why| format!("{file_name}: {why}"))
    }

    /// Whether the value of the variable `name` is not UTF-8.
    pub fn is_not_utf8(&self, name: &str) -> bool {
        self.present(name).is_some_and(|value| value.to_str().is_none())
    }

    fn present(self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

impl Config {
    /// Checks the settings.
    ///
    /// # Errors
    /// Every configuration error at once.
    pub fn check(args: &Args, environment: Environment) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let database = note_all(&mut errors, Database::check(&args.database, environment));
        let log_level = note(&mut errors, level(&args.log_level));
        let port = note(&mut errors, number("PORT", &args.port, 0, u16::MAX));
        let max_body_bytes = note(&mut errors, number("MAX_BODY_BYTES", &args.max_body_bytes, 1, 64 << 20));
        let queue_max = note(&mut errors, number("QUEUE_MAX", &args.queue_max, 1, 1_000_000));
        let followers_max = note(&mut errors, number("FOLLOWERS_MAX", &args.followers_max, 0, 1_000_000));
        let max_connections =
            note(&mut errors, number("MAX_CONNECTIONS", &args.max_connections, 1, 1_000_000));
        let keep_alive = note(&mut errors, number("KEEP_ALIVE_SECS", &args.keep_alive_secs, 1, 86_400));
        let read_token = note(&mut errors, environment.secret("READ_TOKEN")).flatten();
        let admin_token = note(&mut errors, admin_token(environment)).flatten();
        let keep_days = note(&mut errors, keep_days(&args.keep_days)).flatten();
        let page = note(&mut errors, on_or_off("PAGE", &args.page));
        let sources = note_all(&mut errors, args.sources.read(environment));
        let webhook_secret = note(&mut errors, webhook_secret(environment));
        let previous = note(&mut errors, environment.secret("WEBHOOK_SECRET_PREVIOUS")).flatten();
        if args.host.is_empty() {
            errors.push("HOST is empty; it should be an address to listen on, e.g. 127.0.0.1".to_owned());
        }
        let checked = move || {
            Some(Self {
                database: database?,
                log_level: log_level?,
                host: args.host.clone(),
                port: port?,
                max_body_bytes: max_body_bytes?,
                queue_max: queue_max?,
                followers_max: followers_max?,
                max_connections: max_connections?,
                keep_alive: Duration::from_secs(keep_alive?),
                webhook_secret: webhook_secret?,
                webhook_secrets_previous: previous.map(|previous| previous.listed()).unwrap_or_default(),
                read_token,
                admin_token,
                keep_days,
                page: page?,
                sources: sources?,
            })
        };
        if errors.is_empty() { checked().ok_or(ConfigErrors(errors)) } else { Err(ConfigErrors(errors)) }
    }
}

/// The key that messages are signed with.
///
/// # Errors
/// In words, if the secret is missing or cannot be read.
pub fn webhook_secret(environment: Environment) -> Result<Secret, String> {
    match environment.secret("WEBHOOK_SECRET")? {
        Some(secret) if secret.is_blank() => {
            Err("WEBHOOK_SECRET holds nothing but blanks and commas".to_owned())
        }
        Some(secret) => Ok(secret),
        None => Err("WEBHOOK_SECRET is not set: it is the key that senders sign messages with.\n\
                     Set it for example with: export WEBHOOK_SECRET=$(openssl rand -hex 32)\n\
                     or put it in a file and name that in WEBHOOK_SECRET_FILE."
            .to_owned()),
    }
}

/// The bearer token that erasing needs.
///
/// # Errors
/// In words, if it cannot be read, or is one that nobody could use.
pub fn admin_token(environment: Environment) -> Result<Option<Secret>, String> {
    match environment.secret("ADMIN_TOKEN")? {
        Some(token) if token.is_blank() => Err("ADMIN_TOKEN holds nothing but blanks and commas".to_owned()),
        token => Ok(token),
    }
}

fn keep_days(given: &str) -> Result<Option<u32>, String> {
    if ["", "forever"].contains(&given) {
        return Ok(None);
    }
    let days = number("KEEP_DAYS", given, 1, KEEP_DAYS_MAX);
    days.map(Some).map_err(|why| format!("{why}, or forever"))
}

fn on_or_off(name: &str, given: &str) -> Result<bool, String> {
    match given.to_ascii_lowercase().as_str() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("{name} should be on or off{}", blank_hint(given))),
    }
}

fn note<T>(errors: &mut Vec<String>, result: Result<T, String>) -> Option<T> {
    result.map_err(|error| errors.push(error)).ok()
}

fn note_all<T>(errors: &mut Vec<String>, result: Result<T, ConfigErrors>) -> Option<T> {
    result.map_err(|ConfigErrors(others)| errors.extend(others)).ok()
}

fn level(given: &str) -> Result<Level, String> {
    match given.to_ascii_uppercase().as_str() {
        "DEBUG" => Ok(Level::DEBUG),
        "INFO" => Ok(Level::INFO),
        "WARN" => Ok(Level::WARN),
        "ERROR" => Ok(Level::ERROR),
        _ => Err(format!("LOG_LEVEL should be DEBUG, INFO, WARN or ERROR{}", blank_hint(given))),
    }
}

fn number<T: FromStr + PartialOrd + Copy + fmt::Display>(
    name: &str,
    given: &str,
    min: T,
    max: T,
) -> Result<T, String> {
    match given.parse() {
        Ok(value) if value >= min && value <= max => Ok(value),
        _ => Err(format!("{name} should be a whole number from {min} to {max}{}", blank_hint(given))),
    }
}

/// A hint about blanks around a wrong value. The value itself is not repeated: somebody may have put a secret there.
fn blank_hint(given: &str) -> &'static str {
    if given.trim() == given { "" } else { ", with no blank or line end around it" }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    pub(super) fn check(
        flags: &[&str],
        lookup: fn(&str) -> Option<OsString>,
    ) -> Result<Config, ConfigErrors> {
        let cli = Cli::try_parse_from(std::iter::once(&"lyftr").chain(flags)).unwrap();
        Config::check(&cli.args, Environment::of(lookup))
    }

    pub(super) fn secret(name: &str) -> Option<OsString> {
        (name == "WEBHOOK_SECRET").then(|| "0123456789abcdef01234567".into())
    }

    #[test]
    fn the_defaults_are_the_contracts() {
        let config = check(&[], secret).unwrap();
        assert_eq!(config.database.url, store::Url::Sqlite("./data/app.db".into()));
        assert_eq!((config.host.as_str(), config.port), ("127.0.0.1", 8000));
        assert_eq!(config.log_level, Level::INFO);
        assert_eq!(config.max_body_bytes, 256 * 1024);
        assert_eq!(config.warnings(), [""; 0]);
    }

    #[test]
    fn every_configuration_error_is_told_at_once() {
        let flags = [
            "--database-url=mysql://x",
            "--log-level=LOUD",
            "--port=70000",
            "--queue-max=0",
            "--keep-alive-secs=0",
            "--host=",
            "--page=yes",
        ];
        let ConfigErrors(errors) = check(&flags, |_| None).unwrap_err();
        assert_eq!(errors.len(), 8, "{errors:#?}");
        assert!(errors.iter().any(|m| m.starts_with("WEBHOOK_SECRET is not set")));
    }

    #[test]
    fn levels_are_read_in_any_case() {
        assert_eq!(check(&["--log-level=dEbUg"], secret).unwrap().log_level, Level::DEBUG);
    }

    #[test]
    fn an_empty_secret_is_none() {
        assert!(check(&[], |_| Some(OsString::new())).is_err());
    }

    #[test]
    fn a_secret_may_come_from_a_file() {
        let environment =
            Environment::of(|name| (name == "WEBHOOK_SECRET_FILE").then(|| "Cargo.toml".into()));
        let secret = environment.secret("WEBHOOK_SECRET").unwrap().unwrap();
        let file = std::fs::read_to_string("Cargo.toml").unwrap();
        assert_eq!(secret.expose(), file.trim_end().as_bytes());
        let both = Environment::of(|_| Some("x".into()));
        assert!(both.secret("WEBHOOK_SECRET").unwrap_err().contains("both set"));
        let missing = Environment::of(|name| (name == "READ_TOKEN_FILE").then(|| "/no/such/file".into()));
        assert!(missing.secret("READ_TOKEN").unwrap_err().starts_with("READ_TOKEN_FILE: cannot read"));
    }

    #[test]
    fn previous_secrets_are_a_list() {
        let config = check(&[], |name| match name {
            "WEBHOOK_SECRET" => Some("0123456789abcdef01234567".into()),
            "WEBHOOK_SECRET_PREVIOUS" => {
                Some("the one that was valid before, the,\r\n,\n  one before that one was".into())
            }
            _ => None,
        });
        let previous = config.unwrap().webhook_secrets_previous;
        let expected = ["the one that was valid before", "the", "one before that one was"];
        let shortest: Vec<_> = previous.iter().map(|forms| forms.last().unwrap().clone()).collect();
        assert_eq!(shortest, expected.map(Secret::new));
        assert!(check(&[], secret).unwrap().webhook_secrets_previous.is_empty());
    }

    #[test]
    fn secrets_print_nothing_of_themselves() {
        let config = check(&[], secret).unwrap();
        assert!(!format!("{config:?}").contains("0123456789"));
    }
}
