//! `lyftr check`: checks whether the database is sound.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, invalid_settings, print};
use crate::config::{Database, DatabaseArgs, Environment};
use crate::store::check::{self, Report};

/// Between two turns of the spinner.
const TICK: Duration = Duration::from_millis(200);

pub(super) fn run(args: &DatabaseArgs, environment: Environment) -> Result<ExitCode, Failure> {
    let database = match Database::check(args, environment) {
        Ok(database) => database,
        Err(errors) => return Ok(invalid_settings("go to the database", &errors)),
    };
    // Shown on a terminal only.
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
    let bar =
        ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(TICK);
    let mut problems = 0_u64;
    let checked = check::check(&database.url, database.settings, &mut |event| match event {
        Report::Part(part) => bar.set_message(part),
        Report::Remark(remark) => bar.suspend(|| print(&remark)),
        Report::Problem(problem) => {
            problems += 1;
            bar.suspend(|| print(&problem));
        }
    });
    bar.finish_and_clear();
    let events = checked?;
    if problems > 0 {
        print(&format!("{problems} {}", if problems == 1 { "problem" } else { "problems" }));
        return Ok(ExitCode::FAILURE);
    }
    print(&format!("sound: {events} events"));
    Ok(ExitCode::SUCCESS)
}
