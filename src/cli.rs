//! The command line: what can be asked of the program, and with which exit code it ends.
//!
//! Exit codes: 0, done; 1, it failed; 2, the question was wrong (arguments or settings).

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::SignalKind;

use crate::config::{self, Args, Environment, Mistakes};
use crate::output::Output;
use crate::signature::Key;

mod backup;
mod check;
mod copy;
mod healthcheck;
mod migrate;
mod send;
mod serve;
mod sign;
mod usage;

/// Something failed; the text is for the person at the terminal.
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

/// What stands below the help of a command that serves.
const SECRETS: &str = "\
Secrets come from the environment only, each as NAME or, from a file, as NAME_FILE:
  WEBHOOK_SECRET           key that messages are signed with (required)
  WEBHOOK_SECRET_PREVIOUS  keys that are still valid beside it, with commas or line ends between them
  READ_TOKEN               bearer token that reads need; without it everybody may read
DATABASE_URL may hold a password, and can come from a file, DATABASE_URL_FILE, too.";

/// What stands below the help of a command that goes to the database.
const DATABASE_SECRET: &str =
    "DATABASE_URL may hold a password, and can come from a file, DATABASE_URL_FILE, too.";

/// What stands below the help of the command that copies.
const COPY_SECRETS: &str = "\
A URL with a password is better given as COPY_FROM or COPY_TO, which other users of the machine cannot see.
The service need not run. A SQLite database belongs to one process: stop the service that has it. What arrives
in PostgreSQL meanwhile is copied by the next run.";

/// What stands below the help of the command that backs up.
const BACKUP_HINTS: &str = "\
FILE is a SQLite database, whichever the store is, and is never overwritten. The service need not stop.
To restore it, put it in the place of app.db, or give it to lyftr copy.
DATABASE_URL may hold a password, and can come from a file, DATABASE_URL_FILE, too.";

/// What stands below the help of the command that checks.
const CHECK_HINTS: &str = "\
Nothing is changed, and the service need not stop. A backup is checked like any database:
  lyftr check --database-url sqlite:////path/to/backup.db
DATABASE_URL may hold a password, and can come from a file, DATABASE_URL_FILE, too.";

/// What stands below the help of a command that signs.
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
    /// Bring the schema of the database up to date, and do nothing else
    #[command(after_help = DATABASE_SECRET)]
    Migrate(crate::config::DatabaseArgs),
    /// Write all messages into a new file, while the service goes on
    #[command(after_help = BACKUP_HINTS)]
    Backup(backup::Options),
    /// Look whether the database is sound; exit code 0 if it is
    #[command(after_help = CHECK_HINTS)]
    Check(crate::config::DatabaseArgs),
    /// Copy all messages from one database to another, and compare the two
    #[command(after_help = COPY_SECRETS)]
    Copy(copy::Options),
    /// Ask a running service whether it is ready; exit code 0 if it is
    Healthcheck(healthcheck::Options),
    /// Print the signature of a body
    #[command(after_help = SIGNING_SECRET)]
    Sign(sign::Options),
    /// Sign messages and post them to a service
    #[command(after_help = SIGNING_SECRET)]
    Send(send::Options),
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
            // What was not expected is repeated, and may be a URL with a password in it.
            if let Some(expected) = misplaced(&error.render().to_string(), std::env::args().skip(1)) {
                say(expected);
                return ExitCode::from(2);
            }
            // Help and version are errors to clap, with exit code 0; a closed terminal is no reason to panic.
            let _closed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::run(&args, environment),
        Command::Migrate(args) => finish(migrate::run(&args, environment)),
        Command::Backup(options) => finish(backup::run(&options, environment)),
        Command::Check(args) => finish(check::run(&args, environment)),
        Command::Copy(options) => finish(copy::run(&options)),
        Command::Healthcheck(options) => finish(healthcheck::run(&options)),
        Command::Sign(options) => finish(sign::run(&options, environment)),
        Command::Send(options) => finish(send::run(&options, environment)),
    }
}

/// What to say in the place of a message that repeats an argument that may hold a password.
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

/// The key that messages are signed with. Says what is odd about it.
fn signing_key(environment: Environment) -> Result<Key, Failure> {
    let secret = config::webhook_secret(environment)?;
    if let Some(warning) = config::warning_of("WEBHOOK_SECRET", &secret) {
        say(&warning);
    }
    Ok(Key::new(secret.expose()))
}

/// Says what is wrong with the settings, all of it, and why that stops the command.
fn mistaken(what: &str, mistakes: &Mistakes) -> ExitCode {
    say(&format!("lyftr cannot {what}:\n{mistakes}"));
    ExitCode::from(2)
}

/// Has a write past the limit of a file's size (`ulimit -f`) fail like any other write that fails, in the place of
/// ending the process by SIGXFSZ, as a log or a database that has grown to it would. Holds from here on in all threads:
/// the signal's handler stays when the runtime is gone.
fn survive_file_size_limit() -> std::io::Result<()> {
    let signal = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async { tokio::signal::unix::signal(signal).map(drop) })
}

/// Becomes true when the process is asked to end, by SIGTERM or Ctrl-C. It then has to end by itself.
fn asked_to_stop() -> std::io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let signal = runtime.block_on(async { serve::stop_signal() })?;
    let asked = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&asked);
    std::thread::Builder::new().name("lyftr-signal".into()).spawn(move || {
        runtime.block_on(signal);
        tell.store(true, Ordering::Relaxed);
    })?;
    Ok(asked)
}

/// Seen on a terminal only.
fn progress_bar(total: u64, what: &'static str) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:30} {percent:>3} %  {human_pos} {msg}  {elapsed} ({eta} left)");
    ProgressBar::new(total)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what)
}

/// Tells the person at the terminal, on standard error.
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
