//! `lyftr sign`: prints the signature of a body.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, print, signing_key};
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
    let body = if options.file.as_os_str() == "-" {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body)?;
        body
    } else {
        std::fs::read(&options.file)
            .map_err(|error| format!("cannot read FILE, which should hold the body: {error}"))?
    };
    print(&key.sign(&body));
    Ok(ExitCode::SUCCESS)
}
