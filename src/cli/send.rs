//! `lyftr send`: signs messages and posts them: one from command-line options, or many from the lines of a file.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use ureq::http::Uri;

use super::{Failure, print, say, signing_key};
use crate::clock;
use crate::config::Environment;
use crate::signature::Key;

/// Maximum time for one request.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Pause before the second try; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
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
    /// Phone number of the sender
    #[arg(long, value_name = "NUMBER", default_value = "+919876543210")]
    from: String,
    /// Phone number of the recipient
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
    let target = Target::parse(&options.url)?;
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        // A redirect would post the message elsewhere, or turn the POST into a GET.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(TIMEOUT));
    let config = if target.is_local { config.proxy(None) } else { config };
    let sender = Sender {
        key: signing_key(environment)?,
        target,
        retries: options.retries,
        agent: config.build().into(),
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

/// The address of the service.
struct Target {
    url: Uri,
    /// Whether it is on this machine, so that no proxy leads there.
    is_local: bool,
}

impl Target {
    /// Checks a URL.
    ///
    /// # Errors
    /// In words and without the URL, which may hold a password.
    fn parse(given: &str) -> Result<Self, &'static str> {
        const FORM: &str = "--url should look like http://127.0.0.1:8000 or https://example.org/webhook";
        let url: Uri = webhook_url(given).parse().map_err(|_| FORM)?;
        let (Some("http" | "https"), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(FORM);
        };
        let host = authority.host();
        if host.is_empty() || (authority.port_u16().is_none() && !authority.as_str().ends_with(host)) {
            return Err(FORM);
        }
        let is_local = is_local(host);
        Ok(Self { url, is_local })
    }
}

/// Whether a host is this machine: a loopback address, or the unspecified address.
fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    match address.map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback() || address.is_unspecified(),
        Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    }
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
    #[test]
    fn no_proxy_leads_to_this_machine() {
        for here in [
            "127.0.0.1",
            "127.255.1.2",
            "[::1]",
            "localhost",
            "LocalHost.",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
            "[::]",
        ] {
            assert!(
                Target::parse(&format!("http://{here}:8000")).is_ok_and(|target| target.is_local),
                "{here}"
            );
        }
        for elsewhere in ["10.0.0.1", "[fe80::1]", "localhost.example", "api", "128.0.0.1"] {
            assert!(
                Target::parse(&format!("https://{elsewhere}/x")).is_ok_and(|target| !target.is_local),
                "{elsewhere}"
            );
        }
    }

    #[test]
    fn what_is_no_url_is_told_without_it() {
        for bad in [
            "",
            "hunter2",
            "hunter2:8000",
            "ftp://hunter2",
            "http://",
            "http://hunter2:port/",
            "http:// hunter2",
        ] {
            let why = Target::parse(bad).map(|target| target.url).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
        for good in ["http://a", "http://a:80", "https://user:hunter2@example.org/x?y", "http://[::1]:8000"] {
            assert!(Target::parse(good).is_ok(), "{good}");
        }
    }
}
