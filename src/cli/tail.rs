//! `lyftr tail`: follows the log of a service, as any follower can, and prints its events.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use self::follower::{Follower, Task};
use self::service::{Place, Service};
use self::stop::Stop;
use super::filters::Filters;
use super::target::Target;
use super::{Failure, invalid_settings};
use crate::config::{ConfigErrors, Environment};
use crate::cursor::CursorName;
use crate::output::Output;

mod behind;
mod cursor;
mod follower;
mod readable;
mod service;
mod sse;
mod stop;
mod stream;

pub(super) use self::readable::visible;
pub(super) use self::service::{authorization, detail, read_authorization};

/// What `--url` should look like.
const FORM: &str = "--url should look like http://127.0.0.1:8000 or https://example.org";

/// The end of the help.
pub(super) const HINTS: &str = "\
Prints one JSON object a line; on a terminal, without --json, a line for people. Connects again by
itself, and goes on where it was:
  lyftr tail --cursor billing --kind message >> messages.ndjson
Exit codes: 0 at the end, after SIGTERM, and when nobody reads the output any more; 130 after Ctrl-C;
1 if it cannot go on; 2 for wrong arguments.
READ_TOKEN, or READ_TOKEN_FILE, is the service's read token, if it has one.";

/// Command-line options.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// URL of the service. A proxy of the environment (`HTTPS_PROXY` and so on, with `NO_PROXY`) is used unless the URL is on
    /// this machine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    url: String,
    /// Where to begin: at the end (now), before the first event (beginning), or after the event with a position
    #[arg(long, value_name = "PLACE", default_value = "now")]
    from: String,
    /// Name of a cursor to begin at, which is moved to what was printed; where there is none, it is made, and --from counts
    #[arg(long, value_name = "NAME")]
    cursor: Option<String>,
    /// The events.
    #[command(flatten)]
    filters: Filters,
    /// End after so many events
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// End at the end of the log, in the place of waiting for more
    #[arg(long, visible_alias = "no-follow")]
    until_end: bool,
    /// Print JSON on a terminal too
    #[arg(long)]
    json: bool,
    /// Number of retries in a row before it gives up [default: 5 before the first connection and with --until-end, then no
    /// end]
    #[arg(long, value_name = "NUMBER")]
    retries: Option<u32>,
}

pub(super) fn run(options: &Options, environment: Environment) -> Result<ExitCode, Failure> {
    let (service, place, cursor) = match check(options, environment) {
        Ok(checked) => checked,
        Err(errors) => return Ok(invalid_settings("follow", &errors)),
    };
    let task = Task {
        place,
        left: options.limit,
        until_end: options.until_end,
        json: options.json || !std::io::stdout().is_terminal(),
        retries: options.retries,
    };
    Follower::new(task, service, Output::standard()?, Stop::watch()?).run(cursor)
}

/// Checks everything, so that all errors can be told at once.
fn check(
    options: &Options,
    environment: Environment,
) -> Result<(Service, Place, Option<CursorName>), ConfigErrors> {
    let mut errors = Vec::new();
    let mut note = |error: String| errors.push(error);
    let target = Target::parse_base(&options.url, FORM);
    let target = target.map_err(|form| note(form.to_owned())).ok();
    let cursor = options.cursor.as_deref().map(CursorName::new).transpose();
    let cursor = cursor.map_err(|bad| note(format!("--cursor: {bad}"))).ok();
    let place = place(&options.from).map_err(|why| note(why.to_owned())).ok();
    let token = service::read_authorization(environment).map_err(&mut note).ok().flatten();
    match (target, cursor, place) {
        (Some(target), Some(cursor), Some(place)) if errors.is_empty() => {
            Ok((Service::new(&target, token.as_ref(), options.filters.parameters(&[])), place, cursor))
        }
        _ => Err(ConfigErrors(errors)),
    }
}

/// The place that `--from` names. Only the service knows whether a position is one.
fn place(given: &str) -> Result<Place, &'static str> {
    match given {
        "now" => Ok(Place::Now),
        "beginning" => Ok(Place::Beginning),
        position if !position.is_empty() && position.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Ok(Place::After(position.to_owned()))
        }
        _ => Err(
            "--from should be now, beginning, or a position; --sender is for the events from a person or number",
        ),
    }
}
