//! `lyftr doctor`: says why the signature of a captured request does not verify.

use std::path::Path;
use std::process::ExitCode;

use axum::http::header::TRANSFER_ENCODING;

use super::request::Captured;
use super::{Failure, invalid_settings, print, read_input, say};
use crate::clock;
use crate::config::{Environment, SourcesArgs};
use crate::source::{Request, examine};

/// The end of the help.
pub(super) const HINTS: &str = "\
The headers stand one on a line, as in `X-Hub-Signature-256: sha256=…`, after the request line or without it; what follows
a blank line is the body, unless --body names another file. Every byte of the body counts, a line end at its end too.
Nothing is sent anywhere. Exit code 0 if the signature is right; of a request that came long ago say when, with --at.
  lyftr doctor --source shop-wa --headers headers.txt --body body.json";

/// Command-line options.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Name of the source that refuses the request
    #[arg(long, value_name = "NAME")]
    source: String,
    /// File with the headers of the request, or with all of it; - for standard input
    #[arg(long, value_name = "FILE", default_value = "-")]
    headers: String,
    /// File with the body; - for standard input
    #[arg(long, value_name = "FILE")]
    body: Option<String>,
    /// Path and query that the request was sent to [default: as in the request line, else /webhook/NAME]
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// When the request came, for example 2025-01-15T10:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
    #[command(flatten)]
    sources: SourcesArgs,
}

pub(super) fn run(options: &Options, environment: Environment) -> Result<ExitCode, Failure> {
    let config = match options.sources.read(environment) {
        Ok(config) => config,
        Err(errors) => return Ok(invalid_settings("read the sources", &errors)),
    };
    let settings = super::sources::find(&config, &options.source)?;
    if options.headers == "-" && options.body.as_deref() == Some("-") {
        return Err("only one of --headers and --body can be standard input".into());
    }
    let read = |file: &str, option| read_input(Path::new(file), &format!("what {option} names"));
    let captured = Captured::parse(&read(&options.headers, "--headers")?)
        .map_err(|why| format!("what --headers names: {why}"))?;
    let body = options.body.as_deref().map(|file| read(file, "--body")).transpose()?.unwrap_or(captured.body);
    if captured.headers.contains_key(TRANSFER_ENCODING) && options.body.is_none() {
        say("the headers speak of chunks: the body must be given without their lengths");
    }
    let target = options.target.clone().or(captured.target);
    let target = target.unwrap_or_else(|| format!("/webhook/{}", options.source));
    let request = Request { target: &target, headers: &captured.headers, body: &body };
    let now = options.at.unwrap_or_else(clock::now).as_second();
    let diagnosis = examine(settings, &request, now);
    for warning in &config.warnings {
        say(warning);
    }
    match diagnosis.verdict {
        Ok(verified) => {
            let name = settings.secrets.get(verified.secret).map_or("", |secret| &secret.name);
            print(&format!("the signature is right: secret `{name}` made it"));
            Ok(ExitCode::SUCCESS)
        }
        Err(refusal) => {
            print(&format!("refused: {refusal}"));
            diagnosis.findings.iter().for_each(|finding| print(&format!("- {finding}")));
            Ok(ExitCode::FAILURE)
        }
    }
}
