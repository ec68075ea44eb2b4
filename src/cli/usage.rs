//! Parses the command line. Help and errors never repeat a value: somebody may have put a secret in the wrong place, and
//! both end in logs and in the records of build servers.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use clap::{Command, CommandFactory as _, FromArgMatches as _};

use super::Cli;
use crate::config::Environment;

/// Stands for a value in an error.
const ELIDED: &str = "…";
/// The tip for every unknown argument.
const SECRETS: &str = "the argument is not repeated here, since it may be a secret; secrets come from the environment \
                       only, as WEBHOOK_SECRET or WEBHOOK_SECRET_FILE, for example";

/// Parses the command line of this process.
///
/// # Errors
/// The error in the command line, or the help or the version if these were asked for.
pub(super) fn parse(environment: Environment) -> Result<Cli, Error> {
    let command = without_values(Cli::command());
    let parsed = command.clone().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| if error.use_stderr() { redacted(&error, &command, environment) } else { error })
}

/// The command, with help that does not show the values of variables.
fn without_values(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(without_values)
}

/// The same error with names from the definition of the command only, and without values.
fn redacted(error: &Error, command: &Command, environment: Environment) -> Error {
    // A new error, since the cause of the old one repeats the value.
    let mut redacted = Error::new(error.kind()).with_cmd(command);
    for (kind, value) in error.context() {
        let is_value = match (kind, value) {
            (ContextKind::InvalidArg, _) => error.kind() == ErrorKind::UnknownArgument,
            (ContextKind::InvalidSubcommand, ContextValue::String(name)) => {
                command.find_subcommand(name).is_none()
            }
            (ContextKind::InvalidValue, ContextValue::String(value)) => !value.is_empty(),
            (ContextKind::Suggested | ContextKind::TrailingArg | ContextKind::Custom, _) => continue,
            _ => false,
        };
        redacted.insert(kind, if is_value { ContextValue::String(ELIDED.to_owned()) } else { value.clone() });
    }
    let tip = match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => Some(SECRETS.to_owned()),
        ErrorKind::InvalidUtf8 => variables_not_utf8(command, environment),
        _ => None,
    };
    if let Some(tip) = tip {
        redacted.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    redacted
}

/// The names of the variables that are not UTF-8.
fn variables_not_utf8(command: &Command, environment: Environment) -> Option<String> {
    let commands = std::iter::once(command).chain(command.get_subcommands());
    let variables =
        commands.flat_map(Command::get_arguments).filter_map(|argument| argument.get_env()?.to_str());
    let mut names: Vec<_> = variables.filter(|name| environment.is_not_utf8(name)).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| format!("not UTF-8: {}", names.join(", ")))
}
