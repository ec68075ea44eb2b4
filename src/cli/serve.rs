//! `lyftr serve`: opens the store and the listener as the settings say, and runs the [`service`] until a signal.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Failure, invalid_settings, say};
use crate::config::{Args, Config, Environment, SourcesArgs};
use crate::output::Output;
use crate::server::{self, Listener};
use crate::service;
use crate::source;
use crate::store;
use crate::telemetry::{Log, chain};

/// Number of file descriptors for other things than connections: the database, the standard ones, the runtime.
const OTHER_DESCRIPTORS: u64 = 64;

pub(super) fn run(args: &Args, environment: Environment) -> ExitCode {
    let config = match Config::check(args, environment) {
        Ok(config) => config,
        Err(errors) => return invalid_settings("start", &errors),
    };
    let started = Output::standard().and_then(|output| Log::start(config.log_level, output));
    let (log, _flushed_at_the_end) = match started {
        Ok(started) => started,
        Err(error) => {
            say(&format!("lyftr cannot start its log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    log.install();
    match serve(&config, args, environment, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!(error = chain(failure.as_ref()), "the service cannot run");
            if std::io::stderr().is_terminal() {
                say(&format!("lyftr cannot run: {failure}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(config: &Config, args: &Args, environment: Environment, log: Log) -> Result<(), Failure> {
    let mut settings = service::Settings::from(config);
    settings.limits.max_connections = connections(config.max_connections);
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = service::runtime()?;
    // From here on a signal ends the service in good order, however long the store takes to open.
    let stop = runtime.block_on(async { stop_signal() })?;
    settings.reloads = Some(runtime.block_on(async { reloads(args.sources.clone(), environment) })?);
    let store = store::open(&config.database.url, config.database.settings)?;
    let bound = runtime.block_on(server::bind(&config.host, config.port));
    let listener = bound.inspect_err(|_| store.close())?;
    announce(&listener, config);
    Ok(service::run(settings, &store, listener, log, runtime, stop)?)
}

/// A future that is done at SIGTERM or Ctrl-C.
pub(super) fn stop_signal() -> std::io::Result<impl Future<Output = ()> + use<>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The configured sources as they are after each SIGHUP, unless something is wrong with them, which is logged.
fn reloads(args: SourcesArgs, environment: Environment) -> std::io::Result<mpsc::Receiver<source::Config>> {
    let mut hangups = signal(SignalKind::hangup())?;
    let (reloaded, reloads) = mpsc::channel(1);
    drop(tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let args = args.clone();
            // Files may lie on a disk that hangs.
            let read = tokio::task::spawn_blocking(move || args.read(environment));
            match read.await {
                Ok(Ok(config)) => {
                    for warning in &config.warnings {
                        tracing::warn!("{warning}");
                    }
                    // Its end is logged with the service's.
                    let _ended = reloaded.send(config).await;
                }
                Ok(Err(errors)) => {
                    let error = errors.to_string();
                    tracing::error!(error, "the sources stay as they were; what was read has mistakes");
                }
                Err(_) => tracing::error!("the sources stay as they were; reading them panicked"),
            }
        }
    }));
    Ok(reloads)
}

/// Logs a line for each address, and greets a person at a terminal.
fn announce(listener: &Listener, config: &Config) {
    let addresses: Vec<_> = listener.addresses().collect();
    if let Some(warning) = config.open_reads(&addresses) {
        tracing::warn!("{warning}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let database = config.database.url.to_string();
    for address in &addresses {
        tracing::info!(version, address = %address, database, "listening");
    }
    if let Some(address) = addresses.first()
        && std::io::stderr().is_terminal()
    {
        let token =
            if config.read_token.is_some() { " -H \"Authorization: Bearer $READ_TOKEN\"" } else { "" };
        let page = if config.page { "Open that address in a browser to see what arrives.\n" } else { "" };
        say(&format!(
            "Lyftr {version} listens on http://{address} and keeps messages in {database}. Ctrl-C stops it.\n\
             {page}\
             Send a message from another terminal that has the same WEBHOOK_SECRET:\n  \
             lyftr send --url http://{address} --text Hello\n  \
             curl -s http://{address}/messages{token}"
        ));
    }
}

/// Raises the limit of open files of this process as far as it may. Returns the number of connections that fit into it.
fn connections(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let needed = u64::try_from(wanted).unwrap_or(u64::MAX).saturating_add(OTHER_DESCRIPTORS);
    let raised = needed.min(limit.maximum.unwrap_or(needed)).max(limit.current.unwrap_or(0));
    let got = match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum }) {
        Ok(()) => raised,
        Err(_) => limit.current.unwrap_or(needed),
    };
    if got >= needed {
        return wanted;
    }
    let possible = usize::try_from(got.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(wanted).max(1);
    tracing::warn!(
        wanted,
        possible,
        "MAX_CONNECTIONS is more than the limit of open files (ulimit -n) allows"
    );
    possible
}
