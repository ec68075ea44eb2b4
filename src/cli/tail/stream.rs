//! A connection that streams events, in a thread of its own, which ends with it; and the pauses between connections.

use std::hash::{BuildHasher as _, RandomState};
use std::io::Read as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::service::{Place, Service, Trouble, lost};
use super::sse::{Block, Parser};
use crate::clock;

/// Size of the pieces that are read at once, in bytes.
const PIECE_BYTES: usize = 64 << 10;
/// Maximum number of pieces that wait to be printed. Then the connection is not read, until the service closes it.
const PIECES_MAX: usize = 4;
/// Pause before the first reconnection; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Shortest first pause that a service may choose.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// What comes out of a connection.
pub(super) enum Heard {
    /// The service accepts it. Its clock is ahead of ours by so much.
    Opened(jiff::SignedDuration),
    /// Some blocks, in order.
    Blocks(Vec<Block>),
    /// The last of all.
    Ended(Trouble),
}

/// Opens a connection that begins after a place.
///
/// # Errors
/// When the operating system gives no thread.
pub(super) fn open(service: &Arc<Service>, place: &Place) -> std::io::Result<Receiver<Heard>> {
    let (tell, heard) = sync_channel(PIECES_MAX);
    let (service, place) = (Arc::clone(service), place.clone());
    std::thread::Builder::new().name("lyftr-stream".into()).spawn(move || {
        if let Err(trouble) = read(&service, &place, &tell) {
            // Nobody listens any more once the follower ends.
            let _ended = tell.send(Heard::Ended(trouble));
        }
    })?;
    Ok(heard)
}

fn read(service: &Service, place: &Place, tell: &SyncSender<Heard>) -> Result<(), Trouble> {
    let response = service.stream(place)?;
    let date = response
        .headers()
        .get("Date")
        .and_then(|date| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date.as_bytes()).ok());
    let now = clock::now();
    let ahead = date.map_or(jiff::SignedDuration::ZERO, |date| date.duration_since(now));
    if tell.send(Heard::Opened(ahead)).is_err() {
        return Ok(());
    }
    let mut body = response.into_body().into_reader();
    let mut parser = Parser::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = body.read(&mut piece).map_err(lost)?;
        if count == 0 {
            return Err(lost("the service has ended the connection"));
        }
        let blocks = parser.push(piece.get(..count).unwrap_or_default()).map_err(lost)?;
        if !blocks.is_empty() && tell.send(Heard::Blocks(blocks)).is_err() {
            return Ok(());
        }
    }
}

/// The pauses between tries, each twice as long as the one before, and each a little shorter by chance, so that many
/// followers do not come back at once.
#[derive(Debug)]
pub(super) struct Pauses {
    first: Duration,
    next: Duration,
    /// Number of tries in a row that came to nothing.
    pub(super) failures: u32,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { first: FIRST_PAUSE, next: FIRST_PAUSE, failures: 0 }
    }
}

impl Pauses {
    /// Begins again with the first pause, which the service may have chosen.
    pub(super) fn begin_again(&mut self, first: Option<Duration>) {
        self.first = first.unwrap_or(self.first).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        self.next = self.first;
        self.failures = 0;
    }

    /// The next pause: at least as long as the service asks for.
    pub(super) fn next(&mut self, at_least: Option<Duration>) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let shortened = 256 - u32::try_from(RandomState::new().hash_one(0) % 128).unwrap_or(0);
        let pause = self.next * shortened / 256;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        pause.max(at_least.unwrap_or(Duration::ZERO)).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_differ_by_chance() {
        let mut pauses = Pauses::default();
        let between = |pause: Duration, most: u64| {
            let most = Duration::from_secs(most);
            assert!(pause > most / 2 && pause <= most, "{pause:?} of {most:?}");
        };
        for most in [1, 2, 4, 8, 16, 30, 30] {
            between(pauses.next(None), most);
        }
        assert_eq!(pauses.failures, 7);
        pauses.begin_again(None);
        between(pauses.next(None), 1);
        pauses.begin_again(Some(Duration::from_secs(2)));
        between(pauses.next(None), 2);
        assert_eq!(pauses.next(Some(Duration::from_secs(20))), Duration::from_secs(20));
        assert_eq!(pauses.next(Some(Duration::from_hours(1))), LONGEST_PAUSE, "but not for ever");
        let mut different: Vec<_> = (0..20).map(|_| Pauses::default().next(None)).collect();
        different.dedup();
        assert!(different.len() > 1);
    }
}
