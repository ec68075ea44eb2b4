//! `lyftr send`: signs messages and posts them: one from command-line options, or many from the lines of a file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::target::Target;
use super::{Failure, print, say, signing_key};
use crate::clock;
use crate::config::Environment;
use crate::signature::Key;

/// Maximum time for one request.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Pause before the second try; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// What `--url` should look like.
const FORM: &str = "--url should look like http://127.0.0.1:8000 or https://example.org/webhook";
/// Maximum number of refused messages that are reported one by one.
const REFUSALS_SHOWN_MAX: u64 = 20;

/// Command-line options.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// URL of the service; /webhook is added if it has no path. A proxy of the environment (`HTTPS_PROXY` and so on, with
    /// `NO_PROXY`) is used unless the URL is on this machine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
    url: String,
    /// File with a message on each line, as a JSON object; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["message_id", "from", "to", "ts", "text"])]
    file: Option<PathBuf>,
    /// Id of the message [default: made from the time]
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// Name number of the sender
    #[arg(long, value_name = "NUMBER", default_value = "+919876543210")]
    from: String,
    /// Name number of the recipient
    #[arg(long, value_name = "NUMBER", default_value = "+14155550100")]
    to: String,
    /// Time of the message, for example 2025-01-15T10:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    ts: Option<String>,
    /// Text of the message [default: none]
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Number of messages sent at once, with --file
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..))]
    connections: u8,
    /// Number of retries if the service is unreachable or answers 503; a message is stored once however often it is sent
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    retries: u32,
}

pub(super) fn run(options: &Options, environment: Environment) -> Result<ExitCode, Failure> {
    let target = Target::parse(&webhook_url(&options.url), FORM)?;
    let sender = Sender {
        key: signing_key(environment)?,
        agent: target.config().timeout_global(Some(TIMEOUT)).build().into(),
        target,
        retries: options.retries,
    };
    match &options.file {
        None => send_one(&sender, options),
        Some(path) if path.as_os_str() == "-" => send_lines(&sender, options, std::io::stdin().lock(), None),
        Some(path) => {
            let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
            let (bytes, file) = opened.map_err(|error| format!("cannot read what --file names: {error}"))?;
            send_lines(&sender, options, BufReader::new(file), Some(bytes))
        }
    }
}

fn send_one(sender: &Sender, options: &Options) -> Result<ExitCode, Failure> {
    let now = clock::now();
    let message_id = options.message_id.clone().unwrap_or_else(|| format!("m-{}", now.as_nanosecond()));
    let ts = options.ts.clone().unwrap_or_else(|| format!("{now:.3}"));
    // Without --text the body has no text. The keys stand in the order of the contract.
    let mut body =
        serde_json::json!({ "message_id": message_id, "from": options.from, "to": options.to, "ts": ts });
    if let (Some(text), Some(object)) = (&options.text, body.as_object_mut()) {
        object.insert("text".to_owned(), text.as_str().into());
    }
    let reply = sender.send(body.to_string().as_bytes())?;
    print(&format!("{} {}", reply.status, reply.body));
    if !reply.accepted() {
        return Ok(ExitCode::FAILURE);
    }
    say(&format!("message_id {message_id}"));
    Ok(ExitCode::SUCCESS)
}

/// The lines that wait for a sending thread, with their numbers.
type Lines = Mutex<Receiver<(u64, Vec<u8>)>>;

#[derive(Default)]
struct Count {
    accepted: AtomicU64,
    refused: AtomicU64,
}

fn send_lines(
    sender: &Sender,
    options: &Options,
    input: impl BufRead,
    bytes: Option<u64>,
) -> Result<ExitCode, Failure> {
    let bar = progress_bar(bytes);
    let count = Count::default();
    let (line_in, line_out) = sync_channel(usize::from(options.connections));
    let lines = Mutex::new(line_out);
    let read = std::thread::scope(|scope| {
        for _ in 0..options.connections {
            scope.spawn(|| send_waiting(sender, &lines, &count, &bar));
        }
        for (number, line) in (1..).zip(input.split(b'\n')) {
            let line = line?;
            bar.inc(u64::try_from(line.len() + 1).unwrap_or_default());
            if !line.trim_ascii().is_empty() && line_in.send((number, line)).is_err() {
                break;
            }
        }
        drop(line_in);
        Ok::<_, std::io::Error>(())
    });
    bar.finish_and_clear();
    let (accepted, refused) = (count.accepted.into_inner(), count.refused.into_inner());
    print(&format!("{accepted} accepted, {refused} refused"));
    read.map_err(|error| format!("cannot read further: {error}"))?;
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn send_waiting(sender: &Sender, lines: &Lines, count: &Count, bar: &ProgressBar) {
    loop {
        let next = lines.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, line)) = next else { break };
        let refusal = match sender.send(&line) {
            Ok(reply) if reply.accepted() => {
                let accepted = count.accepted.fetch_add(1, Relaxed) + 1;
                bar.set_message(format!("{accepted} accepted, {} refused", count.refused.load(Relaxed)));
                continue;
            }
            Ok(reply) => format!("line {number}: {} {}", reply.status, reply.body),
            Err(failure) => format!("line {number}: {failure}"),
        };
        match count.refused.fetch_add(1, Relaxed) {
            shown if shown < REFUSALS_SHOWN_MAX => bar.suspend(|| say(&refusal)),
            REFUSALS_SHOWN_MAX => bar.suspend(|| say("further refusals are only counted")),
            _ => {}
        }
    }
}

/// A progress bar on standard error, which is visible on a terminal only.
fn progress_bar(bytes: Option<u64>) -> ProgressBar {
    let template = match bytes {
        Some(_) => "{bar:30} {percent:>3} %  {msg}  {elapsed} ({eta} left)",
        None => "{spinner} {msg}  {elapsed}",
    };
    let bar = bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn webhook_url(given: &str) -> String {
    let after_scheme = given.split_once("://").map_or(given, |(_, rest)| rest);
    match after_scheme.split_once('/') {
        None => format!("{given}/webhook"),
        Some((_, "")) => format!("{given}webhook"),
        Some(_) => given.to_owned(),
    }
}

struct Sender {
    key: Key,
    target: Target,
    retries: u32,
    agent: ureq::Agent,
}

struct Reply {
    status: u16,
    body: String,
}

impl Reply {
    fn accepted(&self) -> bool {
        self.status == 200
    }
}

impl Sender {
    /// Posts a body, with retries while they may help.
    fn send(&self, body: &[u8]) -> Result<Reply, Failure> {
        let signature = self.key.sign(body);
        let mut pause = FIRST_PAUSE;
        let mut tries_left = self.retries;
        loop {
            let result = self.try_once(body, &signature);
            let may_help = result.as_ref().map_or(true, |reply| reply.status == 503);
            if !may_help || tries_left == 0 {
                return result
                    .map_err(|error| format!("the service at --url does not answer: {error}").into());
            }
            tries_left -= 1;
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    fn try_once(&self, body: &[u8], signature: &str) -> Result<Reply, ureq::Error> {
        let request = self.agent.post(&self.target.url).header("Content-Type", "application/json");
        let mut response = request.header("X-Signature", signature).send(body)?;
        Ok(Reply { status: response.status().as_u16(), body: response.body_mut().read_to_string()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_where_none_is_given() {
        for (given, url) in [
            ("http://localhost:8000", "http://localhost:8000/webhook"),
            ("http://localhost:8000/", "http://localhost:8000/webhook"),
            ("https://example.org/in/webhook", "https://example.org/in/webhook"),
        ] {
            assert_eq!(webhook_url(given), url);
        }
    }
}
