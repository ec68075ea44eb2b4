//! The cursor under which a follower keeps its place.

use std::time::{Duration, Instant};

use super::service::{Moved, Refusal, Service, Trouble};
use super::stream::Pauses;
use crate::cli::say;
use crate::cursor::CursorName;

/// Time between two moves.
const EVERY: Duration = Duration::from_secs(1);
/// Maximum number of tries to move the cursor at the end.
const LAST_TRIES: u32 = 3;
/// Maximum number of unanswered requests that are remembered.
const ASKED_MAX: usize = 100;

/// A cursor, and how far it has been moved.
#[derive(Debug)]
pub(super) struct Keeper {
    name: CursorName,
    /// Its position as the service last confirmed it; `None` before there is such a cursor.
    position: Option<String>,
    /// Positions that it may have: the service was asked to move it there, and has not answered.
    asked: Vec<String>,
    /// When it may be moved again.
    due: Instant,
    pauses: Pauses,
    /// It was said that the cursor cannot be moved at the moment.
    said: bool,
}

impl Keeper {
    /// The cursor with this name, at the position that the service says it has.
    pub(super) fn new(name: CursorName, position: Option<String>) -> Self {
        // A new one is made at once.
        let due = Instant::now() + if position.is_some() { EVERY } else { Duration::ZERO };
        Self { name, position, asked: Vec::new(), due, pauses: Pauses::default(), said: false }
    }

    /// Whether it should be moved to this position now.
    pub(super) fn is_due(&self, position: &str) -> bool {
        self.position.as_deref() != Some(position) && Instant::now() >= self.due
    }

    /// Moves it. What the service cannot do at the moment is tried again later.
    ///
    /// # Errors
    /// When another follower has moved it, or the service will never move it there.
    pub(super) fn move_to(&mut self, position: &str, service: &Service) -> Result<(), Refusal> {
        match self.try_to_move(position, service) {
            Ok(()) => {
                self.due = Instant::now() + EVERY;
                self.pauses.begin_again(None);
                if std::mem::take(&mut self.said) {
                    say(&format!("lyftr: the cursor {} is moved again", self.name.as_str()));
                }
                Ok(())
            }
            Err(Trouble::Refused(refusal)) => Err(refusal),
            Err(Trouble::Lost { why, pause }) => {
                self.due = Instant::now() + self.pauses.next(pause);
                if !std::mem::replace(&mut self.said, true) {
                    let name = self.name.as_str();
                    say(&format!("lyftr: the cursor {name} cannot be moved at the moment ({why})"));
                }
                Ok(())
            }
        }
    }

    /// Moves it a last time.
    ///
    /// # Errors
    /// As [`Keeper::move_to`], and when the service cannot do it at the moment.
    pub(super) fn finish(&mut self, position: &str, service: &Service) -> Result<(), Refusal> {
        let mut tries = 0;
        while self.position.as_deref() != Some(position) {
            let why = match self.try_to_move(position, service) {
                Ok(()) => break,
                Err(Trouble::Refused(refusal)) => return Err(refusal),
                Err(Trouble::Lost { why, .. }) => why,
            };
            tries += 1;
            if tries == LAST_TRIES {
                let text = format!(
                    "the cursor {} was not moved ({why}): the last events that were printed will come once more",
                    self.name.as_str()
                );
                return Err(Refusal { text, code: 1 });
            }
            std::thread::sleep(self.pauses.next(None) / 2);
        }
        Ok(())
    }

    fn try_to_move(&mut self, position: &str, service: &Service) -> Result<(), Trouble> {
        loop {
            let moved = service.move_cursor(self.name.as_str(), self.position.as_deref(), position);
            match moved.inspect_err(|trouble| self.remember_unless_refused(position, trouble))? {
                Moved::Done => {
                    self.position = Some(position.to_owned());
                    self.asked.clear();
                    return Ok(());
                }
                // An earlier request, whose answer was lost, had moved it.
                Moved::Elsewhere(Some(there)) if self.asked.contains(&there) => {
                    self.position = Some(there);
                    self.asked.clear();
                    if self.position.as_deref() == Some(position) {
                        return Ok(());
                    }
                }
                Moved::Elsewhere(there) => return Err(Trouble::Refused(self.conflict(there.as_deref()))),
            }
        }
    }

    /// Remembers a position that the cursor may have after a request that came to nothing.
    fn remember_unless_refused(&mut self, position: &str, trouble: &Trouble) {
        let is_known = self.asked.last().is_some_and(|asked| asked == position);
        if matches!(trouble, Trouble::Lost { .. }) && !is_known {
            self.asked.push(position.to_owned());
            let oldest = self.asked.len().saturating_sub(ASKED_MAX);
            self.asked.drain(..oldest);
        }
    }

    fn conflict(&self, there: Option<&str>) -> Refusal {
        let name = self.name.as_str();
        let text = match there {
            Some(_) => format!("another follower has made or moved the cursor {name}; this one ends"),
            None => format!("somebody has deleted the cursor {name}; this follower ends"),
        };
        Refusal { text, code: 1 }
    }
}
