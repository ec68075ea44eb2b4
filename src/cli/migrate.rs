//! `lyftr migrate`: brings the schema of the database up to date, for who does not leave that to the first start.

use std::process::ExitCode;

use super::{print, say};
use crate::config::{Database, DatabaseArgs, Environment};
use crate::store;

pub(super) fn run(args: &DatabaseArgs, environment: Environment) -> ExitCode {
    let database = match Database::check(args, environment) {
        Ok(database) => database,
        Err(mistakes) => {
            say(&format!("lyftr cannot go to the database:\n{mistakes}"));
            return ExitCode::from(2);
        }
    };
    match store::migrate(&database.url, database.settings) {
        Ok(version) => {
            print(&format!("{} has schema version {version}, which this Lyftr works with", database.url));
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&format!("lyftr: {error}"));
            ExitCode::FAILURE
        }
    }
}
