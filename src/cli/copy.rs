//! `lyftr copy`: copies all events from one store to another, and compares the two.

use std::fmt;
use std::process::ExitCode;

use indicatif::ProgressBar;

use super::{Failure, invalid_settings, print, progress_bar, say};
use crate::config::ConfigErrors;
use crate::store::copy::{self, Carried, Checksum};
use crate::store::{self, Settings, Store, Url};

/// Command-line options. The URLs are text here, since an error must not repeat the password in a URL.
#[derive(clap::Args)]
pub(super) struct Options {
    /// The source: a URL as for `DATABASE_URL`
    #[arg(long, env = "COPY_FROM", value_name = "URL", hide_env_values = true)]
    from: String,
    /// The target: a URL as for `DATABASE_URL`
    #[arg(long, env = "COPY_TO", value_name = "URL", hide_env_values = true)]
    to: String,
    /// Copy even if the target has other events, which stay
    #[arg(long)]
    merge: bool,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("merge", &self.merge).finish_non_exhaustive()
    }
}

/// The source and the target.
struct Way {
    from: Url,
    to: Url,
    merge: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let url = |name: &str, given: &str| given.parse::<Url>().map_err(|bad| format!("{name} {bad}"));
    let (from, to) = match (url("--from", &options.from), url("--to", &options.to)) {
        (Ok(from), Ok(to)) => (from, to),
        (from, to) => {
            let errors = ConfigErrors([from.err(), to.err()].into_iter().flatten().collect());
            return Ok(invalid_settings("copy", &errors));
        }
    };
    if from.is_same_database(&to) {
        return Err("--from and --to are the same".into());
    }
    let source = store::open_existing(&from, Settings::default())?;
    let target = store::open(&to, Settings::default())?;
    let done = copy(&Way { from, to, merge: options.merge }, source.as_ref(), target.as_ref());
    source.close();
    target.close();
    done
}

fn copy(way: &Way, from: &dyn Store, to: &dyn Store) -> Result<ExitCode, Failure> {
    // Of events that are no messages the number is not known before.
    let total = from.stats()?.total_messages;
    if !way.merge && !to.arrived(0, 1)?.is_empty() {
        say("the target is not empty; checking whether all that it has comes from an earlier run");
        if let Some(id) = copy::foreign(from, to)? {
            return Err(format!(
                "{} has events that {} has not, {:?} for one; nothing was copied; with --merge all is copied, \
                 and those stay as they are",
                way.to,
                way.from,
                id.1.as_str()
            )
            .into());
        }
    }
    // Before the events, so that an interrupted copy lacks none of them.
    let carried = copy::carry_tombstones(from, to)?;
    let bar = progress_bar(total, "copied");
    let copied = copy::copy(from, to, |count| advance(&bar, count));
    bar.finish();
    let copied =
        copied.map_err(|error| format!("{error}; the same command continues where this one ended"))?;
    let bar = progress_bar(total, "compared");
    let compared = copy::compare(from, to, copied.upto, |count| advance(&bar, count));
    bar.finish();
    let (source, target) = compared?;
    let copy::Copied { created, duplicates, conflicts, erased, .. } = copied;
    print(&format!("copied {created} events; {duplicates} were there already"));
    if erased > 0 {
        print(&format!("{erased} events were left out: the target has erased them"));
    }
    match carried {
        Carried::All(0) => {}
        Carried::All(count) => {
            print(&format!("the target knows {count} erased events, and will not store them"));
        }
        Carried::None => say(
            "the target has erased events of its own, so it cannot take over what is known of those that the source has \
             erased: it would store them if they came again",
        ),
    }
    print(&format!("{}: {}", way.from, told(source)));
    print(&format!("{}: {}", way.to, told(target)));
    if conflicts > 0 {
        say(&format!(
            "{conflicts} events were not copied: the target has other events under their sources and keys"
        ));
    }
    if source != target {
        say("the two differ");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn told(checksum: Checksum) -> String {
    format!("{} events, checksum {:032x}", checksum.events, checksum.sum)
}

fn advance(bar: &ProgressBar, count: usize) {
    bar.inc(u64::try_from(count).unwrap_or(0));
    bar.update(|state| {
        if state.pos() > state.len().unwrap_or(0) {
            state.set_len(state.pos());
        }
    });
}
