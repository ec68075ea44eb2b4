//! `lyftr migrate`: brings the schema of the database up to date before the first start of a new version.

use std::fmt::{Debug, Write as _};
use std::process::ExitCode;

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::{Failure, invalid_settings, print, say};
use crate::config::{Database, DatabaseArgs, Environment};
use crate::store;

pub(super) fn run(args: &DatabaseArgs, environment: Environment) -> Result<ExitCode, Failure> {
    let database = match Database::check(args, environment) {
        Ok(database) => database,
        Err(errors) => return Ok(invalid_settings("go to the database", &errors)),
    };
    // It fails only where another one was set, which then tells.
    let _told = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Progress));
    let version = store::migrate(&database.url, database.settings)?;
    print(&format!("{} has schema version {version}, which this Lyftr works with", database.url));
    Ok(ExitCode::SUCCESS)
}

/// Says on standard error what a service that brings the schema up to date says in its log, and each step besides.
struct Progress;

impl<S: Subscriber> Layer<S> for Progress {
    fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target().ends_with("::migrate") {
            let mut words = Words("lyftr:".to_owned());
            event.record(&mut words);
            say(&words.0);
        }
    }
}

/// The words of an event of the log: its message, then its fields.
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _infallible = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
