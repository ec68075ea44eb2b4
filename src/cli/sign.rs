//! `lyftr sign`: prints the signature of a body.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, print, read_input, signing_key};
use crate::config::Environment;

/// Command-line options.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// File with the body; - for standard input. Every byte counts, a line end at the end too
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
}

pub(super) fn run(options: &Options, environment: Environment) -> Result<ExitCode, Failure> {
    let key = signing_key(environment)?;
    print(&key.sign(&read_input(&options.file, "FILE, which should hold the body")?));
    Ok(ExitCode::SUCCESS)
}
