//! The connection registry: every open connection, its phase and since when, and the limits on that.
//!
//! Time is counted in ticks of the task that enforces the limits, not read from a clock: after a pause of the process or a
//! sleep of the machine no connection is late.
//!
//! The connections of a phase stand in the order in which they entered it. So the connection to evict and those that passed
//! a limit stand in front, and an accept or a tick looks at these alone, however many connections are open.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashlink::LinkedHashMap;
use tokio::sync::Notify;

use super::Limits;
use crate::metrics::{CloseReason, Metrics};

/// Time between two checks of the limits.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How long a client may take to end its half while the server stops.
const LINGER_AT_STOP: Duration = Duration::from_millis(200);

/// The phase of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its task has not read from it yet: the first header may have arrived.
    Accepted,
    /// A header is arriving, or the first one is awaited.
    Header,
    /// A request is being served.
    Serving,
    /// The last request is answered; the next one may come.
    Idle,
    /// The server has ended its half and waits for the client to end its own.
    Lingering,
}

impl Phase {
    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Accepted,
            1 => Self::Header,
            2 => Self::Serving,
            3 => Self::Idle,
            _ => Self::Lingering,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Header => 1,
            Self::Serving => 2,
            Self::Idle => 3,
            Self::Lingering => 4,
        }
    }
}

/// One connection, shared by its task and the registry.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    registry: Arc<Registry>,
    /// [`Phase::code`]; changes only under the registry's lock.
    phase: AtomicU8,
    /// The tick at which the phase began.
    since: AtomicU64,
    /// The tick since which the client takes no written bytes, plus one; 0 while it takes them.
    blocked: AtomicU64,
    /// Whether the client has sent at least one byte.
    heard: AtomicBool,
    /// Whether a response without a known length is being sent.
    streams: AtomicBool,
    aborted: AtomicBool,
    /// Wakes the task of the connection: it ends at once if the connection is aborted, else when no request is being served.
    end: Notify,
}

impl Connection {
    /// Begins a phase. Does nothing for a connection that is no longer registered.
    pub(super) fn enter(&self, phase: Phase) {
        let mut open = self.registry.lock();
        if let Some(connection) = open.in_phase(self.phase()).remove(&self.id) {
            self.since.store(self.registry.now(), Relaxed);
            self.phase.store(phase.code(), Relaxed);
            open.in_phase(phase).insert(self.id, connection);
        }
    }

    fn phase(&self) -> Phase {
        Phase::from_code(self.phase.load(Relaxed))
    }

    /// Records that bytes have arrived from the client.
    pub(super) fn hear(&self) {
        self.heard.store(true, Relaxed);
        if self.phase() == Phase::Idle {
            self.enter(Phase::Header);
        }
    }

    /// Records that the client has sent nothing that is not read: from now on the connection may be evicted.
    pub(super) fn await_client(&self) {
        if self.phase() == Phase::Accepted {
            self.enter(Phase::Header);
            self.registry.changed.notify_one();
        }
    }

    /// Records whether a response without a known length is being sent.
    pub(super) fn stream(&self, streams: bool) {
        self.streams.store(streams, Relaxed);
    }

    /// Whether no request is under way: all requests so far are answered, or the first one has not begun to arrive.
    pub(super) fn is_waiting(&self) -> bool {
        self.phase() == Phase::Idle || !self.heard.load(Relaxed)
    }

    /// Records whether the client takes the bytes that are written to it.
    pub(super) fn write_blocked(&self, blocked: bool) {
        if blocked == (self.blocked.load(Relaxed) != 0) {
            return;
        }
        let mut open = self.registry.lock();
        if !blocked {
            self.blocked.store(0, Relaxed);
            open.blocked.remove(&self.id);
        } else if let Some(connection) = open.in_phase(self.phase()).get(&self.id).map(Arc::clone) {
            self.blocked.store(self.registry.now() + 1, Relaxed);
            open.blocked.insert(self.id, connection);
        }
    }

    /// Waits until the connection is to end: `true` at once, `false` when no request is being served.
    pub(super) async fn ended(&self) -> bool {
        self.end.notified().await;
        self.aborted.load(Relaxed)
    }

    /// The order of eviction, least first: by the tick since which the connection waits for its client; within a tick,
    /// which a connection flood may fill, connections without a complete header come first.
    fn eviction_order(&self) -> (u64, bool, u64) {
        (self.since.load(Relaxed), self.phase() != Phase::Header, self.id)
    }

    fn abort(&self) {
        self.aborted.store(true, Relaxed);
        self.end.notify_one();
    }
}

/// The open connections.
#[derive(Debug)]
pub struct Registry {
    ticks: AtomicU64,
    open: Mutex<Open>,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Wakes the task that waits for room, or for the registry to be empty.
    changed: Notify,
}

type Connections = LinkedHashMap<u64, Arc<Connection>>;

/// Each connection is in one of the first six lists, until it is evicted or its task ends.
#[derive(Debug, Default)]
struct Open {
    accepted: Connections,
    header: Connections,
    serving: Connections,
    idle: Connections,
    lingering: Connections,
    /// Aborted connections whose task has not ended yet.
    aborted: Connections,
    /// Connections whose client takes no bytes, in the order in which that began.
    blocked: Connections,
    last_id: u64,
}

impl Open {
    fn in_phase(&mut self, phase: Phase) -> &mut Connections {
        match phase {
            Phase::Accepted => &mut self.accepted,
            Phase::Header => &mut self.header,
            Phase::Serving => &mut self.serving,
            Phase::Idle => &mut self.idle,
            Phase::Lingering => &mut self.lingering,
        }
    }

    fn len(&self) -> usize {
        [&self.accepted, &self.header, &self.serving, &self.idle, &self.lingering, &self.aborted]
            .map(LinkedHashMap::len)
            .iter()
            .sum()
    }

    fn remove(&mut self, connection: &Connection) {
        self.in_phase(connection.phase()).remove(&connection.id);
        self.aborted.remove(&connection.id);
        self.blocked.remove(&connection.id);
    }

    /// The connection that waits longest without a complete header, if there is one.
    fn first_to_evict(&self) -> Option<Arc<Connection>> {
        let fronts = [&self.header, &self.idle, &self.lingering].map(LinkedHashMap::front);
        let fronts = fronts.into_iter().flatten().map(|(_, connection)| connection);
        fronts.min_by_key(|connection| connection.eviction_order()).map(Arc::clone)
    }
}

/// Removes the connection from the registry when its task ends, however it ends.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) connection: Arc<Connection>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let registry = &self.connection.registry;
        registry.lock().remove(&self.connection);
        if !self.connection.aborted.load(Relaxed) {
            registry.metrics.connection_closed(CloseReason::Finished);
        }
        registry.changed.notify_one();
    }
}

impl Registry {
    /// A registry without connections.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            ticks: AtomicU64::default(),
            open: Mutex::default(),
            limits,
            metrics,
            changed: Notify::new(),
        })
    }

    /// The number of open connections.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The limits that are enforced.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Registers a connection. When the registry is full, the connection that waits longest without a complete header
    /// is evicted for it; `None` when there is no such connection.
    pub(super) fn register(self: &Arc<Self>) -> Option<Guard> {
        let mut open = self.lock();
        if open.len() >= self.limits.max_connections {
            let evicted = open.first_to_evict()?;
            open.remove(&evicted);
            evicted.abort();
            self.metrics.connection_closed(CloseReason::Evicted);
        }
        open.last_id += 1;
        let connection = Arc::new(Connection {
            id: open.last_id,
            registry: Arc::clone(self),
            phase: AtomicU8::new(Phase::Accepted.code()),
            since: AtomicU64::new(self.now()),
            blocked: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            streams: AtomicBool::new(false),
            aborted: AtomicBool::new(false),
            end: Notify::new(),
        });
        open.accepted.insert(connection.id, Arc::clone(&connection));
        drop(open);
        self.metrics.connections.increment();
        Some(Guard { connection })
    }

    /// Aborts the connections that passed a limit and, if `stopping`, ends those that wait. Called once a tick.
    pub(super) fn tick(&self, stopping: bool) {
        let now = self.ticks.fetch_add(1, Relaxed) + 1;
        let passed = |since: u64, limit: Duration| {
            TICK * u32::try_from(now.saturating_sub(since)).unwrap_or(u32::MAX) >= limit
        };
        let linger_timeout =
            self.limits.linger_timeout.min(if stopping { LINGER_AT_STOP } else { Duration::MAX });
        let mut open = self.lock();
        for (phase, limit, reason) in [
            (Phase::Accepted, self.limits.header_timeout, CloseReason::HeaderTimeout),
            (Phase::Header, self.limits.header_timeout, CloseReason::HeaderTimeout),
            (Phase::Idle, self.limits.idle_timeout, CloseReason::IdleTimeout),
            (Phase::Lingering, linger_timeout, CloseReason::LingerTimeout),
        ] {
            let is_late = |connection: &Arc<Connection>| passed(connection.since.load(Relaxed), limit);
            while let Some(late) = open.in_phase(phase).front().map(|(_, c)| Arc::clone(c)).filter(is_late) {
                self.abort(&mut open, &late, reason);
            }
        }
        let is_late = |connection: &Arc<Connection>| {
            passed(connection.blocked.load(Relaxed).saturating_sub(1), self.limits.write_timeout)
        };
        while let Some(late) = open.blocked.front().map(|(_, c)| Arc::clone(c)).filter(is_late) {
            self.abort(&mut open, &late, CloseReason::WriteTimeout);
        }
        if stopping {
            let waiting = open.accepted.values().chain(open.header.values()).chain(open.idle.values());
            let waiting = waiting.filter(|connection| connection.is_waiting());
            waiting.for_each(|connection| connection.end.notify_one());
        }
    }

    /// Aborts the connections whose response is a stream that does not end, because its client does not take the rest.
    pub(super) fn abort_streams(&self) {
        let mut open = self.lock();
        let streams = open.serving.values().filter(|connection| connection.streams.load(Relaxed));
        let streams: Vec<_> = streams.map(Arc::clone).collect();
        for connection in streams {
            self.abort(&mut open, &connection, CloseReason::DrainTimeout);
        }
    }

    /// Aborts every connection, because the time to stop is over.
    pub(super) fn abort_all(&self) {
        let mut open = self.lock();
        for phase in [Phase::Accepted, Phase::Header, Phase::Serving, Phase::Idle, Phase::Lingering] {
            while let Some(connection) = open.in_phase(phase).front().map(|(_, c)| Arc::clone(c)) {
                self.abort(&mut open, &connection, CloseReason::DrainTimeout);
            }
        }
    }

    fn abort(&self, open: &mut Open, connection: &Arc<Connection>, reason: CloseReason) {
        open.remove(connection);
        open.aborted.insert(connection.id, Arc::clone(connection));
        connection.abort();
        self.metrics.connection_closed(reason);
    }

    /// Waits until a connection is removed; may return earlier.
    pub(super) async fn removal(&self) {
        // A removal between the caller's look at the registry and this wait is noticed a tick later.
        drop(tokio::time::timeout(TICK, self.changed.notified()).await);
    }

    fn now(&self) -> u64 {
        self.ticks.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The indexes of the connections that were aborted.
    fn aborted(guards: &[Guard]) -> Vec<usize> {
        let aborted = |guard: &Guard| guard.connection.aborted.load(Relaxed);
        (0..guards.len()).filter(|n| aborted(&guards[*n])).collect()
    }

    /// A connection that has sent nothing yet.
    fn register(registry: &Arc<Registry>) -> Option<Guard> {
        let guard = registry.register()?;
        guard.connection.await_client();
        Some(guard)
    }

    #[test]
    fn in_one_tick_a_full_registry_evicts_the_first_connection_without_a_header() {
        let registry = Registry::new(Limits { max_connections: 50, ..Limits::default() }, Arc::default());
        let mut guards: Vec<Guard> = (0..50).map(|_| register(&registry).unwrap()).collect();
        guards[0].connection.enter(Phase::Idle);
        guards[1].connection.enter(Phase::Serving);
        for count in 1..=40 {
            guards.push(register(&registry).unwrap());
            assert_eq!(aborted(&guards), (2..2 + count).collect::<Vec<_>>());
        }
        assert_eq!(registry.len(), 50);
    }

    #[test]
    fn across_ticks_a_full_registry_evicts_the_connection_that_waits_longest() {
        let registry = Registry::new(Limits { max_connections: 4, ..Limits::default() }, Arc::default());
        let mut guards: Vec<Guard> = (0..4).map(|_| register(&registry).unwrap()).collect();
        guards[1].connection.enter(Phase::Idle);
        registry.tick(false);
        guards[0].connection.enter(Phase::Serving);
        guards[0].connection.enter(Phase::Idle);
        guards[2].connection.enter(Phase::Lingering);
        // 3 waits for its header and 1 for its next request since before the tick, 0 and 2 since after it.
        for evicted in [3, 1] {
            guards.push(register(&registry).unwrap());
            assert!(guards[evicted].connection.aborted.load(Relaxed), "{evicted}: {:?}", aborted(&guards));
        }
        assert_eq!(aborted(&guards), [1, 3]);
        guards[0].connection.enter(Phase::Serving);
        guards[1].connection.enter(Phase::Serving);
        assert_eq!(registry.len(), 4, "an evicted connection does not come back by entering a phase");
        for guard in &guards[2..] {
            guard.connection.enter(Phase::Serving);
        }
        assert!(registry.register().is_none(), "a connection that is being served is not evicted");
        guards.clear();
        assert!(registry.is_empty());
    }

    #[test]
    fn a_connection_whose_first_bytes_were_not_read_yet_is_not_evicted() {
        let registry = Registry::new(Limits { max_connections: 2, ..Limits::default() }, Arc::default());
        let accepted = registry.register().unwrap();
        let _waiting = register(&registry).unwrap();
        let _other = register(&registry).unwrap();
        assert!(!accepted.connection.aborted.load(Relaxed));
        accepted.connection.await_client();
        let _third = registry.register().unwrap();
        let _fourth = registry.register().unwrap();
        assert!(registry.register().is_none(), "the third and the fourth were not read from yet");
        assert!(accepted.connection.aborted.load(Relaxed));
    }

    #[test]
    fn each_limit_ends_what_passed_it_once_and_only_that() {
        let second = Duration::from_secs(1);
        let limits = Limits {
            header_timeout: second,
            idle_timeout: 2 * second,
            linger_timeout: 3 * second,
            write_timeout: 4 * second,
            ..Limits::default()
        };
        let metrics = Arc::<Metrics>::default();
        let registry = Registry::new(limits, Arc::clone(&metrics));
        let guards: Vec<Guard> = (0..6).map(|_| register(&registry).unwrap()).collect();
        guards[1].connection.enter(Phase::Idle);
        guards[2].connection.enter(Phase::Lingering);
        guards[3].connection.enter(Phase::Serving);
        guards[3].connection.write_blocked(true);
        guards[4].connection.enter(Phase::Serving);
        guards[5].connection.enter(Phase::Serving);
        guards[5].connection.write_blocked(true);
        guards[5].connection.write_blocked(false);
        for (seconds, late) in [(1, vec![0]), (2, vec![0, 1]), (3, vec![0, 1, 2]), (4, vec![0, 1, 2, 3])] {
            (0..9).for_each(|_| registry.tick(false));
            assert_eq!(aborted(&guards), late[..late.len() - 1], "{seconds}");
            registry.tick(false);
            assert_eq!(aborted(&guards), late, "{seconds}");
        }
        (0..100).for_each(|_| registry.tick(false));
        assert_eq!(registry.len(), 6, "they are open until their tasks end");
        let reasons = CloseReason::ALL.map(|reason| metrics.connections_closed(reason));
        assert_eq!(reasons.iter().sum::<u64>(), 4, "{reasons:?}");
        registry.abort_all();
        drop(guards);
        assert_eq!(metrics.connections_closed(CloseReason::DrainTimeout), 2);
        assert_eq!(metrics.connections_closed(CloseReason::Finished), 0);
        assert!(registry.is_empty());
    }
}
