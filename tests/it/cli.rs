//! The command line: what it says, what it takes, and with which exit code it ends.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::process::{Builder, Process};
use crate::support::{SECRET, message, on_sqlite};
use crate::torture::lasting_port;

mod proxy;
mod secrets;
mod sources;

const SETTINGS: [&str; 10] = [
    "DATABASE_URL",
    "DATABASE_CONNECTIONS",
    "DATABASE_TIMEOUT_SECS",
    "LOG_LEVEL",
    "HOST",
    "PORT",
    "MAX_BODY_BYTES",
    "QUEUE_MAX",
    "MAX_CONNECTIONS",
    "KEEP_ALIVE_SECS",
];
const SECRETS: [&str; 4] = ["WEBHOOK_SECRET", "WEBHOOK_SECRET_PREVIOUS", "READ_TOKEN", "ADMIN_TOKEN"];

/// Runs the program on this input and nothing else in its environment.
fn lyftr(arguments: &[&str], environment: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lyftr"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied().collect::<BTreeMap<_, _>>())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not want its input may close it at any time.
    drop(child.stdin.take().unwrap().write_all(input));
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs it with the secret of the tests; the exit code, what it printed, and what it said.
fn run(arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let output = lyftr(arguments, &[("WEBHOOK_SECRET", SECRET)], input);
    (output.status.code().unwrap(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
}

fn url(process: &Process) -> String {
    format!("http://{}", process.address())
}

#[test]
fn help_mentions_every_setting() {
    let serve = [&SETTINGS[..], &SECRETS, &["NAME_FILE"]].concat();
    for (command, names) in [
        (&["--help"][..], serve.clone()),
        (&["serve", "--help"], serve),
        (&["healthcheck", "--help"], vec!["HOST", "PORT"]),
        (&["sign", "--help"], vec!["WEBHOOK_SECRET", "NAME_FILE"]),
        (&["send", "--help"], vec!["WEBHOOK_SECRET", "NAME_FILE"]),
        (&["tail", "--help"], vec!["READ_TOKEN", "READ_TOKEN_FILE"]),
        (&["erase", "--help"], vec!["ADMIN_TOKEN", "ADMIN_TOKEN_FILE", "DATABASE_URL", "DATABASE_URL_FILE"]),
    ] {
        let (code, help, said) = run(command, b"");
        assert_eq!((code, said.as_str()), (0, ""), "{command:?}");
        for name in names {
            assert!(help.contains(name), "{command:?} does not mention {name}:\n{help}");
        }
        assert!(!help.contains(SECRET), "{command:?} shows the secret");
    }
    let (code, help, _) = run(&["--help"], b"");
    assert_eq!(code, 0);
    assert!(
        ["serve", "healthcheck", "sign", "send", "tail"].iter().all(|command| help.contains(command)),
        "{help}"
    );
    assert_eq!(
        run(&["--version"], b""),
        (0, format!("lyftr {}\n", env!("CARGO_PKG_VERSION")), String::new())
    );
}

#[test]
fn an_unknown_command_or_flag_is_an_error_of_the_caller() {
    for arguments in [
        &["unknown"][..],
        &["--unknown"],
        &["send", "--connections", "0"],
        &["sign", "one", "two"],
        &["tail", "-n", "0"],
    ] {
        assert_eq!(run(arguments, b"").0, 2, "{arguments:?}");
    }
}

#[test]
fn signs_as_github_publishes() {
    const SIGNATURE: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\n";
    let folder = tempfile::tempdir().unwrap();
    let (body, secret) = (folder.path().join("body"), folder.path().join("secret"));
    std::fs::write(&body, "Hello, World!").unwrap();
    std::fs::write(&secret, "It's a Secret to Everybody\n").unwrap();
    let by_value = ("WEBHOOK_SECRET", "It's a Secret to Everybody");
    let by_file = ("WEBHOOK_SECRET_FILE", secret.to_str().unwrap());
    for environment in [by_value, by_file] {
        for (arguments, input) in [
            (&["sign"][..], "Hello, World!"),
            (&["sign", "-"], "Hello, World!"),
            (&["sign", body.to_str().unwrap()], "not this"),
        ] {
            let output = lyftr(arguments, &[environment], input.as_bytes());
            assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), SIGNATURE), "{output:?}");
        }
    }
    // Every byte counts.
    let output = lyftr(&["sign"], &[by_value], b"Hello, World!\n");
    assert_ne!(text(&output.stdout), SIGNATURE);
}

#[test]
fn signing_says_what_it_lacks() {
    let output = lyftr(&["sign"], &[], b"body");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(text(&output.stderr).contains("WEBHOOK_SECRET is not set"), "{output:?}");
    let (code, printed, said) = run(&["sign", "/no/such/file"], b"");
    assert_eq!((code, printed.as_str()), (1, ""));
    assert!(said.contains("cannot read FILE") && !said.contains("/no/such/file"), "{said}");
}

#[test]
fn sends_one_message() {
    let process = Process::start();
    let url = url(&process);
    let flags = [
        "--message-id",
        "m1",
        "--from",
        "+12",
        "--to",
        "+34",
        "--ts",
        "2025-01-15T10:00:00.5Z",
        "--text",
        "Hé \"1\"",
    ];
    let (code, printed, _) = run(&[&["send", "--url", &url], &flags[..]].concat(), b"");
    assert_eq!((code, printed.as_str()), (0, "200 {\"status\":\"ok\"}\n"));
    let mut client = process.client();
    let expected =
        r#"{"message_id":"m1","from":"+12","to":"+34","ts":"2025-01-15T10:00:00.5Z","text":"Hé \"1\""}"#;
    assert!(client.get("/messages").text().contains(expected), "{}", client.get("/messages").text());

    // All defaults: a new message each time, without a text.
    for total in [2, 3] {
        let (code, _, said) = run(&["send", "--url", &format!("{url}/")], b"");
        assert_eq!(code, 0, "{said}");
        assert!(said.starts_with("message_id "), "{said}");
        assert_eq!(client.json("/messages")["total"], total);
    }
    assert_eq!(client.json("/messages?offset=2")["data"][0]["text"], Value::Null);
}

#[test]
fn a_message_that_is_refused_is_a_failure() {
    let process = Process::start();
    let (code, printed, _) = run(&["send", "--url", &url(&process), "--from", "12"], b"");
    assert_eq!(code, 1);
    assert!(printed.starts_with("422 {\"detail\":[{"), "{printed}");
    let other = lyftr(&["send", "--url", &url(&process)], &[("WEBHOOK_SECRET", "another")], b"");
    assert_eq!(
        (other.status.code(), text(&other.stdout)),
        (Some(1), "401 {\"detail\":\"invalid signature\"}\n")
    );
    assert_eq!(process.client().json("/messages")["total"], 0);
}

#[test]
fn sends_the_lines_of_a_file_and_names_those_that_are_refused() {
    let mut lines: Vec<String> = (0..50).map(|n| message(&format!("m{n}")).to_string()).collect();
    lines.insert(3, "not JSON".to_owned());
    lines.insert(20, String::new());
    lines.insert(40, message("").to_string());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    std::fs::write(&file, lines.join("\n")).unwrap();
    for source in [file.to_str().unwrap(), "-"] {
        let process = Process::start();
        let arguments = ["send", "--url", &url(&process), "--file", source, "--connections", "3"];
        let (code, printed, said) = run(&arguments, lines.join("\n").as_bytes());
        assert_eq!((code, printed.as_str()), (1, "50 accepted, 2 refused\n"));
        // As an editor counts them.
        let mut refused: Vec<_> = said.lines().map(|line| line.split(" {").next().unwrap()).collect();
        refused.sort_unstable();
        assert_eq!(refused, ["line 41: 422", "line 4: 422"], "{said}");
        assert_eq!(process.client().json("/messages?limit=1")["total"], 50);

        let good = message("another").to_string();
        let arguments = ["send", "--url", &url(&process), "--file", "-"];
        assert_eq!(
            run(&arguments, good.as_bytes()),
            (0, "1 accepted, 0 refused\n".to_owned(), String::new())
        );
    }
}

#[test]
fn sending_says_what_is_wrong() {
    let (code, printed, said) = run(&["send", "--file", "/no/such/file"], b"");
    assert_eq!((code, printed.as_str()), (1, ""));
    assert!(said.contains("cannot read what --file names") && !said.contains("/no/such/file"), "{said}");
    let nobody = format!("http://127.0.0.1:{}", lasting_port());
    let (code, printed, said) = run(&["send", "--url", &nobody, "--retries", "1"], b"");
    assert_eq!((code, printed.as_str()), (1, ""));
    assert!(said.contains("does not answer"), "{said}");
    let (code, _, said) = run(&["send", "--file", "lines", "--text", "one"], b"");
    assert_eq!(code, 2);
    assert!(said.contains("cannot be used with"), "{said}");
}

#[test]
fn sending_tries_again_until_the_service_is_there() {
    let port = lasting_port().to_string();
    let address = format!("http://127.0.0.1:{port}");
    let sender = std::thread::spawn(move || {
        run(&["send", "--url", &address, "--message-id", "m", "--retries", "7"], b"")
    });
    // Long enough that the first try has failed, in all likelihood; the test holds in any case.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let process = Process::builder().env("PORT", &port).start();
    assert_eq!(
        sender.join().unwrap(),
        (0, "200 {\"status\":\"ok\"}\n".to_owned(), "message_id m\n".to_owned())
    );
    assert_eq!(process.client().json("/messages")["total"], 1);
}

#[test]
fn healthcheck_tells_by_its_exit_code() {
    let process = Process::start();
    let port = process.address().port().to_string();
    let check = |environment: &[(&str, &str)], arguments: &[&str]| {
        let output = lyftr(&[&["healthcheck"], arguments].concat(), environment, b"");
        (output.status.code().unwrap(), text(&output.stdout).trim().to_owned())
    };
    let ready = (0, r#"{"status":"ready"}"#.to_owned());
    assert_eq!(check(&[], &["--port", &port]), ready);
    // As in a container, where the address to listen on is "all".
    assert_eq!(check(&[("HOST", "0.0.0.0"), ("PORT", &port)], &[]), ready);
    process.break_store();
    let (code, printed) = check(&[("PORT", &port)], &[]);
    assert_eq!(code, 1);
    assert!(printed.contains("not_ready"), "{printed}");
    assert_eq!(check(&[("PORT", &port)], &["--live"]), (0, r#"{"status":"ok"}"#.to_owned()));
    drop(process);
    assert_eq!(check(&[("PORT", &port)], &[]).0, 1);
    assert_eq!(check(&[("PORT", &port)], &["--live"]).0, 1);
}

fn with_secret_file(path: &Path) -> Builder {
    Process::builder().env_remove("WEBHOOK_SECRET").env("WEBHOOK_SECRET_FILE", path.to_str().unwrap())
}

#[test]
fn the_secret_may_come_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let process = with_secret_file(&path).start();
    process.client().store(&message("m"));

    let finished = with_secret_file(&path).env("WEBHOOK_SECRET", SECRET).run();
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(2), ""));
    assert!(finished.stderr.contains("WEBHOOK_SECRET and WEBHOOK_SECRET_FILE are both set"), "{finished:?}");
    assert!(!finished.stderr.contains(SECRET), "the secret is said aloud");

    std::fs::write(&path, "\n").unwrap();
    let finished = with_secret_file(&path).run();
    assert_eq!(finished.code(), Some(2), "{finished:?}");
    assert!(finished.stderr.contains("is empty"), "{finished:?}");
}

#[test]
fn wrong_settings_are_all_reported_at_once() {
    let wrong = [
        ("DATABASE_URL", "mysql://user:hunter2@host/x"),
        ("LOG_LEVEL", "LOUD"),
        ("PORT", "65536"),
        ("MAX_BODY_BYTES", "0"),
        ("QUEUE_MAX", "many"),
        ("MAX_CONNECTIONS", "-1"),
        ("KEEP_ALIVE_SECS", "75 "),
        ("READ_TOKEN_FILE", "/no/such/file"),
    ];
    let builder = wrong.iter().fold(Process::builder(), |builder, (name, value)| builder.env(name, value));
    let finished = builder.env_remove("WEBHOOK_SECRET").env("HOST", "").run();
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(2), ""), "{finished:?}");
    for name in wrong.iter().map(|(name, _)| *name).chain(["WEBHOOK_SECRET", "HOST"]) {
        assert!(finished.stderr.contains(name), "{name} is not named:\n{}", finished.stderr);
    }
    assert!(!finished.stderr.contains("hunter2"), "a password is said aloud");
    assert!(finished.stderr.contains("no blank or line end around it"), "{}", finished.stderr);
}

#[test]
fn flags_and_the_environment_say_the_same_and_flags_win() {
    let folder = tempfile::tempdir().unwrap();
    let builder = || Process::builder().folder(folder.path()).env("DATABASE_URL", "sqlite:///environment.db");
    drop(builder().start());
    assert!(folder.path().join("environment.db").exists());
    let process =
        builder().args(&["serve", "--database-url", "sqlite:///flag.db", "--log-level", "debug"]).start();
    assert!(folder.path().join("flag.db").exists());
    process.client().store(&message("m"));
    drop(builder().args(&["--database-url=sqlite:///no-command.db"]).start());
    assert!(folder.path().join("no-command.db").exists());
}

#[test]
fn a_second_process_on_the_same_database_ends_and_the_first_goes_on() {
    if !on_sqlite() {
        return;
    }
    let mut first = Process::start();
    let mut client = first.client();
    client.store(&message("before"));
    for _ in 0..2 {
        let second = Process::builder().folder(first.folder()).run();
        assert_eq!(second.code(), Some(1), "{second:?}");
        let last: Value = serde_json::from_str(second.stdout.lines().last().unwrap()).unwrap();
        let error = last["error"].as_str().unwrap();
        let expected = format!("another process ({}) has the database app.db open", first.id());
        assert!(error.contains(&expected), "{error}");
        client.store(&message(&format!("after {}", second.status)));
        assert_eq!(client.get("/health/ready").status, 200);
    }
    assert_eq!(client.json("/messages")["total"], 2);
    // By another way to the same file.
    std::os::unix::fs::symlink(first.database(), first.folder().join("link.db")).unwrap();
    let by_link = Process::builder().folder(first.folder()).env("DATABASE_URL", "sqlite:///link.db");
    assert_eq!(by_link.clone().run().code(), Some(1), "by a link");
    // A lock that was left behind by a process that is gone holds nobody up.
    first.kill9();
    let third = Process::builder().folder(first.folder()).start();
    assert_eq!(third.client().json("/messages")["total"], 2);
}
