//! `lyftr check-config`: checks the settings and the sources, as a start would, and starts nothing.

use std::process::ExitCode;

use super::{invalid_settings, print, say};
use crate::config::{Args, Config, Environment};

pub(super) fn run(args: &Args, environment: Environment) -> ExitCode {
    match Config::check(args, environment) {
        Ok(config) => {
            config.warnings().iter().for_each(|warning| say(warning));
            print("the settings are right");
            for source in &config.sources.sources {
                let secrets: Vec<_> = source.secrets.iter().map(|secret| secret.name.as_str()).collect();
                let (name, kind) = (source.name.as_str(), source.provider.as_str());
                print(&format!("source {name}: {kind}, secrets {}", secrets.join(", ")));
            }
            ExitCode::SUCCESS
        }
        Err(errors) => invalid_settings("start with these settings", &errors),
    }
}
