//! How the command is used, and what is wrong with a command line, without a word of what was given: somebody may have put
//! a secret in the wrong place, and errors and help end in logs and in the records of build servers.

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use clap::{Command, CommandFactory as _, FromArgMatches as _};

use super::Cli;
use crate::config::Environment;

/// Stands for what was given.
const GIVEN: &str = "…";
/// Said of every argument that is not known.
const SECRETS: &str = "what was given is not repeated here, in case it is a secret; secrets come from the environment \
                       only, as WEBHOOK_SECRET or WEBHOOK_SECRET_FILE, for example";

/// What the command line asks for.
///
/// # Errors
/// What is wrong with it, or the help, if that was asked for.
pub(super) fn parse(environment: Environment) -> Result<Cli, Error> {
    let command = without_values(Cli::command());
    let parsed = command.clone().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        if error.use_stderr() { without_what_was_given(&error, &command, environment) } else { error }
    })
}

/// A command whose help does not show what its variables are set to.
fn without_values(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_env_values(true)).mut_subcommands(without_values)
}

/// The same error, of which only what the command's own definition holds is left.
fn without_what_was_given(error: &Error, command: &Command, environment: Environment) -> Error {
    // A new one, since the cause of a wrong value repeats it.
    let mut told = Error::new(error.kind()).with_cmd(command);
    for (kind, value) in error.context() {
        let given = match (kind, value) {
            (ContextKind::InvalidArg, _) => error.kind() == ErrorKind::UnknownArgument,
            (ContextKind::InvalidSubcommand, ContextValue::String(name)) => {
                command.find_subcommand(name).is_none()
            }
            (ContextKind::InvalidValue, ContextValue::String(value)) => !value.is_empty(),
            (ContextKind::Suggested | ContextKind::TrailingArg | ContextKind::Custom, _) => continue,
            _ => false,
        };
        told.insert(kind, if given { ContextValue::String(GIVEN.to_owned()) } else { value.clone() });
    }
    let tip = match error.kind() {
        ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand => Some(SECRETS.to_owned()),
        ErrorKind::InvalidUtf8 => names_of_no_text(command, environment),
        _ => None,
    };
    if let Some(tip) = tip {
        told.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    told
}

/// Which variables hold no text.
fn names_of_no_text(command: &Command, environment: Environment) -> Option<String> {
    let commands = std::iter::once(command).chain(command.get_subcommands());
    let variables =
        commands.flat_map(Command::get_arguments).filter_map(|argument| argument.get_env()?.to_str());
    let mut names: Vec<_> = variables.filter(|name| environment.is_no_text(name)).collect();
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| format!("not UTF-8: {}", names.join(", ")))
}
