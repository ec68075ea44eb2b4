//! A follower that keeps its place under a cursor.

use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{lines, run, tail};
use crate::support::eventually;
use crate::support::fake::{Answer, Fake, Request, after, block, event, place, position};

/// A service with one cursor, which it moves by compare-and-set, and a log of so many events.
struct Log {
    events: usize,
    cursor: Mutex<Option<usize>>,
}

impl Log {
    fn new(events: usize, cursor: Option<usize>) -> Self {
        Self { events, cursor: Mutex::new(cursor) }
    }

    fn answer(&self, request: &Request, answer: &mut Answer) {
        match (request.method.as_str(), request.path()) {
            ("GET", "/cursors/mine") => match *self.cursor.lock().unwrap() {
                Some(at) => {
                    let (position, lag) = (position(at), self.events - at);
                    let body = format!(
                        r#"{{"name":"mine","position":"{position}","updated_at":"2025-01-15T10:00:00.000Z","lag":{lag}}}"#
                    );
                    answer.json(200, "", &body);
                }
                None => answer.json(404, "", r#"{"detail":"no such cursor"}"#),
            },
            ("PUT", "/cursors/mine") => {
                let (status, body) = self.put(request);
                answer.json(status, "", &body);
            }
            ("GET", "/events") if request.header("accept") == Some("application/json") => {
                let after = self.begin(request);
                let data: Vec<_> = (after + 1..=self.events).map(event).collect();
                let next = position(self.events.max(after));
                answer.json(
                    200,
                    "",
                    &format!(r#"{{"data":[{}],"next":"{next}","end":true}}"#, data.join(",")),
                );
            }
            ("GET", "/events") => {
                let after = self.begin(request);
                answer.stream();
                answer.chunk(&(place(after) + &(after + 1..=self.events).map(block).collect::<String>()));
                answer.hold();
            }
            _ => answer.json(404, "", r#"{"detail":"Not Found"}"#),
        }
    }

    /// The number of the event after which a request begins.
    fn begin(&self, request: &Request) -> usize {
        if request.parameter("after") == Some("now") { self.events } else { after(request) }
    }

    /// The status and body of the answer.
    fn put(&self, request: &Request) -> (u16, String) {
        let mut cursor = self.cursor.lock().unwrap();
        let wanted = request.position();
        let expected = match (request.header("if-match"), request.header("if-none-match")) {
            (Some(position), None) => Some(position.trim_matches('"').to_owned()),
            (None, Some("*")) => None,
            both => panic!("{both:?}"),
        };
        let there = cursor.map(position);
        if expected != there {
            return (412, serde_json::json!({ "detail": "it has moved", "position": there }).to_string());
        }
        *cursor = Some(usize::from_str_radix(&wanted, 16).unwrap());
        (
            200,
            format!(
                r#"{{"name":"mine","position":"{wanted}","updated_at":"2025-01-15T10:00:00.000Z","lag":0}}"#
            ),
        )
    }

    fn cursor(&self) -> Option<usize> {
        *self.cursor.lock().unwrap()
    }
}

fn start(log: Log) -> (Fake, &'static Log) {
    let log: &'static Log = Box::leak(Box::new(log));
    (Fake::start(move |request, _, answer| log.answer(request, answer)), log)
}

#[test]
fn a_follower_goes_on_at_its_cursor_and_moves_it_to_what_it_has_printed() {
    let (fake, log) = start(Log::new(10, Some(3)));
    for (from, to) in [(4, 6), (7, 9)] {
        // The cursor counts, wherever else it may begin.
        let finished = run(&fake, &["--cursor", "mine", "--from", "beginning", "-n", "3"]);
        assert_eq!((finished.code(), finished.stdout), (Some(0), lines(from..=to)));
        assert_eq!(log.cursor(), Some(to));
        let lag = 10 - from + 1;
        assert!(finished.stderr.starts_with(&format!("lyftr: the cursor mine is {lag} events behind\n")));
    }
    let finished = run(&fake, &["--cursor", "mine", "--until-end"]);
    assert_eq!((finished.stdout, log.cursor()), (lines(10..=10), Some(10)), "{}", finished.stderr);
    let before = fake.requests().len();
    let finished = run(&fake, &["--cursor", "mine", "--until-end"]);
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(0), ""));
    assert!(fake.requests()[before..].iter().all(|request| request.method == "GET"), "nothing to move");
}

#[test]
fn a_cursor_is_made_where_the_follower_begins() {
    let (fake, log) = start(Log::new(5, None));
    let process = tail(&fake, &["--cursor", "mine"]).spawn();
    eventually("the cursor stands at the end", || (log.cursor() == Some(5)).then_some(()));
    drop(process);
    for (from, printed, at) in
        [("beginning", 1..=2, 2), (position(3).as_str(), 4..=5, 5)].map(|(f, p, a)| (f.to_owned(), p, a))
    {
        let (fake, log) = start(Log::new(5, None));
        let finished = run(&fake, &["--cursor", "mine", "--from", &from, "-n", "2"]);
        assert_eq!(
            (finished.stdout, log.cursor()),
            (lines(printed), Some(at)),
            "{from}: {}",
            finished.stderr
        );
    }
    let (fake, log) = start(Log::new(5, None));
    let finished = run(&fake, &["--cursor", "mine", "--until-end"]);
    assert_eq!((finished.code(), finished.stdout.as_str(), log.cursor()), (Some(0), "", Some(5)));
}

#[test]
fn what_was_printed_is_kept_every_second_and_at_a_signal() {
    let (fake, log) = start(Log::new(4, Some(1)));
    let mut process = tail(&fake, &["--cursor", "mine"]).spawn();
    // Nothing more comes, and still the cursor is moved.
    eventually("the cursor is moved", || (log.cursor() == Some(4)).then_some(()));
    assert_eq!(process.terminate().code(), Some(0));
    assert_eq!(fake.moves(), [position(4)], "once for all");
}

#[test]
fn two_followers_of_one_cursor_do_not_push_each_other_back() {
    for (other, words) in [
        (Some(9), "another follower has made or moved the cursor mine"),
        (Some(0), "another follower has made or moved the cursor mine"),
        // To where this one wants it: on a quiet log both print the same events.
        (Some(10), "another follower has made or moved the cursor mine"),
        (None, "somebody has deleted the cursor mine"),
    ] {
        let log: &'static Log = Box::leak(Box::new(Log::new(10, Some(3))));
        let fake = Fake::start(move |request, _, answer| {
            // Somebody else moves it before this one does.
            if request.method == "PUT" {
                *log.cursor.lock().unwrap() = other;
            }
            log.answer(request, answer);
        });
        let finished = run(&fake, &["--cursor", "mine", "-n", "7"]);
        assert_eq!(finished.code(), Some(1), "{}", finished.stderr);
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
        assert_eq!(log.cursor(), other, "as the other one left it");
    }
}

#[test]
fn the_rest_of_a_line_in_the_file_swallows_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.ndjson");
    for (before, between) in [("", ""), ("{\"whole\":1}\n", ""), ("{\"position\":\"00", "\n")] {
        std::fs::write(&path, before).unwrap();
        let (fake, _) = start(Log::new(3, Some(1)));
        let file = std::fs::File::options().append(true).open(&path).unwrap();
        let finished = tail(&fake, &["--cursor", "mine", "-n", "2"]).stdout(file).spawn().finish();
        assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
        assert_eq!(
            finished.stderr.contains("ends within a line"),
            !between.is_empty(),
            "{}",
            finished.stderr
        );
        let expected = format!("{before}{between}{}", lines(2..=3));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
    }
}

#[test]
fn a_move_whose_answer_is_lost_is_no_conflict() {
    let log: &'static Log = Box::leak(Box::new(Log::new(10, None)));
    let fake = Fake::start(move |request, before, answer| {
        if request.method == "PUT" && before < 2 {
            // It is moved, and nobody is told.
            log.put(request);
            return;
        }
        log.answer(request, answer);
    });
    let finished = run(&fake, &["--cursor", "mine", "--from", "beginning", "-n", "10"]);
    assert_eq!((finished.code(), finished.stdout), (Some(0), lines(1..=10)), "{}", finished.stderr);
    assert_eq!(log.cursor(), Some(10));
}

#[test]
fn who_cannot_move_the_cursor_at_the_end_says_so() {
    let log: &'static Log = Box::leak(Box::new(Log::new(3, Some(1))));
    let fake = Fake::start(move |request, _, answer| match request.method.as_str() {
        "PUT" => answer.json(503, "Retry-After: 1\r\n", r#"{"detail":"no store"}"#),
        _ => log.answer(request, answer),
    });
    let finished = run(&fake, &["--cursor", "mine", "-n", "2"]);
    assert_eq!((finished.code(), finished.stdout), (Some(1), lines(2..=3)));
    let words =
        "the cursor mine was not moved (503 no store): the last events that were printed will come once more";
    assert!(finished.stderr.contains(words), "{}", finished.stderr);
    assert_eq!(log.cursor(), Some(1));
}

#[test]
fn a_cursor_is_not_moved_past_what_a_closed_pipe_has_lost() {
    eventually("a round in which the cursor was not moved in the meantime, as it is every second", || {
        let (fake, log) = start(Log::new(3_000, Some(0)));
        let (mut reader, writer) = std::io::pipe().unwrap();
        let process = tail(&fake, &["--cursor", "mine"]).stdout(writer).spawn();
        // The pipe is full, and what it holds counts as printed.
        let full = eventually("the cursor is moved", || log.cursor().filter(|at| *at > 0));
        let moved = Instant::now();
        // More than it holds, so that more is printed.
        reader.read_exact(&mut vec![0; 128 << 10]).unwrap();
        drop(reader);
        assert_eq!(process.finish().code(), Some(0));
        let is_quick = moved.elapsed() < Duration::from_millis(800);
        assert!(!is_quick || log.cursor() == Some(full), "{full}: {:?}", log.cursor());
        is_quick.then_some(())
    });
}
