//! Every open connection, what it waits for and since when, and the limits that are set to that.
//!
//! Time is counted in ticks of the one task that looks after the limits, not read from a clock: a process that
//! was stopped and continued, or a machine that slept, has not made anybody late.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Limits;
use crate::metrics::Metrics;

/// How often the limits are looked after.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// How long a client may take to end its half while the server stops.
const LINGER_AT_STOP: Duration = Duration::from_millis(200);

/// What a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A header is on its way, or the first one is awaited.
    Header,
    /// A request is being served.
    Serving,
    /// Answered; the next request may come.
    Idle,
    /// We have ended our half and wait for the client to end its own.
    Lingering,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Header, Self::Serving, Self::Idle, Self::Lingering];

    fn code(self) -> u64 {
        match self {
            Self::Header => 0,
            Self::Serving => 1,
            Self::Idle => 2,
            Self::Lingering => 3,
        }
    }
}

/// One connection as others see it.
#[derive(Debug)]
pub(super) struct Connection {
    id: u64,
    ticks: Arc<AtomicU64>,
    /// The tick at which the phase began, times four, plus the phase.
    phase: AtomicU64,
    /// The tick since which the client takes none of what is written, plus one; 0 while it does.
    write_blocked: AtomicU64,
    /// Something has come from the client.
    heard: AtomicBool,
    cut: AtomicBool,
    /// Wakes the connection's task: it is to end at once if it is cut, else when nothing is being served.
    end: Notify,
}

impl Connection {
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(self.ticks.load(Relaxed) << 2 | phase.code(), Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        let code = self.phase.load(Relaxed) & 3;
        Phase::ALL.into_iter().find(|phase| phase.code() == code).unwrap_or(Phase::Lingering)
    }

    /// Notes that something has come from the client.
    pub(super) fn hear(&self) {
        self.heard.store(true, Relaxed);
        if self.phase() == Phase::Idle {
            self.enter(Phase::Header);
        }
    }

    /// Whether nothing is under way: all requests so far are answered, or none has begun to come.
    pub(super) fn is_waiting(&self) -> bool {
        self.phase() == Phase::Idle || !self.heard.load(Relaxed)
    }

    /// Notes whether the client takes what is written to it.
    pub(super) fn write_blocked(&self, blocked: bool) {
        if !blocked {
            self.write_blocked.store(0, Relaxed);
        } else if self.write_blocked.load(Relaxed) == 0 {
            self.write_blocked.store(self.ticks.load(Relaxed) + 1, Relaxed);
        }
    }

    /// Returns when the connection is to end: `true` at once, `false` when nothing is being served.
    pub(super) async fn ended(&self) -> bool {
        self.end.notified().await;
        self.cut.load(Relaxed)
    }

    fn since(&self) -> u64 {
        self.phase.load(Relaxed) >> 2
    }

    /// The least one has to go first when the table is full. In one tick a crowd may fill all of it, so those of
    /// the same tick go in the order of their arrival, and those that were answered in it go last.
    fn turn(&self) -> (u64, bool, u64) {
        (self.since(), self.phase() != Phase::Header, self.id)
    }

    fn cut(&self) {
        self.cut.store(true, Relaxed);
        self.end.notify_one();
    }

    /// Whether a limit is passed.
    fn is_late(&self, now: u64, limits: &Limits) -> bool {
        let passed = |since: u64, limit: Duration| {
            TICK * u32::try_from(now.saturating_sub(since)).unwrap_or(u32::MAX) >= limit
        };
        let blocked = self.write_blocked.load(Relaxed);
        let limit = match self.phase() {
            Phase::Header => limits.header_timeout,
            Phase::Idle => limits.idle_timeout,
            Phase::Lingering => limits.linger_timeout,
            Phase::Serving => Duration::MAX,
        };
        passed(self.since(), limit) || (blocked != 0 && passed(blocked - 1, limits.write_timeout))
    }
}

/// The open connections.
#[derive(Debug)]
pub struct Table {
    ticks: Arc<AtomicU64>,
    connections: Mutex<Connections>,
    limits: Limits,
    metrics: Arc<Metrics>,
    /// Wakes who waits for a place, or for the table to be empty.
    removed: Notify,
}

#[derive(Debug, Default)]
struct Connections {
    open: HashMap<u64, Arc<Connection>>,
    last_id: u64,
}

/// Takes the connection off the table when its task ends, however it ends.
#[derive(Debug)]
pub(super) struct Place {
    table: Arc<Table>,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.table.lock().open.remove(&self.connection.id);
        self.table.removed.notify_waiters();
    }
}

impl Table {
    /// A table without connections.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            ticks: Arc::default(),
            connections: Mutex::default(),
            limits,
            metrics,
            removed: Notify::new(),
        })
    }

    /// Open connections.
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Whether no connection is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The limits that are looked after.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Puts a connection on the table. When the table is full, the one that waits longest without a complete
    /// header has to go; `None` when there is no such connection.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let mut connections = self.lock();
        if connections.open.len() >= self.limits.max_connections {
            let waiting = |c: &&Arc<Connection>| c.phase() != Phase::Serving;
            let longest = connections.open.values().filter(waiting).min_by_key(|c| c.turn()).map(|c| c.id)?;
            if let Some(evicted) = connections.open.remove(&longest) {
                evicted.cut();
                self.metrics.connections_cut.increment();
            }
        }
        connections.last_id += 1;
        let connection = Arc::new(Connection {
            id: connections.last_id,
            ticks: Arc::clone(&self.ticks),
            phase: AtomicU64::new(0),
            write_blocked: AtomicU64::new(0),
            heard: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            end: Notify::new(),
        });
        connection.enter(Phase::Header);
        connections.open.insert(connection.id, Arc::clone(&connection));
        drop(connections);
        self.metrics.connections.increment();
        Some(Place { table: Arc::clone(self), connection })
    }

    /// One tick: cuts the connections that passed a limit and, when `stopping`, ends those that wait.
    pub(super) fn tick(&self, stopping: bool) {
        let now = self.ticks.fetch_add(1, Relaxed) + 1;
        let mut limits = self.limits;
        if stopping {
            limits.linger_timeout = limits.linger_timeout.min(LINGER_AT_STOP);
        }
        for connection in self.lock().open.values() {
            if connection.is_late(now, &limits) {
                connection.cut();
                self.metrics.connections_cut.increment();
            } else if stopping && connection.is_waiting() {
                connection.end.notify_one();
            }
        }
    }

    /// Cuts every connection.
    pub(super) fn cut_all(&self) {
        self.lock().open.values().for_each(|connection| connection.cut());
    }

    /// Returns when a connection has been taken off the table, or, now and then, for no reason.
    pub(super) async fn removal(&self) {
        // A removal between the caller's look at the table and this wait is noticed a tick later.
        drop(tokio::time::timeout(TICK, self.removed.notified()).await);
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the connections that were cut.
    fn cut(places: &[Place]) -> Vec<usize> {
        let cut = |place: &Place| place.connection.cut.load(Relaxed);
        (0..places.len()).filter(|n| cut(&places[*n])).collect()
    }

    #[test]
    fn in_one_tick_a_full_table_cuts_who_came_first_and_has_sent_no_header() {
        let table = Table::new(Limits { max_connections: 50, ..Limits::default() }, Arc::default());
        let mut places: Vec<Place> = (0..50).map(|_| table.place().unwrap()).collect();
        places[0].connection.enter(Phase::Idle);
        places[1].connection.enter(Phase::Serving);
        for count in 1..=40 {
            places.push(table.place().unwrap());
            assert_eq!(cut(&places), (2..2 + count).collect::<Vec<_>>());
        }
        assert_eq!(table.len(), 50);
    }
}
