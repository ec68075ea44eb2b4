//! The command line: the commands, their options and their exit codes.
//!
//! Exit codes: 0 success, 1 failure, 2 wrong arguments or settings.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::SignalKind;

use crate::config::{self, Args, ConfigErrors, Environment};
use crate::output::Output;
use crate::signature::Key;

mod backup;
mod check;
mod check_config;
mod copy;
mod doctor;
mod erase;
mod export;
mod filters;
mod healthcheck;
mod migrate;
mod request;
mod send;
mod serve;
mod sign;
mod sources;
mod tail;
mod target;
mod usage;

/// The failure of a command, with a text for the person at the terminal.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A webhook inbox: answers 200 only when a message is on disk exactly once.
#[derive(Debug, Parser)]
#[command(name = "lyftr", version, about, after_help = format!("{SECRETS}\n\n{EXAMPLE}"), args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Args,
}

/// The end of the help of a command that serves.
const SECRETS: &str = "\
Secrets come from the environment only, each as NAME or, from a file, as NAME_FILE:
  WEBHOOK_SECRET           key that messages are signed with (required)
  WEBHOOK_SECRET_PREVIOUS  keys that are still valid beside it, with commas or line ends between them
  READ_TOKEN               bearer token that reads need; without it everybody may read
  ADMIN_TOKEN              bearer token that erasing needs; without it no request can erase anything
DATABASE_URL may hold a password, and can come from a file, DATABASE_URL_FILE, too.
Secrets of sources stand where SOURCES_FILE or SOURCES says; SIGHUP reads both again.";

/// The end of the help of a command that opens the database.
const DATABASE_SECRET: &str =
    "DATABASE_URL may hold a password, and can come from a file, DATABASE_URL_FILE, too.";

/// The end of the help of `copy`.
const COPY_SECRETS: &str = "\
Give a URL with a password as COPY_FROM or COPY_TO, which other users of the machine cannot see.
The service need not run. A SQLite database belongs to one process: stop the service that has it. Messages that
arrive in PostgreSQL meanwhile are copied by the next run.";

/// The end of the help of `backup`.
const BACKUP_HINTS: &str = "\
FILE is a SQLite database, whichever engine the store has. A file that exists is never overwritten. The service may
run meanwhile. To restore FILE, replace app.db with it, or copy it with lyftr copy.
DATABASE_URL may hold a password, and can come from a file, DATABASE_URL_FILE, too.";

/// The end of the help of `check`.
const CHECK_HINTS: &str = "\
The database stays unchanged, and the service may run meanwhile. A backup is checked like any database:
  lyftr check --database-url sqlite:////path/to/backup.db
DATABASE_URL may hold a password, and can come from a file, DATABASE_URL_FILE, too.";

/// The end of the help of a command that signs.
const SIGNING_SECRET: &str = "\
The secret comes from the environment only, as NAME or, from a file, as NAME_FILE:
  WEBHOOK_SECRET   key that messages are signed with (required)";

const EXAMPLE: &str = "\
Without a command, lyftr serves. Try it:
  export WEBHOOK_SECRET=$(openssl rand -hex 32)
  lyftr &
  lyftr send --text 'Hello'
  curl -s localhost:8000/messages";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service (the default)
    #[command(after_help = SECRETS)]
    Serve(Args),
    /// Migrate the schema of the database to the newest version
    #[command(after_help = DATABASE_SECRET)]
    Migrate(crate::config::DatabaseArgs),
    /// Write all messages to a new file; the service may run meanwhile
    #[command(after_help = BACKUP_HINTS)]
    Backup(backup::Options),
    /// Check the integrity of the database; exit code 0 if it is sound
    #[command(after_help = CHECK_HINTS)]
    Check(crate::config::DatabaseArgs),
    /// Check the settings and the sources without starting anything; exit code 0 if a start would accept them
    #[command(after_help = SECRETS)]
    CheckConfig(Args),
    /// Copy all messages from one database to another, and compare both
    #[command(after_help = COPY_SECRETS)]
    Copy(copy::Options),
    /// Say why the signature of a captured request does not verify
    #[command(after_help = doctor::HINTS)]
    Doctor(doctor::Options),
    /// Erase events for ever, of a service or of a database
    #[command(after_help = erase::HINTS)]
    Erase(erase::Options),
    /// Write the messages or events of a service into a file
    #[command(after_help = export::HINTS)]
    Export(export::Options),
    /// Ask a running service whether it is ready; exit code 0 if it is
    Healthcheck(healthcheck::Options),
    /// Print the signature of a body
    #[command(after_help = SIGNING_SECRET)]
    Sign(sign::Options),
    /// Sign messages, or a delivery of a provider, and post them to a service
    #[command(after_help = SIGNING_SECRET)]
    Send(send::Options),
    /// Follow the events of a service, and print them
    #[command(after_help = tail::HINTS)]
    Tail(tail::Options),
}

/// Runs the program on the arguments and the environment of the process.
pub fn run() -> ExitCode {
    if let Err(error) = survive_file_size_limit() {
        say(&format!("lyftr cannot start: {error}"));
        return ExitCode::FAILURE;
    }
    let environment = Environment::of_process();
    let cli = match usage::parse(environment) {
        Ok(cli) => cli,
        Err(error) => {
            // Clap repeats an argument that it does not expect, which may be a URL with a password.
            let arguments =
                std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
            if let Some(expected) = misplaced(&error.render().to_string(), arguments) {
                say(expected);
                return ExitCode::from(2);
            }
            // Help and version are errors to clap, with exit code 0. A closed terminal is ignored.
            let _closed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(&args, environment),
        Command::Migrate(args) => finish(migrate::run(&args, environment)),
        Command::Backup(options) => finish(backup::run(&options, environment)),
        Command::Check(args) => finish(check::run(&args, environment)),
        Command::CheckConfig(args) => check_config::run(&args, environment),
        Command::Copy(options) => finish(copy::run(&options)),
        Command::Doctor(options) => finish(doctor::run(&options, environment)),
        Command::Erase(options) => finish(erase::run(&options, environment)),
        Command::Export(options) => finish(export::run(&options, environment)),
        Command::Healthcheck(options) => finish(healthcheck::run(&options)),
        Command::Sign(options) => finish(sign::run(&options, environment)),
        Command::Send(options) => finish(send::run(&options, environment)),
        Command::Tail(options) => finish(tail::run(&options, environment)),
    }
}

/// The text to show instead of clap's `message` if that repeats an argument that may hold a password.
fn misplaced(message: &str, mut arguments: impl Iterator<Item = String>) -> Option<&'static str> {
    let may_hold_one = |argument: &str| {
        let value = argument.split_once('=').map_or(argument, |(_, value)| value);
        argument.contains(['@', ':']) && (message.contains(argument) || message.contains(value))
    };
    arguments.any(|argument| may_hold_one(&argument)).then_some(
        "lyftr: an argument that may hold a password stands where none is expected, and is not repeated here; \
         a URL is given as --database-url URL, or as DATABASE_URL. For more information, try '--help'.",
    )
}

fn finish(result: Result<ExitCode, Failure>) -> ExitCode {
    result.unwrap_or_else(|failure| {
        say(&format!("lyftr: {failure}"));
        ExitCode::FAILURE
    })
}

/// The key that messages are signed with. Warns of a secret that looks wrong.
fn signing_key(environment: Environment) -> Result<Key, Failure> {
    let secret = config::webhook_secret(environment)?;
    if let Some(warning) = config::warning_of("WEBHOOK_SECRET", &secret) {
        say(&warning);
    }
    Ok(Key::new(secret.expose()))
}

/// The content of a file, or for `-` of standard input.
///
/// # Errors
/// In words that call the file `what`: its name may be a secret.
fn read_input(file: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    let read = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    Ok(read.map_err(|error| format!("cannot read {what}: {error}"))?)
}

/// Says every configuration error, and what the command cannot do for them.
fn invalid_settings(what: &str, errors: &ConfigErrors) -> ExitCode {
    say(&format!("lyftr cannot {what}:\n{errors}"));
    ExitCode::from(2)
}

/// Makes a write past the limit of file sizes (`ulimit -f`) fail like any other write, instead of ending the process by
/// SIGXFSZ. A log or a database may grow to that limit. Holds from here on in all threads: the handler of the signal
/// stays when the runtime is gone.
fn survive_file_size_limit() -> std::io::Result<()> {
    let signal = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async { tokio::signal::unix::signal(signal).map(drop) })
}

/// A flag that is set by SIGTERM and Ctrl-C. Neither ends the process any more: the caller has to watch the flag.
fn stop_flag() -> std::io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signal = runtime.block_on(async { serve::stop_signal() })?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    std::thread::Builder::new().name("lyftr-signal".into()).spawn(move || {
        runtime.block_on(signal);
        flag.store(true, Ordering::Relaxed);
    })?;
    Ok(stop)
}

/// A progress bar on standard error, which is visible on a terminal only.
fn progress_bar(total: u64, what: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:30} {percent:>3} %  {human_pos} {msg}  {elapsed} ({eta} left)");
    ProgressBar::new(total)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
}

/// Prints a text for the person at the terminal, on standard error.
pub(crate) fn say(text: &str) {
    write_line(Output::error(), text);
}

/// Prints a result on standard output.
pub(crate) fn print(text: &str) {
    write_line(Output::standard(), text);
}

fn write_line(output: std::io::Result<Output>, text: &str) {
    let _closed = output.and_then(|mut output| output.write_all(format!("{text}\n").as_bytes()));
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_is_explained() {
        fn check(command: &clap::Command) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in
                command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str()))
            {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
