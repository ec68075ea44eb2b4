//! A secret in the wrong place: whatever is said about it, it is not repeated.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::{SECRETS, SETTINGS};
use crate::support::SECRET;

/// Stands in each secret, so that it is found whatever is done to the rest of it.
const MARK: &str = "s3cret";

/// Secrets as people make them: random characters, base64, words, a path, a flag, with what got into it by mistake.
fn secret() -> impl Strategy<Value = String> {
    let before =
        prop::sample::select(vec!["", "-", "--", "/", "./", "@", "http://", "whsec_", "\u{feff}", "\"", " "]);
    let after =
        prop::sample::select(vec!["", "\n", "\r\n", " ", "\"", "==", "/", "@host", "/x", ":8000", "=x", "é"]);
    (before, "[A-Za-z0-9+/_.:%-]{0,12}", "[A-Za-z0-9+/_=,-]{0,12}", after)
        .prop_map(|(before, one, two, after)| format!("{before}{one}{MARK}{two}{after}"))
}

/// Everything that the program says, run with these arguments and variables.
fn said(arguments: &[&OsStr], environment: &[(&str, &OsStr)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut variables = BTreeMap::from([("PORT", OsStr::new("0")), ("WEBHOOK_SECRET", OsStr::new(SECRET))]);
    variables.extend(environment.iter().copied());
    let output = Command::new(env!("CARGO_BIN_EXE_lyftr"))
        .args(arguments)
        .env_clear()
        .envs(variables)
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[track_caller]
fn assert_not_repeated(arguments: &[&OsStr], environment: &[(&str, &OsStr)]) {
    let said = said(arguments, environment);
    assert!(!said.is_empty(), "{arguments:?} {environment:?}: nothing is said");
    assert!(!said.to_lowercase().contains(MARK), "{arguments:?} {environment:?}:\n{said}");
}

/// Flags and arguments in the place of whose values the secret stands.
const ARGUMENTS: [&[&str]; 39] = [
    &["?"],
    &["-?"],
    &["--?"],
    &["--?=x"],
    &["--webhook-secret", "?"],
    &["--webhook-secret=?"],
    &["--read-token=?"],
    &["--read-token", "?"],
    &["--port", "?"],
    &["--port=?"],
    &["--log-level", "?"],
    &["--host", "?"],
    &["--keep-alive-secs=?"],
    &["--database-url", "?"],
    &["--port", "8000", "?"],
    &["serve", "?"],
    &["serve", "--?"],
    &["help", "?"],
    &["sign", "?"],
    &["sign", "one", "?"],
    &["send", "?"],
    &["send", "--url", "?"],
    &["send", "--url", "http://user:?@127.0.0.1:1/", "--retries=0"],
    &["send", "--url", "http://127.0.0.1:1/?", "--retries=0"],
    &["send", "--file", "?"],
    &["send", "--file", "?", "--text", "?"],
    &["send", "--connections", "?"],
    &["send", "--retries=?"],
    &["healthcheck", "--live=?"],
    &["healthcheck", "--port", "?"],
    &["healthcheck", "--host", "?"],
    &["copy", "--from", "?", "--to=?"],
    &["check", "--database-connections=?", "--database-url=?"],
    &["tail", "?"],
    &["tail", "--url", "http://user:?@127.0.0.1:1/", "--retries=0"],
    &["tail", "--url", "?", "--retries=0"],
    &["tail", "--from", "?", "--url=?", "--retries=0"],
    &["tail", "--kind", "?", "--retries=0"],
    &["tail", "--cursor", "?", "--url", "http://127.0.0.1:1", "--retries=0"],
];

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4, ..ProptestConfig::with_cases(4) })]
    #[test]
    fn a_secret_in_the_wrong_place_is_not_repeated(secret in secret()) {
        let value = OsStr::new(&secret);
        for arguments in ARGUMENTS {
            let filled: Vec<_> = arguments.iter().map(|argument| OsString::from(argument.replace('?', &secret))).collect();
            assert_not_repeated(&filled.iter().map(OsString::as_os_str).collect::<Vec<_>>(), &[]);
        }
        for name in SETTINGS {
            assert_not_repeated(&[], &[(name, value)]);
            assert_not_repeated(&["--help".as_ref()], &[(name, value)]);
        }
        for name in ["HOST", "PORT"] {
            assert_not_repeated(&["healthcheck".as_ref()], &[(name, value)]);
        }
        for name in [SECRETS.as_slice(), &["DATABASE_URL"]].concat() {
            let file = format!("{name}_FILE");
            assert_not_repeated(&[], &[("WEBHOOK_SECRET", OsStr::new("")), (file.as_str(), value)]);
            // Beside another mistake, and twice.
            assert_not_repeated(&[], &[("PORT", value), (name, value)]);
            assert_not_repeated(&[], &[(name, value), (file.as_str(), value)]);
        }
    }
}

#[test]
fn an_argument_or_setting_that_is_not_utf_8_is_named_and_not_repeated() {
    let value = OsString::from_vec([b"\xff", MARK.as_bytes()].concat());
    for name in SETTINGS {
        assert_not_repeated(&[], &[(name, &value)]);
        let said = said(&[], &[(name, &value)]);
        assert!(said.contains(&format!("not UTF-8: {name}")), "{said}");
    }
    for arguments in [&[value.as_os_str()][..], &["--port".as_ref(), &value], &["sign".as_ref(), &value]] {
        assert_not_repeated(arguments, &[]);
    }
}

#[test]
fn a_secret_as_a_flag_is_told_where_secrets_come_from() {
    for flag in ["--webhook-secret=hunter2", "--webhook-secret", "--read-token", "--secret"] {
        for command in [&[][..], &["serve"], &["sign"], &["send"]] {
            let arguments: Vec<_> = command.iter().chain([&flag, &"hunter2"]).map(OsStr::new).collect();
            let said = said(&arguments, &[]);
            assert!(said.contains("unexpected argument"), "{said}");
            assert!(said.contains("secrets come from the environment only"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}

#[test]
fn a_mistyped_flag_is_told_what_it_may_have_been() {
    let said = said(&["--prot".as_ref(), "8000".as_ref()], &[]);
    assert!(said.contains("'--port'"), "{said}");
}
