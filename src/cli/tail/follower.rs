//! A follower: it reads the log on from a place, prints it, and keeps its place under a cursor.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::behind::Behind;
use super::cursor::Keeper;
use super::readable;
use super::service::{Place, Refusal, Service, Trouble, lost};
use super::sse::Block;
use super::stop::Stop;
use super::stream::{self, Heard, Pauses};
use crate::cli::{Failure, say};
use crate::clock;
use crate::cursor::CursorName;
use crate::output::{Output, PIPE_BYTES};

/// Time between two looks at what does not wake a follower: signals, a reader that is gone, a cursor that may be moved.
const TICK: Duration = Duration::from_millis(100);
/// Maximum number of events on a page.
const PAGE_MAX: u64 = 1_000;
/// Time between two looks at how far it is behind.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Number of columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;

/// Time without a word of the service after which nothing waits there to be printed.
const NOTHING_WAITS: Duration = Duration::from_secs(2);
/// Maximum number of tries in a row that come to nothing, before the first connection, and where an end is waited for.
const RETRIES: u32 = 5;

/// Why a follower ends.
pub(super) enum Ended {
    /// It has printed everything that it was asked for.
    Done,
    /// Nobody reads what it prints any more.
    Closed,
    /// A signal, and the exit code that it leads to.
    Signal(ExitCode),
    /// It cannot go on.
    Refused(Refusal),
    /// The output cannot be written, or the operating system refuses something.
    Failed(Failure),
}

/// What a follower is to do.
pub(super) struct Task {
    /// Where it begins, unless its cursor says so; then, where it has come.
    pub(super) place: Place,
    /// Number of events that are still to be printed; `None` for all.
    pub(super) left: Option<u64>,
    /// It ends at the end of the log.
    pub(super) until_end: bool,
    /// It prints JSON, else a line for a person.
    pub(super) json: bool,
    /// Maximum number of tries in a row that come to nothing, if it was given.
    pub(super) retries: Option<u32>,
}

/// A follower at work.
pub(super) struct Follower {
    task: Task,
    service: Arc<Service>,
    output: Output,
    stop: Stop,
    keeper: Option<Keeper>,
    pauses: Pauses,
    /// It was connected once.
    was_connected: bool,
    /// It has said that it is not connected.
    said_lost: bool,
    /// The clock of the service is ahead of ours by so much.
    ahead: jiff::SignedDuration,
    behind: Behind,
    /// When it looked last how far it is behind.
    looked: Option<Instant>,
    began: Instant,
}

/// What a follower itself wants to know of an event.
#[derive(Deserialize)]
struct Known<'a> {
    position: &'a str,
    received_at: Option<&'a str>,
}

impl Follower {
    pub(super) fn new(task: Task, service: Service, output: Output, stop: Stop) -> Self {
        Self {
            task,
            service: Arc::new(service),
            output,
            stop,
            keeper: None,
            pauses: Pauses::default(),
            was_connected: false,
            said_lost: false,
            ahead: jiff::SignedDuration::ZERO,
            behind: Behind::default(),
            looked: None,
            began: Instant::now(),
        }
    }

    /// Prints until the end, and moves the cursor, if it shall keep its place under one, to what was printed.
    ///
    /// # Errors
    /// When the output cannot be written, or the operating system refuses something.
    pub(super) fn run(mut self, cursor: Option<CursorName>) -> Result<ExitCode, Failure> {
        let ended = self.work(cursor).err().unwrap_or(Ended::Done);
        let moved = match ended {
            // What the reader of a closed pipe has not read comes again.
            Ended::Closed => Ok(()),
            _ => self.finish_cursor(),
        };
        let refusal = match (ended, moved) {
            (Ended::Failed(failure), _) => return Err(failure),
            (Ended::Done | Ended::Closed, Ok(())) => return Ok(ExitCode::SUCCESS),
            (Ended::Signal(code), Ok(())) => return Ok(code),
            (Ended::Refused(refusal), _) | (_, Err(refusal)) => refusal,
        };
        say(&format!("lyftr: {}", refusal.text));
        Ok(ExitCode::from(refusal.code))
    }

    fn work(&mut self, cursor: Option<CursorName>) -> Result<(), Ended> {
        if self.output.ends_within_line() {
            // What follows shall not be swallowed by it.
            say(
                "lyftr: the file to print to ends within a line, which is ended now: the disk was full, or what wrote it was killed",
            );
            self.write(b"\n")?;
        }
        if let Some(name) = cursor {
            self.find_cursor(name)?;
        }
        if self.task.until_end {
            return self.read_to_end();
        }
        loop {
            let heard = stream::open(&self.service, &self.task.place).map_err(failed)?;
            let trouble = self.hear(&heard)?;
            self.bear(trouble)?;
        }
    }

    /// Begins where the cursor is, if there is one of this name, and keeps its place under it from now on.
    fn find_cursor(&mut self, name: CursorName) -> Result<(), Ended> {
        let found = loop {
            self.tick()?;
            match self.service.cursor(name.as_str()) {
                Ok(found) => break found,
                Err(trouble) => self.bear(trouble)?,
            }
        };
        self.connected();
        if let Some(cursor) = &found {
            self.task.place = Place::After(cursor.position.clone());
            if cursor.lag > 0 && !self.task.until_end {
                say(&format!("lyftr: the cursor {} is {} events behind", name.as_str(), cursor.lag));
            }
        }
        self.keeper = Some(Keeper::new(name, found.map(|cursor| cursor.position)));
        Ok(())
    }

    /// Prints what comes out of a connection. Returns why it is lost.
    fn hear(&mut self, heard: &Receiver<Heard>) -> Result<Trouble, Ended> {
        let mut last = Instant::now();
        loop {
            self.tick()?;
            match heard.recv_timeout(TICK) {
                Ok(Heard::Opened(ahead)) => {
                    self.ahead = ahead;
                    self.connected();
                }
                Ok(Heard::Blocks(blocks)) => {
                    for block in blocks {
                        self.block(block)?;
                    }
                    last = Instant::now();
                }
                Ok(Heard::Ended(trouble)) => return Ok(trouble),
                Err(RecvTimeoutError::Timeout) if last.elapsed() >= NOTHING_WAITS => {
                    self.say_if_any(Behind::nothing_waits);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(lost("the connection has ended")),
            }
        }
    }

    fn block(&mut self, block: Block) -> Result<(), Ended> {
        self.pauses.begin_again(block.retry);
        if let Some(data) = &block.data {
            self.print(data)?;
        }
        match block.id {
            // The log has no event yet.
            Some(id) if id.is_empty() => self.task.place = Place::Beginning,
            Some(id) => self.task.place = Place::After(id),
            None => {}
        }
        self.count(block.data.is_some())
    }

    fn read_to_end(&mut self) -> Result<(), Ended> {
        loop {
            self.tick()?;
            let limit = self.task.left.unwrap_or(PAGE_MAX).min(PAGE_MAX);
            let page = match self.service.page(&self.task.place, limit) {
                Ok(page) => page,
                Err(trouble) => {
                    self.bear(trouble)?;
                    continue;
                }
            };
            self.connected();
            self.pauses.begin_again(None);
            for event in page.data {
                self.print(event.get())?;
                if let Ok(known) = serde_json::from_str::<Known<'_>>(event.get()) {
                    self.task.place = Place::After(known.position.to_owned());
                }
                self.count(true)?;
            }
            if let Some(next) = page.next {
                self.task.place = Place::After(next);
            }
            if page.end {
                return Ok(());
            }
        }
    }

    /// An event was printed, or something else was heard of.
    fn count(&mut self, is_event: bool) -> Result<(), Ended> {
        if is_event && let Some(left) = &mut self.task.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                return Err(Ended::Done);
            }
        }
        self.check()
    }

    fn print(&mut self, event: &str) -> Result<(), Ended> {
        let mut line = if self.task.json {
            // A line end in JSON stands between values, where a blank says as much.
            event.replace(['\n', '\r'], " ")
        } else {
            readable::line(event, self.output.columns().unwrap_or(COLUMNS))
        };
        line.push('\n');
        self.write(line.as_bytes())?;
        if !self.task.until_end && self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.looked = Some(Instant::now());
            self.look(event);
        }
        Ok(())
    }

    /// Says how far it is behind, where that is worth a word.
    fn look(&mut self, event: &str) {
        let Ok(known) = serde_json::from_str::<Known<'_>>(event) else { return };
        let arrived = known.received_at.and_then(|at| at.parse::<jiff::Timestamp>().ok());
        let now = clock::now();
        let age = arrived.map(|arrived| {
            let age = now.duration_since(arrived).saturating_add(self.ahead);
            Duration::try_from(age).unwrap_or_default()
        });
        let elapsed = self.began.elapsed();
        self.say_if_any(|behind| behind.event(age, elapsed));
    }

    fn say_if_any(&mut self, words: impl FnOnce(&mut Behind) -> Option<String>) {
        if let Some(words) = words(&mut self.behind) {
            say(&format!("lyftr: {words}"));
        }
    }

    /// Writes to the output. While its reader makes no room, signals are looked at and the cursor is moved.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        // A file has room for a line at once, so that no kill leaves a part of one.
        let piece_bytes = if self.output.is_file() { bytes.len() } else { PIPE_BYTES };
        for mut piece in bytes.chunks(piece_bytes.max(1)) {
            while !piece.is_empty() {
                while !self.output.has_room(TICK).map_err(failed)? {
                    self.check()?;
                }
                match self.output.write(piece) {
                    Ok(count) => piece = piece.get(count..).unwrap_or_default(),
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => return Err(Ended::Closed),
                    Err(error) => return Err(Ended::Failed(format!("cannot print further: {error}").into())),
                }
            }
        }
        Ok(())
    }

    /// It is connected, perhaps again.
    fn connected(&mut self) {
        self.was_connected = true;
        if std::mem::take(&mut self.said_lost) {
            say("lyftr: connected again");
        }
    }

    /// Waits after a trouble, if it may pass.
    fn bear(&mut self, trouble: Trouble) -> Result<(), Ended> {
        let (why, pause) = match trouble {
            Trouble::Refused(refusal) => return Err(Ended::Refused(refusal)),
            Trouble::Lost { why, pause } => (why, self.pauses.next(pause)),
        };
        let has_patience = self.was_connected && !self.task.until_end;
        let retries = self.task.retries.or((!has_patience).then_some(RETRIES));
        if retries.is_some_and(|retries| self.pauses.failures > retries) {
            let text = format!("the service at --url does not answer: {why}");
            return Err(Ended::Refused(Refusal { text, code: 1 }));
        }
        let lost =
            if std::mem::replace(&mut self.said_lost, true) { "not connected" } else { "connection lost" };
        let lost = if self.was_connected { lost } else { "not connected" };
        say(&format!("lyftr: {lost} ({why}); trying again in {:.1} s", pause.as_secs_f64()));
        let begin = Instant::now();
        while let Some(rest) = pause.checked_sub(begin.elapsed()) {
            self.tick()?;
            std::thread::sleep(rest.min(TICK));
        }
        Ok(())
    }

    /// Looks at what does not wake a follower.
    fn tick(&mut self) -> Result<(), Ended> {
        if self.output.is_closed() { Err(Ended::Closed) } else { self.check() }
    }

    /// Ends after a signal, and moves the cursor if it is time.
    fn check(&mut self) -> Result<(), Ended> {
        if let Some(code) = self.stop.code() {
            return Err(Ended::Signal(code));
        }
        if let (Some(keeper), Place::After(position)) = (&mut self.keeper, &self.task.place)
            && keeper.is_due(position)
        {
            self.output.sync().map_err(|error| Ended::Failed(not_kept(&error).into()))?;
            keeper.move_to(position, &self.service).map_err(Ended::Refused)?;
        }
        Ok(())
    }

    fn finish_cursor(&mut self) -> Result<(), Refusal> {
        if let (Some(keeper), Place::After(position)) = (&mut self.keeper, &self.task.place) {
            self.output.sync().map_err(|error| Refusal { text: not_kept(&error), code: 1 })?;
            keeper.finish(position, &self.service)?;
        }
        Ok(())
    }
}

fn failed(error: std::io::Error) -> Ended {
    Ended::Failed(error.into())
}

fn not_kept(error: &std::io::Error) -> String {
    format!("what was printed may not be on disk, and the cursor is not moved: {error}")
}
