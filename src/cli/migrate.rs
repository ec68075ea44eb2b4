//! `lyftr migrate`: brings the schema of the database up to date before the first start of a new version.

use std::process::ExitCode;

use super::{Failure, invalid_settings, print};
use crate::config::{Database, DatabaseArgs, Environment};
use crate::store;

pub(super) fn run(args: &DatabaseArgs, environment: Environment) -> Result<ExitCode, Failure> {
    let database = match Database::check(args, environment) {
        Ok(database) => database,
        Err(errors) => return Ok(invalid_settings("go to the database", &errors)),
    };
    let version = store::migrate(&database.url, database.settings)?;
    print(&format!("{} has schema version {version}, which this Lyftr works with", database.url));
    Ok(ExitCode::SUCCESS)
}
