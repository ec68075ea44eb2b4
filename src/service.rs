//! The service: the one place that puts the parts together, serves, and takes them apart in the right order. The binary
//! runs it ([`cli`](crate::cli)), and so do the tests that run a service in their own process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::clock::{Clock, received_at};
use crate::config::Config;
use crate::erasure::{Keep, Keeper, KeptFor, Rule, Rules};
use crate::event::Source;
use crate::http::{self, App, Routes};
use crate::inbox::Inbox;
use crate::metrics::{ErasureRule, Metrics};
use crate::server::{self, Limits, Listener, Registry};
use crate::source;
use crate::store::{self, Store};
use crate::tail::{self, Tail};
use crate::telemetry::Log;

/// A thread of the blocking pool is kept when it is idle, since the operating system may give no other one later.
const BLOCKING_THREAD_KEEP_ALIVE: Duration = Duration::from_hours(365 * 24);
/// Pause between two passes that erase what is too old to be kept.
const KEEP_PAUSE: Duration = Duration::from_mins(10);

/// The settings of a service that has a store and a listener.
#[derive(Debug)]
pub struct Settings {
    /// The settings of the routes.
    pub http: http::Settings,
    /// The limits of connections.
    pub limits: Limits,
    /// How many days events are kept after their receipt; `None` for ever.
    pub keep_days: Option<u32>,
    /// Threads that store batches at the same time; [`store::writers`] says how many the engine has use for.
    pub writers: usize,
    /// Pause between two looks for events that other processes have stored; [`store::follow_pause`] says what the engine needs.
    pub follow_pause: Option<Duration>,
    /// Where configured sources come from that shall be served in the place of those of the start.
    pub reloads: Option<mpsc::Receiver<source::Config>>,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let current = vec![config.webhook_secret.clone()];
        Self {
            http: http::Settings {
                webhook_secrets: std::iter::once(current)
                    .chain(config.webhook_secrets_previous.iter().cloned())
                    .collect(),
                sources: config.sources.clone(),
                clock: Clock::of_system(),
                read_token: config.read_token.clone(),
                admin_token: config.admin_token.clone(),
                page: config.page,
                max_body_bytes: config.max_body_bytes,
                queue_max: config.queue_max,
                followers_max: config.followers_max,
            },
            limits: Limits {
                max_connections: config.max_connections,
                idle_timeout: config.keep_alive,
                ..Limits::default()
            },
            keep_days: config.keep_days,
            writers: store::writers(&config.database.url),
            follow_pause: store::follow_pause(&config.database.url),
            reloads: None,
        }
    }
}

/// Makes the runtime that [`run`] serves on.
///
/// # Errors
/// When the operating system gives no thread or no event queue.
pub fn runtime() -> io::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_keep_alive(BLOCKING_THREAD_KEEP_ALIVE)
        .build()?;
    // If no further thread can be started, for want of memory for example, all blocking calls run on this first one.
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}

/// Serves on `listener` until `stop` is done, then answers the requests that have arrived, stores the messages that are
/// queued, closes the store and returns. Blocks.
///
/// # Errors
/// When the operating system gives no thread to write with. The store is closed then, too.
pub fn run(
    settings: Settings,
    store: &Arc<dyn Store>,
    listener: Listener,
    log: Log,
    runtime: Runtime,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let metrics = Arc::new(Metrics::new(settings.http.webhook_secrets.len()));
    let inbox = Inbox::start(store, settings.writers, settings.http.queue_max, &metrics)
        .inspect_err(|_| store.close())
        .map(Arc::new)?;
    let following =
        tail::Settings { pause: settings.follow_pause, followers_max: settings.http.followers_max };
    let tail = Tail::start(store, inbox.commits(), following).inspect_err(|_| {
        inbox.close();
        store.close();
    })?;
    let registry = Registry::new(settings.limits, Arc::clone(&metrics));
    let app = Arc::new(App::new(
        settings.http,
        Arc::clone(store),
        Arc::clone(&inbox),
        Arc::clone(&tail),
        Arc::clone(&metrics),
        Arc::clone(&registry),
        log,
    ));
    let keeper = keep(settings.keep_days, &app, store, &inbox, &tail, metrics).inspect_err(|_| {
        inbox.close();
        tail.close();
        store.close();
    })?;
    if let Some(mut reloads) = settings.reloads {
        let app = Arc::clone(&app);
        drop(runtime.spawn(async move {
            while let Some(sources) = reloads.recv().await {
                let count = sources.sources.len();
                app.replace_sources(sources);
                tracing::info!(sources = count, "the sources were read again");
            }
        }));
    }
    let drain = {
        let app = Arc::clone(&app);
        async move {
            stop.await;
            app.drain();
            tracing::info!("stopping");
        }
    };
    runtime.block_on(server::serve(listener, Routes::new(app), registry, drain));
    // A request that still runs has lost its connection, and must not keep the program from ending.
    runtime.shutdown_background();
    drop(keeper);
    inbox.close();
    tail.close();
    store.close();
    tracing::info!("stopped");
    Ok(())
}

/// Starts to erase what was received more than so many days ago, or than its source says.
fn keep(
    days: Option<u32>,
    app: &Arc<App>,
    store: &Arc<dyn Store>,
    inbox: &Arc<Inbox>,
    tail: &Arc<Tail>,
    metrics: Arc<Metrics>,
) -> io::Result<Keeper> {
    let (app, inbox, tail) = (Arc::clone(app), Arc::clone(inbox), Arc::clone(tail));
    let of_others = days.map_or(KeptFor::Ever, KeptFor::Days);
    let told = move |Rule { source, days }: &Rule, events| {
        tail.forget();
        metrics.erased(ErasureRule::Keep, events);
        let (rule, source) = (ErasureRule::Keep.label(), source.as_ref().map(Source::as_str));
        tracing::info!(rule, events, days, source, "events were erased");
    };
    let keep = Keep {
        rules: Arc::new(move || Rules { of_sources: app.kept_otherwise(), of_others }),
        clock: Arc::new(received_at),
        is_busy: Arc::new(move || inbox.waiting() > 0),
        told: Arc::new(told),
        pause: KEEP_PAUSE,
    };
    Keeper::start(store, keep)
}
