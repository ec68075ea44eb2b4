//! How fast events are handed to followers. While much is being stored, followers give way to that: all deliveries together
//! get a part of the machine, first come, first served, and what has gathered meanwhile is delivered at once. Otherwise there
//! is no limit.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// Deliveries while much is being stored, in bytes a second.
const BYTES_A_SECOND: u64 = 48 << 20;
/// What a delivery costs beside its bytes, in bytes.
pub(super) const DELIVERY_BYTES: usize = 16 << 10;
/// What may be delivered at once after a pause.
const BURST: Duration = Duration::from_millis(50);
/// Shorter waits are left out, and made up for by the next ones.
const SHORTEST_WAIT: Duration = Duration::from_millis(2);
/// So many events stored in [`SPAN`] are much.
const MUCH: usize = 50;
/// The time over which stored events are counted.
const SPAN: Duration = Duration::from_millis(100);
/// How long much was stored after it was noticed.
const BUSY: Duration = Duration::from_millis(300);

/// The pace of deliveries.
#[derive(Debug)]
pub(super) struct Pace {
    begin: Instant,
    /// Until when much is being stored, in milliseconds from `begin`.
    busy_until: AtomicU64,
    paid: Mutex<Paid>,
}

/// The time at which all deliveries so far are paid for.
#[derive(Debug)]
struct Paid(Instant);

/// Stored events since a moment.
#[derive(Debug)]
pub(super) struct Counted {
    since: Instant,
    events: usize,
}

impl Pace {
    pub(super) fn new() -> Self {
        let begin = Instant::now();
        Self { begin, busy_until: AtomicU64::new(0), paid: Mutex::new(Paid(begin)) }
    }

    /// Whether much is being stored.
    pub(super) fn is_busy(&self) -> bool {
        self.now_ms() < self.busy_until.load(Relaxed)
    }

    /// Notes that events were stored.
    pub(super) fn note(&self, counted: &mut Counted, events: usize) {
        if counted.is_much(events, Instant::now()) {
            let busy = u64::try_from(BUSY.as_millis()).unwrap_or(u64::MAX);
            self.busy_until.store(self.now_ms().saturating_add(busy), Relaxed);
        }
    }

    /// Waits until it is the turn of work that costs as much as so many bytes.
    pub(super) async fn turn(&self, bytes: usize) {
        if !self.is_busy() {
            return;
        }
        // Those who wait for the lock get it in their order.
        let mut paid = self.paid.lock().await;
        if !self.is_busy() {
            return;
        }
        if let Some(until) = paid.pay(bytes, Instant::now()) {
            tokio::time::sleep_until(until).await;
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Paid {
    /// Pays for work. Returns until when it has to wait; `None` if it need not.
    fn pay(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let cost = Duration::from_nanos(bytes.saturating_mul(1_000_000_000 / (BYTES_A_SECOND >> 10)) >> 10);
        self.0 = self.0.max(now.checked_sub(BURST).unwrap_or(now)) + cost;
        (self.0.saturating_duration_since(now) > SHORTEST_WAIT).then_some(self.0)
    }
}

impl Counted {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), events: 0 }
    }

    /// Counts events; returns whether there were many within a short time.
    fn is_much(&mut self, events: usize, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) > SPAN {
            *self = Self { since: now, events: 0 };
        }
        self.events += events;
        self.events >= MUCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_waits_for_what_was_paid_before_and_a_burst_is_free() {
        let begin = Instant::now() + Duration::from_mins(1);
        let second = usize::try_from(BYTES_A_SECOND).unwrap();
        let mut paid = Paid(begin);
        let about = |until: Option<Instant>, ms: u64| {
            let wait = until.unwrap() - begin;
            assert!(wait.abs_diff(Duration::from_millis(ms)) < Duration::from_millis(1), "{wait:?}");
        };
        about(paid.pay(second, begin), 1_000);
        about(paid.pay(second / 10, begin), 1_100);
        let later = begin + Duration::from_secs(10);
        assert_eq!(paid.pay(second / 20, later), None, "what a pause has saved up");
        assert!(paid.pay(second / 100, later).is_some());
    }

    #[test]
    fn a_few_events_now_and_then_are_not_much() {
        let (mut counted, mut now) = (Counted::new(), Instant::now());
        for _ in 0..100 {
            assert!(!counted.is_much(MUCH - 1, now));
            now += SPAN + Duration::from_millis(1);
        }
        assert!(!counted.is_much(MUCH - 1, now) && counted.is_much(1, now));
    }

    #[test]
    fn turns_wait_while_much_is_being_stored_and_only_then() {
        let pace = Pace::new();
        assert!(!pace.is_busy());
        let mut counted = Counted::new();
        pace.note(&mut counted, MUCH - 1);
        assert!(!pace.is_busy());
        pace.note(&mut counted, 1);
        assert!(pace.is_busy());
    }
}
