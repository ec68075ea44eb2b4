//! `lyftr backup`: writes all events into a new file, while the service runs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use super::{Failure, invalid_settings, print, progress_bar, stop_flag};
use crate::config::{Database, DatabaseArgs, Environment};
use crate::store::Url;
use crate::store::backup::{self, Progress};

/// Command-line options.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The file to create; an existing one is not overwritten
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
}

pub(super) fn run(options: &Options, environment: Environment) -> Result<ExitCode, Failure> {
    let database = match Database::check(&options.database, environment) {
        Ok(database) => database,
        Err(errors) => return Ok(invalid_settings("go to the database", &errors)),
    };
    let stop = stop_flag()?;
    let bar = progress_bar(0, if matches!(database.url, Url::Sqlite(_)) { "pages" } else { "events" });
    let done = backup::backup(&database.url, database.settings, &options.file, |Progress { done, total }| {
        bar.set_length(total);
        bar.set_position(done);
        !stop.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    let backup::Done { events, bytes } = done?;
    print(&format!("{}: {events} events, {bytes} bytes", options.file.display()));
    Ok(ExitCode::SUCCESS)
}
