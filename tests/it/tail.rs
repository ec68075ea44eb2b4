//! `lyftr tail`, in front of a service that is nothing but its answers, and in front of a real one.

use std::io::{BufRead, BufReader, Read};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use rustix::process::Signal;

use crate::support::eventually;
use crate::support::fake::{Answer, Fake, Request, STREAM, after, block, event, place, position};
use crate::support::process::{Builder, Finished, Process};

mod cursor;
mod service;
mod terminal;

/// `lyftr tail` with the URL and these arguments.
fn tail(fake: &Fake, arguments: &[&str]) -> Builder {
    // Nothing in the environment, and no database.
    let builder =
        Process::builder().env_remove("DATABASE_URL").env_remove("WEBHOOK_SECRET").env_remove("PORT");
    builder.args(&[&["tail", "--url", &fake.url()], arguments].concat())
}

/// Runs it to its end.
fn run(fake: &Fake, arguments: &[&str]) -> Finished {
    tail(fake, arguments).run()
}

/// What is printed for the events with these numbers.
fn lines(numbers: std::ops::RangeInclusive<usize>) -> String {
    numbers.map(|number| event(number) + "\n").collect()
}

#[test]
fn every_event_is_printed_once_and_in_order_wherever_connections_are_cut() {
    const EVENTS: usize = 120;
    let seed = fastrand::u64(..);
    let rng = Mutex::new(Rng::with_seed(seed));
    let fake = Fake::start(move |request, _, answer| {
        let after = after(request);
        let text: String = (after + 1..=EVENTS).map(block).collect();
        let cut = rng.lock().unwrap().usize(..4 * block(1).len());
        answer.stream();
        answer.chunk("retry: 100\n\n");
        // The first bytes in two pieces: the end of one may be in the middle of a character.
        let cut = cut.min(text.len());
        answer.chunk(&text[..cut / 2]);
        answer.bytes(format!("{:x}\r\n{}", text.len(), &text[cut / 2..cut]));
    });
    let finished = run(&fake, &["--from", "beginning", "-n", &EVENTS.to_string()]);
    assert_eq!(finished.stdout, lines(1..=EVENTS), "seed {seed}: {}", finished.stderr);
    assert_eq!(finished.code(), Some(0));
    assert!(finished.stderr.contains("connection lost (") && finished.stderr.contains("connected again"));
    let requests = fake.requests();
    assert!(requests.len() > EVENTS / 8, "{} connections", requests.len());
    assert!(requests.iter().all(|request| request.header("accept") == Some("text/event-stream")));
    assert!(requests[0].header("last-event-id").is_none() && requests[0].parameter("after").is_none());
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn filters_go_to_the_service_and_what_they_leave_out_is_not_read_again() {
    let fake = Fake::start(|request, before, answer| {
        answer.stream();
        if before == 0 {
            answer.chunk(&format!("retry: 100\n\n{}{}{}", place(1), block(2), place(9)));
        } else {
            answer.chunk(&block(after(request) + 1));
            answer.hold();
        }
    });
    let filters = ["--source", "shop-wa", "--key", "k/1", "--kind", "status", "--sender", "+1 é"];
    let others = ["--recipient", "+2", "--thread", "t&x", "--ref", "r#", "-n", "2"];
    let finished = run(&fake, &[&filters[..], &others].concat());
    assert_eq!(finished.stdout, lines(2..=2) + &lines(10..=10), "{}", finished.stderr);
    for request in fake.requests() {
        let filters =
            "source=shop%2Dwa&key=k%2F1&kind=status&from=%2B1%20%C3%A9&to=%2B2&thread=t%26x&ref=r%23";
        assert!(request.target.ends_with(filters), "{request:?}");
    }
    assert_eq!(fake.requests()[0].parameter("after"), Some("now"));
}

#[test]
fn nothing_is_left_out_when_the_log_was_empty_at_first() {
    let fake = Fake::start(|request, before, answer| {
        answer.stream();
        if before == 0 {
            answer.chunk("retry: 100\nid:\n\n");
        } else if request.parameter("after").is_none() && request.header("last-event-id").is_none() {
            answer.chunk(&(block(1) + &block(2)));
            answer.hold();
        }
    });
    let finished = run(&fake, &["-n", "2"]);
    assert_eq!(finished.stdout, lines(1..=2), "{}", finished.stderr);
}

#[test]
fn a_position_to_begin_at_and_a_path_before_the_service_are_kept() {
    let fake = Fake::start(|request, _, answer| {
        answer.stream();
        answer.chunk(&block(after(request) + 1));
        answer.hold();
    });
    let url = format!("{}/in/", fake.url());
    let finished = run(&fake, &["--from", &position(7), "-n", "1"]);
    assert_eq!(finished.stdout, lines(8..=8), "{}", finished.stderr);
    let arguments = ["tail", "--url", &url, "--from", "beginning", "-n", "1"];
    let finished = Process::builder().env_remove("DATABASE_URL").args(&arguments).run();
    assert_eq!(finished.stdout, lines(1..=1), "{}", finished.stderr);
    assert_eq!(fake.requests().last().unwrap().target, "/in/events");
}

#[test]
fn the_end_of_the_log_is_the_end_where_that_is_wanted() {
    let fake = Fake::start(|request, before, answer| {
        if before == 1 {
            return answer.json(503, "Retry-After: 0\r\n", r#"{"detail":"too many reads"}"#);
        }
        let after = after(request);
        let limit: usize = request.parameter("limit").unwrap().parse().unwrap();
        // The last page has nothing that the filters let through.
        let last = (after + limit.min(3)).min(10);
        let data: Vec<_> = (after + 1..=last).map(|n| event(n).replace(":1e400", ": \r\n1e400")).collect();
        let (next, end) = (position(if last == 10 { 12 } else { last }), after >= 10);
        answer.json(200, "", &format!(r#"{{"data":[{}],"next":"{next}","end":{end}}}"#, data.join(",")));
    });
    let spaced = |numbers| lines(numbers).replace(":1e400", ":   1e400");
    let finished = run(&fake, &["--from", "beginning", "--until-end"]);
    assert_eq!((finished.code(), finished.stdout), (Some(0), spaced(1..=10)), "{}", finished.stderr);
    let last = fake.requests().last().unwrap().clone();
    assert_eq!(
        (last.parameter("after"), last.parameter("limit")),
        (Some(position(12).as_str()), Some("1000"))
    );
    let finished = run(&fake, &["--from", "beginning", "--no-follow", "-n", "5"]);
    assert_eq!((finished.code(), finished.stdout), (Some(0), spaced(1..=5)), "{}", finished.stderr);
}

/// Answers with a status at first, and with an event from the second request on.
fn refusing(status: u16, headers: &'static str, body: &'static str) -> Fake {
    Fake::start(move |_, before, answer| {
        if before == 0 {
            return answer.json(status, headers, body);
        }
        answer.stream();
        answer.chunk(&block(1));
    })
}

#[test]
fn what_the_service_refuses_for_good_ends_it_with_a_word_and_an_exit_code() {
    let detail = r#"{"detail":"the reason \u001b[31m"}"#;
    let errors =
        r#"{"detail":[{"type":"value_error","loc":["query","after"],"msg":"no position","input":"x"}]}"#;
    for (status, headers, body, code, words) in [
        (401, "WWW-Authenticate: Bearer\r\n", detail, 1, "set READ_TOKEN, or READ_TOKEN_FILE"),
        (404, "", detail, 1, "has no events to follow (404 the reason ␛[31m)"),
        (410, "", detail, 1, "is none in this log (410 the reason ␛[31m)"),
        (422, "", errors, 2, "lyftr: the service refuses this: after: no position\n"),
        (302, "Location: /login\r\n", "login", 1, "the service refuses this (302"),
        (200, "", "{}", 1, "no stream of events"),
    ] {
        let fake = refusing(status, headers, body);
        let finished = run(&fake, &["-n", "1"]);
        let said = &finished.stderr;
        assert!(said.starts_with("lyftr: ") && said.contains(words), "{status}: {said}");
        assert_eq!((finished.code(), finished.stdout.as_str()), (Some(code), ""), "{status}");
        assert_eq!(fake.requests().len(), 1, "{status}");
    }
}

#[test]
fn what_may_pass_is_waited_for() {
    for (status, headers) in [(503, "Retry-After: 1\r\n"), (502, ""), (500, ""), (429, "Retry-After: x\r\n")]
    {
        let fake = refusing(status, headers, r#"{"detail":"later"}"#);
        let finished = run(&fake, &["-n", "1"]);
        assert_eq!((finished.code(), finished.stdout), (Some(0), lines(1..=1)), "{status}");
        let said = format!("lyftr: not connected ({status} later); trying again in ");
        assert!(finished.stderr.starts_with(&said), "{}", finished.stderr);
        assert!(finished.stderr.ends_with(" s\nlyftr: connected again\n"), "{}", finished.stderr);
    }
}

#[test]
fn who_never_answers_is_given_up() {
    let fake = Fake::start(|_, _, answer| {
        answer.bytes("HTTP/1.1 503 Status\r\nContent-Le");
    });
    for arguments in
        [&["--retries", "1"][..], &["--retries", "1", "--until-end"], &["--retries", "1", "--cursor", "a"]]
    {
        let before = fake.requests().len();
        let finished = run(&fake, arguments);
        assert_eq!((finished.code(), finished.stdout.as_str()), (Some(1), ""), "{}", finished.stderr);
        assert!(
            finished.stderr.contains("lyftr: the service at --url does not answer: "),
            "{}",
            finished.stderr
        );
        assert_eq!(fake.requests().len() - before, 2);
    }
}

#[test]
fn wrong_arguments_are_told_at_once_and_nobody_is_asked() {
    let fake = Fake::start(|_, _, _| {});
    let long = "x".repeat(65);
    let arguments = ["--cursor", &long, "--from", "+919876543210", "--url", "ftp://x"];
    let arguments = [&["tail"], &arguments[..]].concat();
    let finished =
        Process::builder().env_remove("DATABASE_URL").args(&arguments).env("READ_TOKEN", "a\nb").run();
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(2), ""));
    for words in
        ["--url should", "--cursor: a cursor's name", "--sender is for the events from", "READ_TOKEN has"]
    {
        assert!(finished.stderr.contains(words), "{words}: {}", finished.stderr);
    }
    for wrong in [&["--kind", "nothing"][..], &["-n", "0"], &["--from", ""], &["--url", "http://a/?x=y"]] {
        assert_eq!(tail(&fake, &[]).args(wrong).run().code(), Some(2), "{wrong:?}");
    }
    assert!(fake.requests().is_empty());
}

#[test]
fn the_read_token_is_shown_to_the_service_and_to_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hunter2\n").unwrap();
    let fake = refusing(401, "", r#"{"detail":"missing or wrong read token"}"#);
    for (name, value) in [("READ_TOKEN", "hunter2"), ("READ_TOKEN_FILE", file.to_str().unwrap())] {
        let finished = tail(&fake, &["-n", "1"]).env(name, value).run();
        assert!(!(finished.stdout + &finished.stderr).contains("hunter2"));
    }
    let shown: Vec<_> =
        fake.requests().into_iter().map(|mut one| one.headers.remove("authorization")).collect();
    assert_eq!(shown, vec![Some("Bearer hunter2".to_owned()); 2]);
}

/// Sends the first events, and then nothing more.
fn quiet(events: usize) -> impl Fn(&Request, usize, &mut Answer) + Send + Sync + 'static {
    move |request: &Request, _: usize, answer: &mut Answer| {
        if request.method == "PUT" {
            return answer.json(200, "", &format!(r#"{{"position":"{}"}}"#, request.position()));
        }
        if request.path().starts_with("/cursors/") {
            return answer.json(404, "", r#"{"detail":"no such cursor"}"#);
        }
        answer.stream();
        answer.chunk(&(1..=events).map(block).collect::<String>());
        answer.hold();
    }
}

#[test]
fn it_ends_quietly_when_nobody_reads_what_it_prints_any_more() {
    // The second one goes while there is more to print, the first one when there is nothing left.
    for (events, read) in [(3, 3), (3_000, 1)] {
        let fake = Fake::start(quiet(events));
        let (reader, writer) = std::io::pipe().unwrap();
        let process = tail(&fake, &["--from", "beginning"]).stdout(writer).spawn();
        let mut reader = BufReader::new(reader);
        let mut printed = String::new();
        for _ in 0..read {
            reader.read_line(&mut printed).unwrap();
        }
        assert_eq!(printed, lines(1..=read));
        drop(reader);
        // Though the service sends nothing more.
        let finished = process.finish();
        assert_eq!((finished.code(), finished.stderr.as_str()), (Some(0), ""), "{events}");
    }
}

#[test]
fn a_signal_ends_it_also_while_nobody_reads_what_it_prints() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 0)] {
        for events in [2, 3_000] {
            let fake = Fake::start(quiet(events));
            let (mut reader, writer) = std::io::pipe().unwrap();
            let process = tail(&fake, &["--from", "beginning", "--cursor", "mine"]).stdout(writer).spawn();
            // A pipe holds 64 KiB at most, and is full with somewhat less.
            let waiting = lines(1..=events).len().min(50_000);
            eventually("all is printed that can be", || {
                let printed = rustix::io::ioctl_fionread(&reader).unwrap();
                (printed >= waiting as u64).then_some(())
            });
            process.signal(signal);
            // All that was printed is in the pipe, the last line of it perhaps not whole.
            let finished = process.finish();
            assert_eq!((finished.code(), finished.stderr.as_str()), (Some(code), ""));
            let mut all = String::new();
            reader.read_to_string(&mut all).unwrap();
            let printed = all.matches('\n').count();
            assert_eq!(printed == events, events == 2, "{printed}");
            assert_eq!(fake.moves().last(), Some(&position(printed)), "{signal:?}");
        }
    }
}

#[test]
fn a_service_that_says_nothing_for_long_is_taken_for_lost() {
    // 30 s in all, which other tests run meanwhile.
    let fake = Fake::start(|_, before, answer| {
        answer.stream();
        answer.chunk(&block(before + 1));
        answer.hold();
    });
    let finished = run(&fake, &["--from", "beginning", "-n", "2"]);
    assert_eq!((finished.code(), finished.stdout), (Some(0), lines(1..=2)), "{}", finished.stderr);
    assert!(finished.stderr.contains("connection lost (timeout"), "{}", finished.stderr);
}

#[test]
fn it_says_how_far_it_is_behind() {
    let fake = Fake::start(|_, _, answer| {
        let date = "Date: Wed, 15 Jan 2025 12:00:00 GMT\r\nTransfer";
        answer.bytes(STREAM.replace("Transfer", date));
        answer.chunk(&block(1).replace("2125-01-15T10:00:00.000Z", "2025-01-15T10:00:00.000Z"));
        // Not before it has looked at the first one.
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        answer.chunk(&block(2).replace("2125-01-15T10", "2025-01-15T12"));
        answer.hold();
    });
    let finished = run(&fake, &["--from", "beginning", "-n", "2"]);
    assert_eq!(
        finished.stderr,
        "lyftr: behind: the events that are printed now arrived 2 h 0 min ago\nlyftr: no longer behind\n"
    );
}

/// A number that goes up, for who counts what a fake service is asked.
fn counter() -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    (Arc::clone(&count), count)
}

#[test]
fn a_service_that_stops_and_comes_back_is_followed_on() {
    let (stopped, stop) = counter();
    let fake = Fake::start(move |request, before, answer| {
        answer.stream();
        let number = after(request);
        answer.chunk(&format!("retry: 100\n\n{}", block(number + 1)));
        if before == 0 {
            eventually("it is told to stop", || (stopped.load(SeqCst) > 0).then_some(()));
            // As at SIGTERM, in good order.
            answer.bytes("0\r\n\r\n");
        } else {
            answer.hold();
        }
    });
    let process = tail(&fake, &["--from", "beginning", "-n", "2"]).spawn();
    eventually("the first event", || (process.log_lines().len() == 1).then_some(()));
    stop.store(1, SeqCst);
    let finished = process.finish();
    assert_eq!((finished.code(), finished.stdout), (Some(0), lines(1..=2)));
    let said = "lyftr: connection lost (the service has ended the connection); trying again in ";
    assert!(finished.stderr.starts_with(said) && finished.stderr.ends_with("lyftr: connected again\n"));
}
