//! A mistyped URL: what it says of itself holds no piece of the password.

use crate::support::process::Process;

/// Pieces of it are longer than anything that a message says by itself.
const PASSWORD: &str = "zq1x@zq2x/zq3x?zq4x&zq5x#zq6x zq7x%zq8x:zq9x";

fn silent_about_it(said: &str, of: &str) {
    for piece in PASSWORD.split(|c: char| !c.is_ascii_alphanumeric()) {
        assert!(!said.contains(piece), "{piece} of {of}: {said}");
    }
}

#[test]
fn a_mistyped_url_is_repeated_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    for url in [
        format!("postgres://me:{PASSWORD}@127.0.0.1:1/inbox"),
        format!("postgres://me:{PASSWORD}@127.0.0.1:1"),
        format!("postgresql:/me:{PASSWORD}@127.0.0.1:1/inbox"),
        format!("me:{PASSWORD}@127.0.0.1:1/inbox"),
        format!("host=127.0.0.1 user=me password={PASSWORD}"),
        format!("postgres://me@127.0.0.1:1/inbox?password={PASSWORD}"),
        format!("sqlite:///postgres://me:{PASSWORD}@127.0.0.1:1/inbox"),
    ] {
        std::fs::write(&file, &url).unwrap();
        let path = file.to_str().unwrap();
        for builder in [
            Process::builder().env("DATABASE_URL", &url),
            Process::builder().env_remove("DATABASE_URL").env("DATABASE_URL_FILE", path),
            Process::builder().env_remove("DATABASE_URL").env("DATABASE_URL_FILE", &url),
            Process::builder().args(&["--database-url", &url]),
            Process::builder().args(&["migrate", "--database-url", &url]),
            Process::builder().args(&["copy", "--from", &url, "--to", &url]),
            Process::builder().args(&["copy"]).env("COPY_FROM", &url).env("COPY_TO", &url),
            Process::builder().env("DATABASE_URL", &url).args(&["--help"]),
            Process::builder().args(&["copy", "--help"]).env("COPY_FROM", &url).env("COPY_TO", &url),
            // Not where a URL belongs.
            Process::builder().args(&[&url]),
            Process::builder().args(&["migrate", &url]),
            Process::builder().args(&["--database_url", &url]),
            Process::builder().args(&[&format!("--database_url={url}")]),
            Process::builder().args(&["copy", &format!("--merge={url}"), "--from=a", "--to=b"]),
        ] {
            let what = format!("{builder:?}");
            let ended = builder.run();
            assert!(!ended.stderr.is_empty() || ended.code() == Some(0), "{what}");
            silent_about_it(&(ended.stdout + &ended.stderr), &what);
        }
    }
}
