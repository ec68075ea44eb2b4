//! `lyftr export`, in front of a service, and in front of one that is nothing but its answers.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{exported, filled, store_large};
use crate::support::chunked::Chunked;
use crate::support::eventually;
use crate::support::fake::{Answer, Fake};
use crate::support::names;
use crate::support::process::{Builder, Finished, Process, Said};
use crate::support::service::Service;

/// `lyftr export` with the URL and these arguments, in this folder.
fn export(url: &str, folder: &Path, arguments: &[&str]) -> Builder {
    // Nothing in the environment, and no database.
    let builder =
        Process::builder().env_remove("DATABASE_URL").env_remove("WEBHOOK_SECRET").env_remove("PORT");
    builder.folder(folder).args(&[&["export", "--url", url], arguments].concat())
}

fn run(url: &str, folder: &Path, arguments: &[&str]) -> Finished {
    export(url, folder, arguments).run()
}

fn url(service: &Service) -> String {
    format!("http://{}", service.address())
}

/// A screen whose lines end where they are drawn anew.
struct Lines(File);

impl Read for Lines {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let count = self.0.read(bytes)?;
        bytes[..count].iter_mut().filter(|byte| **byte == b'\r').for_each(|byte| *byte = b'\n');
        Ok(count)
    }
}

/// Begins an export of these lines.
fn begin(answer: &mut Answer, media: &str) {
    answer.bytes(format!("HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nTransfer-Encoding: chunked\r\n\r\n"));
}

/// A service that answers with a whole export of one line.
fn one_line() -> Fake {
    Fake::start(|request, _, answer| {
        begin(answer, request.header("accept").unwrap());
        answer.chunk("{}\n");
        answer.bytes("0\r\n\r\n");
    })
}

#[test]
fn a_file_has_what_the_service_answers_and_gets_its_name_at_the_end() {
    let service = filled();
    let folder = tempfile::tempdir().unwrap();
    for (what, count) in [("messages", 3_000), ("events", 3_000)] {
        for format in ["ndjson", "csv"] {
            let target = format!("/{what}?format={format}");
            let whole = Chunked::open(service.address(), &target, &[]).whole().body;
            let file = format!("{what}.{format}");
            let finished = run(&url(&service), folder.path(), &[what, "--format", format, "-o", &file]);
            assert_eq!(finished.code(), Some(0), "{}", finished.stderr);
            assert_eq!(finished.stdout, format!("{file}: {count} {what}, {} bytes\n", whole.len()));
            assert_eq!(finished.stderr, "", "no progress bar on a pipe");
            let path = folder.path().join(&file);
            assert!(std::fs::read(&path).unwrap() == whole, "{file}");
            assert_eq!(
                path.metadata().unwrap().permissions().mode() & 0o777,
                0o600,
                "nobody else may read it"
            );
        }
    }
    assert_eq!(
        names(folder.path(), ""),
        ["events.csv", "events.ndjson", "messages.csv", "messages.ndjson"],
        "nothing else is left"
    );
}

#[test]
fn without_a_file_the_lines_are_printed() {
    let service = filled();
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["messages", "--output", "-", "--format", "ndjson"]] {
        let finished = run(&url(&service), folder.path(), arguments);
        assert_eq!((finished.code(), &*finished.stderr), (Some(0), ""));
        let lines: Vec<serde_json::Value> =
            finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines == exported(&service, "/messages"));
    }
    assert_eq!(names(folder.path(), ""), [""; 0]);
}

#[test]
fn filters_go_to_the_service() {
    let folder = tempfile::tempdir().unwrap();
    let fake = one_line();
    let both = ["--source", "shop-wa", "--sender", "+1 é", "--recipient", "+2", "--limit", "5000"];
    let of_messages =
        ["--search", "a&b", "--since", "2025-01-15T10:00:00Z", "--until", "2025-01-16T10:00:00Z"];
    let finished = run(&fake.url(), folder.path(), &[&both[..], &of_messages].concat());
    assert_eq!((finished.code(), &*finished.stdout), (Some(0), "{}\n"), "{}", finished.stderr);
    let of_events = ["events", "--format", "csv", "--kind", "status", "--thread", "t", "--ref", "r#"];
    let finished = run(&format!("{}/in/", fake.url()), folder.path(), &[&of_events[..], &both].concat());
    assert_eq!((finished.code(), &*finished.stdout), (Some(0), "{}\n"), "{}", finished.stderr);
    let requests = fake.requests();
    let targets: Vec<_> = requests.iter().map(|request| &*request.target).collect();
    let both = "source=shop%2Dwa&from=%2B1%20%C3%A9&to=%2B2";
    let since = "since=2025%2D01%2D15T10%3A00%3A00Z&until=2025%2D01%2D16T10%3A00%3A00Z";
    assert_eq!(
        targets,
        [
            format!("/messages?{both}&q=a%26b&{since}&limit=5000"),
            format!("/in/events?{}&thread=t&ref=r%23&limit=5000", both.replace("&from", "&kind=status&from")),
        ]
    );
    let accepted: Vec<_> = requests.iter().map(|request| request.header("accept")).collect();
    assert_eq!(accepted, [Some("application/x-ndjson"), Some("text/csv")]);
    assert!(requests.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn the_read_token_is_that_of_the_environment() {
    let service = Service::builder().read_token("a-token-for-reading").start();
    let folder = tempfile::tempdir().unwrap();
    let finished = run(&url(&service), folder.path(), &["-o", "file"]);
    assert_eq!(finished.code(), Some(1));
    assert!(finished.stderr.contains("set READ_TOKEN, or READ_TOKEN_FILE"), "{}", finished.stderr);
    assert_eq!(names(folder.path(), ""), [""; 0]);
    let right =
        export(&url(&service), folder.path(), &["-o", "file"]).env("READ_TOKEN", "a-token-for-reading");
    let finished = right.run();
    assert_eq!(
        (finished.code(), &*finished.stdout),
        (Some(0), "file: 0 messages, 0 bytes\n"),
        "{}",
        finished.stderr
    );
}

#[test]
fn a_file_that_exists_is_replaced_only_if_that_is_wanted() {
    let folder = tempfile::tempdir().unwrap();
    let fake = one_line();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("file"), "mine").unwrap();
    let finished = run(&fake.url(), folder.path(), &["--output", "file"]);
    assert_eq!(finished.code(), Some(1));
    assert_eq!(finished.stderr, "lyftr: file exists; give another name, or --force to replace it\n");
    assert_eq!(std::fs::read_to_string(path("file")).unwrap(), "mine");
    assert!(fake.requests().is_empty(), "nobody is asked in vain");
    let finished = run(&fake.url(), folder.path(), &["--output", "file", "--force"]);
    assert_eq!(
        (finished.code(), &*finished.stdout),
        (Some(0), "file: 1 messages, 3 bytes\n"),
        "{}",
        finished.stderr
    );
    assert_eq!(std::fs::read_to_string(path("file")).unwrap(), "{}\n");
    // What is no file is not replaced by one.
    std::fs::create_dir(path("folder")).unwrap();
    symlink("file", path("link")).unwrap();
    for name in ["folder", "link"] {
        let finished = run(&fake.url(), folder.path(), &["--output", name, "--force"]);
        assert_eq!(finished.code(), Some(1));
        assert!(finished.stderr.contains("is no file that could be replaced"), "{}", finished.stderr);
    }
    let finished = run(&fake.url(), folder.path(), &["--output", "none/file"]);
    assert!(finished.stderr.contains("its folder must be there"), "{}", finished.stderr);
    assert_eq!(names(folder.path(), ""), ["file", "folder", "link"]);
}

#[test]
fn an_incomplete_answer_makes_no_file_and_says_how_far_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start(|request, before, answer| {
        begin(answer, request.header("accept").unwrap());
        answer.chunk("a\n\"b\nb\"\n");
        match before {
            // Between two chunks, and within one.
            0 | 2 => {}
            _ => drop(answer.bytes("10\r\nccc\n")),
        }
    });
    std::fs::write(folder.path().join("old"), "mine").unwrap();
    for (arguments, count) in [
        (&["--output", "new"][..], "3 messages"),
        (&["--output", "new", "--format", "csv"], "2 messages"),
        (&["--output", "old", "--force"], "3 messages"),
        (&["events", "--output", "new"], "3 events"),
    ] {
        let finished = run(&fake.url(), folder.path(), arguments);
        assert_eq!((finished.code(), &*finished.stdout), (Some(1), ""), "{arguments:?}");
        let begin = format!("lyftr: the export broke off after {count}: ");
        assert!(finished.stderr.starts_with(&begin), "{}", finished.stderr);
        assert!(finished.stderr.ends_with("was not written\n"), "{}", finished.stderr);
        assert_eq!(names(folder.path(), ""), ["old"], "{arguments:?}");
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("old")).unwrap(), "mine");
    let finished = run(&fake.url(), folder.path(), &[]);
    assert_eq!((finished.code(), &*finished.stdout), (Some(1), "a\n\"b\nb\"\nccc\n"));
    assert!(finished.stderr.ends_with("; what was printed is not all\n"), "{}", finished.stderr);
}

#[test]
fn a_service_that_gives_no_export_is_told_from_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start();
    for (arguments, code, why) in [
        (
            &["--since", "yesterday"][..],
            2,
            "lyftr: the service refuses this: since: Input should be a real date",
        ),
        (&["--kind", "status"], 2, "lyftr cannot export:\n--kind is for events, not for messages"),
        (&["--source", "webhook", "--key", "m1"], 2, "--key is for events, not for messages"),
        (&["events", "--search", "a", "--since", "b"], 2, "--since is for messages, not for events"),
        (&["--url", "nowhere", "--thread", "a"], 2, "--url should look like"),
        (&["--limit", "0"], 2, "--limit"),
        (&["--format", "xlsx"], 2, "for '--format <FORMAT>'"),
        (&["other"], 2, "for '[WHAT]'"),
    ] {
        let url = url(&service);
        let given =
            if arguments.contains(&"--url") { arguments } else { &[&["--url", &url], arguments].concat() };
        let command = Process::builder().env_remove("DATABASE_URL").folder(folder.path()).args(&["export"]);
        let finished = command.args(given).run();
        assert_eq!(
            (finished.code(), &*finished.stdout),
            (Some(code), ""),
            "{arguments:?} {}",
            finished.stderr
        );
        assert!(finished.stderr.contains(why), "{arguments:?} {}", finished.stderr);
    }
    for (status, why) in [
        (200, "lyftr: what --url names exports nothing"),
        (404, "lyftr: the service answers 404 no"),
        (503, "lyftr: the service answers 503 no"),
    ] {
        let fake = Fake::start(move |_, _, answer| answer.json(status, "", r#"{"detail":"no"}"#));
        let finished = run(&fake.url(), folder.path(), &["-o", "file"]);
        assert_eq!(finished.code(), Some(1), "{status}");
        assert!(finished.stderr.starts_with(why), "{}", finished.stderr);
    }
    let finished = run("http://127.0.0.1:1", folder.path(), &["-o", "file"]);
    assert_eq!(finished.code(), Some(1));
    assert!(
        finished.stderr.starts_with("lyftr: the service at --url does not answer: "),
        "{}",
        finished.stderr
    );
    assert_eq!(names(folder.path(), ""), [""; 0]);
}

#[test]
fn a_reader_that_is_gone_is_no_failure() {
    let service = filled();
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let finished = export(&url(&service), folder.path(), &[]).stdout(writer).run();
    assert_eq!((finished.code(), &*finished.stderr), (Some(0), ""));
    // Also while nothing comes.
    let silent = Fake::start(|request, _, answer| {
        begin(answer, request.header("accept").unwrap());
        answer.hold();
    });
    let (reader, writer) = std::io::pipe().unwrap();
    let process = export(&silent.url(), folder.path(), &[]).stdout(writer).spawn();
    eventually("it asks", || (!silent.requests().is_empty()).then_some(()));
    drop(reader);
    let finished = process.finish();
    assert_eq!((finished.code(), &*finished.stderr), (Some(0), ""));
}

#[test]
fn a_signal_ends_it_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let silent = Fake::start(|request, _, answer| {
        begin(answer, request.header("accept").unwrap());
        answer.chunk("{}\n{}\n");
        answer.hold();
    });
    for signal in [Signal::TERM, Signal::INT] {
        let process = export(&silent.url(), folder.path(), &["-o", "file"]).spawn();
        let partial = folder.path().join("file.partial");
        eventually("lines have come", || {
            partial.metadata().is_ok_and(|partial| partial.len() == 6).then_some(())
        });
        let finished = run(&silent.url(), folder.path(), &["-o", "file"]);
        assert_eq!(finished.stderr, "lyftr: another process is writing file\n");
        process.signal(signal);
        let finished = process.finish();
        assert_eq!(finished.code(), Some(1));
        assert_eq!(
            finished.stderr,
            "lyftr: the export was interrupted after 2 messages; file was not written\n"
        );
        assert_eq!(names(folder.path(), ""), [""; 0]);
    }
    // While a reader makes no room.
    let service = Service::start();
    store_large(&service);
    let (reader, writer) = std::io::pipe().unwrap();
    let process = export(&url(&service), folder.path(), &["events"]).stdout(writer).spawn();
    eventually("it waits", || (rustix::io::ioctl_fionread(&reader).unwrap() > 0).then_some(()));
    process.signal(Signal::TERM);
    let finished = process.finish();
    assert_eq!(finished.code(), Some(1));
    assert!(finished.stderr.ends_with("; what was printed is not all\n"), "{}", finished.stderr);
}

#[test]
fn what_a_killed_export_has_left_hinders_no_other() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file.partial"), "much longer than what comes").unwrap();
    let finished = run(&one_line().url(), folder.path(), &["-o", "file"]);
    assert_eq!(finished.stdout, "file: 1 messages, 3 bytes\n", "{}", finished.stderr);
    assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "{}\n");
    assert_eq!(names(folder.path(), ""), ["file"]);
}

#[test]
fn a_terminal_shows_the_progress() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, seen) in [
        (&["-o", "a"][..], ["2 messages", "67 %"]),
        (&["-o", "b", "--limit", "2"], ["2 messages", "100 %"]),
        (&["events", "-o", "c"], ["2 events", ""]),
    ] {
        let (go_on, waits) = std::sync::mpsc::sync_channel(1);
        let waits = std::sync::Mutex::new(waits);
        let fake = Fake::start(move |request, _, answer| {
            if request.header("accept") == Some("application/json") {
                assert_eq!(request.parameter("limit"), Some("1"));
                return answer.json(
                    200,
                    "",
                    r#"{"data":[],"total":3,"limit":1,"offset":0,"next":null,"prev":null}"#,
                );
            }
            begin(answer, request.header("accept").unwrap());
            answer.chunk("{}\n{}\n");
            waits.lock().unwrap().recv().unwrap();
            answer.bytes("0\r\n\r\n");
        });
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        tcsetwinsize(&screen, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let terminal = ptsname(&screen, Vec::new()).unwrap().into_string().unwrap();
        let redirected = ["sh", "-c", "exec \"$0\" \"$@\" 2>\"$SCREEN\""].map(ToOwned::to_owned);
        let command =
            export(&fake.url(), folder.path(), arguments).env("SCREEN", &terminal).env("TERM", "xterm");
        let process = command.under(redirected.into_iter()).spawn();
        let shown = Said::default();
        let reading = shown.collect(Lines(File::from(screen)));
        eventually("the bar is there", || {
            let shown = shown.text();
            seen.iter().all(|part| shown.contains(part)).then_some(())
        });
        go_on.send(()).unwrap();
        assert_eq!(process.finish().code(), Some(0), "{}", shown.text());
        reading.join().unwrap();
    }
}
