//! The whole service in this process, on a port and in a folder of its own. Dropping it stops it.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lyftr::clock::Clock;
use lyftr::config::Secret;
use lyftr::http;
use lyftr::server::{self, Limits};
use lyftr::service;
use lyftr::source;
use lyftr::store::{self, Store, Url};
use lyftr::telemetry::Log;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use super::client::{Client, Connection};
use super::postgres::Database;
use super::{Engine, SECRET, engine, eventually};

mod faulty;

pub(crate) use faulty::{Fault, Faulty};

/// A running service.
#[derive(Debug)]
pub(crate) struct Service {
    address: SocketAddr,
    folder: TempDir,
    database: Option<Database>,
    store: Arc<dyn Store>,
    faulty: Arc<Faulty>,
    lines: Lines,
    reload: mpsc::Sender<source::Config>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How a service is to be.
pub(crate) struct Builder {
    store: Option<Arc<dyn Store>>,
    one_writer: bool,
    limits: Limits,
    queue_max: usize,
    followers_max: usize,
    max_body_bytes: usize,
    previous_secrets: Vec<String>,
    read_token: Option<String>,
    admin_token: Option<String>,
    page: bool,
    keep_days: Option<u32>,
    sources: source::Config,
    clock: Clock,
    level: tracing::Level,
    log_to: Option<Box<dyn Write + Send>>,
}

impl Builder {
    /// With these sources beside the built-in one.
    pub(crate) fn sources(mut self, sources: source::Config) -> Self {
        self.sources = sources;
        self
    }

    /// Signed times are judged by this clock.
    pub(crate) fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Over this store in the place of a new database of the [`engine`]'s.
    pub(crate) fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// One batch at a time, whatever the store has use for.
    pub(crate) fn one_writer(mut self) -> Self {
        self.one_writer = true;
        self
    }

    pub(crate) fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(crate) fn queue_max(mut self, queue_max: usize) -> Self {
        self.queue_max = queue_max;
        self
    }

    pub(crate) fn followers_max(mut self, followers_max: usize) -> Self {
        self.followers_max = followers_max;
        self
    }

    pub(crate) fn max_body_bytes(mut self, max_body_bytes: usize) -> Self {
        self.max_body_bytes = max_body_bytes;
        self
    }

    pub(crate) fn previous_secrets(mut self, secrets: &[&str]) -> Self {
        self.previous_secrets = secrets.iter().map(|secret| (*secret).to_owned()).collect();
        self
    }

    pub(crate) fn read_token(mut self, token: &str) -> Self {
        self.read_token = Some(token.to_owned());
        self
    }

    pub(crate) fn admin_token(mut self, token: &str) -> Self {
        self.admin_token = Some(token.to_owned());
        self
    }

    pub(crate) fn without_page(mut self) -> Self {
        self.page = false;
        self
    }

    pub(crate) fn keep_days(mut self, days: u32) -> Self {
        self.keep_days = Some(days);
        self
    }

    pub(crate) fn level(mut self, level: tracing::Level) -> Self {
        self.level = level;
        self
    }

    /// The log goes there in the place of [`Service::log`].
    pub(crate) fn log_to(mut self, out: impl Write + Send + 'static) -> Self {
        self.log_to = Some(Box::new(out));
        self
    }

    /// Starts it; it answers when this returns.
    pub(crate) fn start(self) -> Service {
        let folder = tempfile::tempdir().unwrap();
        let database = (self.store.is_none() && engine() == Engine::Postgres).then(Database::new);
        let sqlite = || format!("sqlite:///{}", folder.path().join("app.db").display());
        let url: Url = database.as_ref().map_or_else(sqlite, Database::url).parse().unwrap();
        let open = || store::open(&url, store::Settings::default()).unwrap();
        let inner = self.store.clone().unwrap_or_else(open);
        let writers = if self.one_writer { 1 } else { store::writers(&url) };
        let follow_pause = store::follow_pause(&url);
        let faulty = Arc::new(Faulty::new(inner));
        let store: Arc<dyn Store> = Arc::clone(&faulty) as Arc<dyn Store>;
        let lines = Lines::default();
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let (reload, reloads) = mpsc::channel(1);
        let engine = OfEngine { writers, follow_pause };
        let thread = {
            let (store, lines) = (Arc::clone(&store), lines.clone());
            std::thread::spawn(move || self.run(&store, engine, lines, &tell, stopped, reloads))
        };
        let address = told.recv().expect("the service starts");
        let (stop, thread) = (Some(stop), Some(thread));
        Service { address, folder, database, store, faulty, lines, reload, stop, thread }
    }

    fn run(
        self,
        store: &Arc<dyn Store>,
        OfEngine { writers, follow_pause }: OfEngine,
        lines: Lines,
        tell: &std::sync::mpsc::SyncSender<SocketAddr>,
        stopped: oneshot::Receiver<()>,
        reloads: mpsc::Receiver<source::Config>,
    ) {
        let out = self.log_to.unwrap_or_else(|| Box::new(lines));
        let (log, _flushed_at_the_end) = Log::start(self.level, out).unwrap();
        let webhook_secrets = std::iter::once(SECRET.to_owned()).chain(self.previous_secrets);
        let settings = service::Settings {
            http: http::Settings {
                webhook_secrets: webhook_secrets.map(|secret| vec![Secret::new(secret)]).collect(),
                sources: self.sources,
                clock: self.clock,
                read_token: self.read_token.map(Secret::new),
                admin_token: self.admin_token.map(Secret::new),
                page: self.page,
                max_body_bytes: self.max_body_bytes,
                queue_max: self.queue_max,
                followers_max: self.followers_max,
            },
            limits: self.limits,
            keep_days: self.keep_days,
            writers,
            follow_pause,
            reloads: Some(reloads),
        };
        let runtime = service::runtime().unwrap();
        let listener = runtime.block_on(server::bind("127.0.0.1", 0)).unwrap();
        tell.send(listener.addresses().next().unwrap()).unwrap();
        let stop = async { drop(stopped.await) };
        service::run(settings, store, listener, log, runtime, stop).unwrap();
    }
}

/// The settings that the engine has use for.
struct OfEngine {
    writers: usize,
    follow_pause: Option<Duration>,
}

impl Service {
    /// Serves these sources from now on, soon.
    pub(crate) fn reload(&self, sources: source::Config) {
        self.reload.blocking_send(sources).expect("the service runs");
    }

    /// One with all defaults.
    pub(crate) fn start() -> Self {
        Self::builder().start()
    }

    pub(crate) fn builder() -> Builder {
        Builder {
            store: None,
            one_writer: false,
            limits: Limits::default(),
            queue_max: 4096,
            followers_max: 1000,
            max_body_bytes: 256 << 10,
            previous_secrets: Vec::new(),
            read_token: None,
            admin_token: None,
            page: true,
            keep_days: None,
            sources: source::Config::default(),
            clock: Clock::of_system(),
            level: tracing::Level::INFO,
            log_to: None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client with no connection yet.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// A new connection, for who wants to send bytes of his own.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// The store that the service works with: [`Self::faulty`] around the one it was given.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Through this the store can be told to fail; it does not until then.
    pub(crate) fn faulty(&self) -> &Faulty {
        &self.faulty
    }

    /// The database file, unless a store was given or the [`engine`] is another one.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    /// Runs a statement in the database, past the service.
    pub(crate) fn run_sql(&self, sql: &str) {
        match &self.database {
            Some(database) => drop(database.query(sql, &[])),
            None => rusqlite::Connection::open(self.database()).unwrap().execute_batch(sql).unwrap(),
        }
    }

    /// The log as far as it has been written. A request's line comes a few milliseconds after its answer.
    pub(crate) fn log(&self) -> &Lines {
        &self.lines
    }

    /// Begins to stop, as at SIGTERM, without waiting for the end.
    pub(crate) fn begin_stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _gone = stop.send(());
        }
    }

    /// Stops it in good order; returns the whole log.
    pub(crate) fn stop(mut self) -> Lines {
        self.end();
        self.lines.clone()
    }

    fn end(&mut self) {
        self.begin_stop();
        self.faulty.heal();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the service panicked");
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// What has been logged.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// As text, every line whole.
    pub(crate) fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        String::from_utf8(bytes[..whole].to_vec()).expect("the log is UTF-8")
    }

    /// As JSON.
    pub(crate) fn values(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
            .collect()
    }

    /// Waits for the line of the request with this id.
    #[track_caller]
    pub(crate) fn of_request(&self, id: &str) -> Value {
        eventually(&format!("a line of the request {id}"), || {
            self.values().into_iter().find(|line| line["request_id"] == id)
        })
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
