//! `lyftr erase`: erases events, of a service by a request, or of a database that no service has open. Counts them first.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use self::place::{Erased, Place};
use super::filters::Filters;
use super::{Failure, invalid_settings, print, say};
use crate::config::{ConfigErrors, DatabaseArgs, Environment};
use crate::query::{self, ErasureQuery};
use crate::validation::Location;

mod place;

/// The end of the help.
pub(super) const HINTS: &str = "\
Counts first, and erases only with --yes, or after a question on a terminal. What was erased is not stored again when it
comes once more. Without --url the database is opened: stop the service that has a SQLite database first.
  lyftr erase --url http://127.0.0.1:8000 --person +919876543210 --dry-run
Exit codes: 0 if all is erased, or nothing is to be erased; 1 if not; 2 for wrong arguments, and where --yes is missing.
ADMIN_TOKEN, or ADMIN_TOKEN_FILE, is the service's admin token. DATABASE_URL may hold a password, and can come from a file,
DATABASE_URL_FILE, too.";

/// Command-line options.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// URL of the service to ask, in the place of opening the database. A proxy of the environment (`HTTPS_PROXY` and so on, with
    /// `NO_PROXY`) is used unless the URL is on this machine
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The events.
    #[command(flatten)]
    filters: Filters,
    /// Only events of which this person or number is the sender, the recipient, the user id or the conversation
    #[arg(long, value_name = "NAME")]
    person: Option<String>,
    /// Only events that were received before this instant, such as 2025-01-15T10:00:00Z
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
    /// Count only
    #[arg(long)]
    dry_run: bool,
    /// Erase without a question
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// The database.
    #[command(flatten)]
    database: DatabaseArgs,
}

impl Options {
    /// The events as the query string of a request.
    fn query(&self) -> String {
        self.filters.parameters(&[("person", &self.person), ("until", &self.until)]).join("&")
    }
}

pub(super) fn run(options: &Options, environment: Environment) -> Result<ExitCode, Failure> {
    let query = options.query();
    let erasure = query::parse_erasure(&query);
    let place = Place::check(options.url.as_deref(), &options.database, environment);
    let (ErasureQuery { erasure, .. }, place) = match (erasure, place) {
        (Ok(erasure), Ok(place)) => (erasure, place),
        (erasure, place) => {
            let mut errors: Vec<String> = Vec::new();
            for error in erasure.err().unwrap_or_default() {
                errors.push(match &error.location {
                    Location::Field(name) => format!("{}: {}", option(name), error.reason),
                    _ => "give at least one of --source, --kind, --sender, --recipient, --thread, --ref, --person and \
                          --until"
                        .to_owned(),
                });
            }
            errors.extend(place.err().map(|ConfigErrors(errors)| errors).unwrap_or_default());
            return Ok(invalid_settings("erase", &ConfigErrors(errors)));
        }
    };
    let opened = place.open()?;
    let selected = opened.count(&erasure, &query)?;
    print(&format!("{} selected", events(selected)));
    if options.dry_run || selected == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    if !options.yes && !confirmed(selected) {
        say("lyftr erase: nothing was erased; --yes erases without a question");
        return Ok(ExitCode::from(2));
    }
    let Erased { events: erased, wiped } = opened.erase(&erasure, &query)?;
    print(&format!("{} erased", events(erased)));
    match wiped {
        Some(true) => {}
        Some(false) => say(
            "traces of them are left in the files of the database while a reader, such as a backup, has it open; they are \
             removed after that",
        ),
        None => say(
            "the database server keeps traces of them until it has vacuumed its tables and recycled its write-ahead log",
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// The option that sets a parameter of the query.
fn option(parameter: &str) -> String {
    match parameter {
        "from" => "--sender".to_owned(),
        "to" => "--recipient".to_owned(),
        other => format!("--{other}"),
    }
}

fn events(count: u64) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}

/// Asks the person at the terminal; false if there is none.
fn confirmed(selected: u64) -> bool {
    let (input, mut answer) = (std::io::stdin(), String::new());
    if !input.is_terminal() {
        return false;
    }
    say(&format!("Erase {} for ever? Type yes.", events(selected)));
    input.lock().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}
