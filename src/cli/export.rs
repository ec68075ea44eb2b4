//! `lyftr export`: writes the messages or events of a service that match into a file, or prints them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use self::answer::{Heard, Service, Trouble};
use self::destination::{Destination, Unwritten};
use super::filters::Filters;
use super::tail::read_authorization;
use super::target::Target;
use super::{Failure, invalid_settings, print, progress_bar, say, stop_flag};
use crate::config::{ConfigErrors, Environment};

mod answer;
mod count;
mod destination;

/// What `--url` should look like.
const FORM: &str = "--url should look like http://127.0.0.1:8000 or https://example.org";
/// Time between two looks at what wakes nobody: signals.
const TICK: Duration = Duration::from_millis(100);

/// The end of the help.
pub(super) const HINTS: &str = "\
FILE gets its name once it is complete and on disk; until then it is FILE.partial. A file that exists is not overwritten
without --force. A progress bar is shown on a terminal.
  lyftr export --format csv --since 2025-01-01T00:00:00Z --output messages.csv
  lyftr export events --source shop-wa | gzip > events.ndjson.gz
Exit codes: 0 if all is written, or nobody reads the output any more; 1 if not; 2 for wrong arguments.
READ_TOKEN, or READ_TOKEN_FILE, is the service's read token, if it has one.";

/// Command-line options.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// What to write: messages in the order of their time, or events in that of their arrival
    #[arg(value_name = "WHAT", default_value = "messages")]
    what: What,
    /// URL of the service. A proxy of the environment (`HTTPS_PROXY` and so on, with `NO_PROXY`) is used unless the URL is on
    /// this machine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    url: String,
    /// Lines of JSON, or comma-separated values for a spreadsheet
    #[arg(long, value_name = "FORMAT", default_value = "ndjson")]
    format: Format,
    /// The file to write; - is standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    filters: Filters,
    /// Only messages whose text contains this, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Only messages of this instant and later ones, such as 2025-01-15T10:00:00Z
    #[arg(long, value_name = "INSTANT")]
    since: Option<String>,
    /// Only messages before this instant
    #[arg(long, value_name = "INSTANT")]
    until: Option<String>,
    /// End after so many of them
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Messages,
    Events,
}

/// The form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Ndjson,
    Csv,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Events => "events",
        }
    }
}

impl Format {
    /// The media type of the answer, without parameters.
    fn media(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
        }
    }
}

/// Why an export is not whole.
enum Ended {
    Interrupted,
    Trouble(Trouble),
    Unwritten(Unwritten),
}

pub(super) fn run(options: &Options, environment: Environment) -> Result<ExitCode, Failure> {
    let service = match check(options, environment) {
        Ok(service) => service,
        Err(errors) => return Ok(invalid_settings("export", &errors)),
    };
    let mut destination = Destination::open(&options.output, options.force)?;
    let bar = bar(options, &service);
    let written = write(options, &service, &mut destination, &bar);
    let count = bar.position();
    bar.finish_and_clear();
    let what = options.what.word();
    let so_far = format!("after {count} {what}");
    let text = match written {
        Ok(()) => match destination.finish()? {
            Some(bytes) => {
                print(&format!("{}: {count} {what}, {bytes} bytes", options.output.display()));
                return Ok(ExitCode::SUCCESS);
            }
            None => return Ok(ExitCode::SUCCESS),
        },
        Err(Ended::Unwritten(Unwritten::Closed)) => return Ok(ExitCode::SUCCESS),
        Err(Ended::Unwritten(Unwritten::Failed(why))) => {
            format!("{so_far}, it cannot be written further: {why}")
        }
        Err(Ended::Interrupted) => format!("the export was interrupted {so_far}"),
        Err(Ended::Trouble(Trouble::Refused { text, code })) => {
            say(&format!("lyftr: {text}"));
            return Ok(ExitCode::from(code));
        }
        Err(Ended::Trouble(Trouble::Broken(why))) => format!("the export broke off {so_far}: {why}"),
    };
    Err(format!("{text}; {}", destination.left()).into())
}

/// Checks everything, so that all errors can be told at once.
fn check(options: &Options, environment: Environment) -> Result<Service, ConfigErrors> {
    let mut errors = Vec::new();
    let target = Target::parse_base(&options.url, FORM).map_err(|form| errors.push(form.to_owned()));
    let token = read_authorization(environment).map_err(|why| errors.push(why)).ok().flatten();
    match options.what {
        What::Messages => {
            errors.extend(
                options
                    .filters
                    .of_events_only()
                    .map(|name| format!("{name} is for events, not for messages")),
            );
        }
        What::Events => {
            let of_messages =
                [("--search", &options.search), ("--since", &options.since), ("--until", &options.until)];
            let given = of_messages.iter().filter(|(_, value)| value.is_some());
            errors.extend(given.map(|(name, _)| format!("{name} is for messages, not for events")));
        }
    }
    match target {
        Ok(target) if errors.is_empty() => {
            let more = [("q", &options.search), ("since", &options.since), ("until", &options.until)];
            let query = options.filters.parameters(&more);
            Ok(Service::new(&target, token, options.what.word(), query))
        }
        _ => Err(ConfigErrors(errors)),
    }
}

/// A progress bar: of a known length where the service tells it, and if anybody can see it.
fn bar(options: &Options, service: &Service) -> ProgressBar {
    let bar = progress_bar(0, options.what.word());
    if bar.is_hidden() {
        return bar;
    }
    // Where it cannot be told, the export itself says what is wrong.
    let total = if options.what == What::Messages { service.total() } else { None };
    if let Some(length) = total.into_iter().chain(options.limit).min() {
        bar.set_length(length);
        return bar;
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} {msg}  {elapsed}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

/// Writes what the service answers, until its end.
fn write(
    options: &Options,
    service: &Service,
    destination: &mut Destination,
    bar: &ProgressBar,
) -> Result<(), Ended> {
    let failed = |error: std::io::Error| Ended::Unwritten(Unwritten::Failed(error.to_string()));
    let stop = stop_flag().map_err(failed)?;
    let heard = service.export(options.format.media(), options.limit).map_err(failed)?;
    let mut count = count::Count::new(options.format == Format::Csv);
    let goes_on = || !stop.load(Relaxed);
    loop {
        if !goes_on() {
            return Err(Ended::Interrupted);
        }
        match heard.recv_timeout(TICK) {
            Ok(Heard::Piece(piece)) => {
                if !destination.write(&piece, &goes_on).map_err(Ended::Unwritten)? {
                    return Err(Ended::Interrupted);
                }
                bar.set_position(count.add(&piece));
            }
            Ok(Heard::End) => return Ok(()),
            Ok(Heard::Trouble(trouble)) => return Err(Ended::Trouble(trouble)),
            Err(RecvTimeoutError::Timeout) => {
                if destination.is_closed() {
                    return Err(Ended::Unwritten(Unwritten::Closed));
                }
                bar.tick();
            }
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Ended::Trouble(Trouble::Broken("the connection has ended".to_owned())));
            }
        }
    }
}
