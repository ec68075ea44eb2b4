//! `lyftr send`: signs messages and posts them: one from command-line options, or many from the lines of a file; or one delivery
//! of a provider, signed as the provider would.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use indicatif::{ProgressBar, ProgressStyle};

use super::target::Target;
use super::{Failure, invalid_settings, print, say, signing_key, sources};
use crate::clock;
use crate::config::{Environment, SourcesArgs};
use crate::signature::Key;
use crate::source::{Delivery, Provider, Request, Sample};

/// Maximum time for one request.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Pause before the second try; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Maximum length of the id of a delivery.
const ID_MAX: usize = 100;
/// What `--url` should look like.
const FORM: &str = "--url should look like http://127.0.0.1:8000 or https://example.org/webhook";
/// Maximum number of refused messages that are reported one by one.
const REFUSALS_SHOWN_MAX: u64 = 20;

/// Command-line options.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// URL of the service; /webhook, or /webhook/NAME with --source, is added if it has no path. A proxy of the environment
    /// (`HTTPS_PROXY` and so on, with `NO_PROXY`) is used unless the URL is on this machine
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
    /// Name of a configured source: sends a delivery of its provider, with its first secret. The id is that of the event
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    source: Option<String>,
    /// Kind of the source, if it is configured elsewhere only; its secret is then the one of the built-in source here
    #[arg(long, value_name = "KIND", requires = "source", value_parser = kinds())]
    kind: Option<String>,
    #[command(flatten)]
    sources: SourcesArgs,
    /// Number of messages sent at once, with --file
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..))]
    connections: u8,
    /// Number of retries if the service is unreachable or answers 503; a message is stored once however often it is sent
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    retries: u32,
}

/// The kinds of sources of which nothing but the secret must be known.
fn kinds() -> clap::builder::PossibleValuesParser {
    // The others need more than a secret.
    let needs_more = |(provider, _): &(Provider, &str)| matches!(provider, Provider::Twilio | Provider::Hmac);
    let kinds = Provider::ALL.into_iter().filter(|kind| !needs_more(kind));
    kinds.map(|(_, word)| word).collect::<Vec<_>>().into()
}

pub(super) fn run(options: &Options, environment: Environment) -> Result<ExitCode, Failure> {
    let path = options.source.as_ref().map_or("webhook".to_owned(), |name| format!("webhook/{name}"));
    let target = Target::parse(&webhook_url(&options.url, &path), FORM)?;
    let sender = Sender {
        agent: target.config().timeout_global(Some(TIMEOUT)).build().into(),
        target,
        retries: options.retries,
    };
    if let Some(name) = &options.source {
        return send_delivery(&sender, options, name, environment);
    }
    let key = signing_key(environment)?;
    match &options.file {
        None => send_one(&sender, &key, options),
        Some(path) if path.as_os_str() == "-" => {
            send_lines(&sender, &key, options, std::io::stdin().lock(), None)
        }
        Some(path) => {
            let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
            let (bytes, file) = opened.map_err(|error| format!("cannot read what --file names: {error}"))?;
            send_lines(&sender, &key, options, BufReader::new(file), Some(bytes))
        }
    }
}

fn send_one(sender: &Sender, key: &Key, options: &Options) -> Result<ExitCode, Failure> {
    let now = clock::now();
    let message_id = options.message_id.clone().unwrap_or_else(|| format!("m-{}", now.as_nanosecond()));
    let ts = options.ts.clone().unwrap_or_else(|| format!("{now:.3}"));
    // Without --text the body has no text. The keys stand in the order of the contract.
    let mut body =
        serde_json::json!({ "message_id": message_id, "from": options.from, "to": options.to, "ts": ts });
    if let (Some(text), Some(object)) = (&options.text, body.as_object_mut()) {
        object.insert("text".to_owned(), text.as_str().into());
    }
    let body = body.to_string();
    let reply = sender.send(&signed(key, body.as_bytes()), body.as_bytes())?;
    Ok(report(&reply, &message_id))
}

/// Sends a delivery of a provider.
fn send_delivery(
    sender: &Sender,
    options: &Options,
    name: &str,
    environment: Environment,
) -> Result<ExitCode, Failure> {
    let config = match options.sources.read(environment) {
        Ok(config) => config,
        Err(errors) => return Ok(invalid_settings("read the sources", &errors)),
    };
    let settings = match (sources::find(&config, name), &options.kind) {
        (Ok(settings), Some(kind)) if settings.provider.as_str() != kind => {
            return Err(
                format!("--kind is another one than the configured {}", settings.provider.as_str()).into()
            );
        }
        (Ok(settings), _) => settings.clone(),
        (Err(_), Some(kind)) => match sources::elsewhere(name, kind, environment) {
            Ok(settings) => settings,
            Err(errors) => return Ok(invalid_settings("make up such a source", &errors)),
        },
        (Err(none), None) => return Err(none),
    };
    let now = clock::now();
    let at = options.ts.as_ref().map_or(Ok(now), |ts| ts.parse());
    let at = at.map_err(|_| "--ts should look like 2025-01-15T10:00:00Z")?;
    let id = options.message_id.clone().unwrap_or_else(|| format!("lyftr-{}", now.as_nanosecond()));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if id.is_empty() || id.len() > ID_MAX || !id.bytes().all(is_plain) {
        return Err(
            format!("--message-id of a delivery should be 1 to {ID_MAX} letters, digits, _ and -").into()
        );
    }
    let text = options.text.as_deref().unwrap_or("Hello from lyftr send");
    let sample = Sample { id: &id, from: &options.from, to: &options.to, text, at };
    let Delivery { mut headers, body } = sample.delivery(&settings);
    let target = sender.target.url.path_and_query().map_or("/", |target| target.as_str());
    let request = Request { target, headers: &headers, body: &body };
    let signature = settings.sign(&request, &id, now.as_second());
    let signature = signature.ok_or("no secret of the source can sign, as a public key cannot")?;
    headers.extend(signature);
    Ok(report(&sender.send(&headers, &body)?, &id))
}

fn report(reply: &Reply, id: &str) -> ExitCode {
    print(&format!("{} {}", reply.status, reply.body));
    if !reply.accepted() {
        return ExitCode::FAILURE;
    }
    say(&format!("message_id {id}"));
    ExitCode::SUCCESS
}

/// The headers of a message for the built-in source.
fn signed(key: &Key, body: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Hexadecimal digits fit into a header.
    if let Ok(signature) = HeaderValue::from_str(&key.sign(body)) {
        headers.insert(HeaderName::from_static("x-signature"), signature);
    }
    headers
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
    key: &Key,
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
            scope.spawn(|| send_waiting(sender, key, &lines, &count, &bar));
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

fn send_waiting(sender: &Sender, key: &Key, lines: &Lines, count: &Count, bar: &ProgressBar) {
    loop {
        let next = lines.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, line)) = next else { break };
        let refusal = match sender.send(&signed(key, &line), &line) {
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

fn webhook_url(given: &str, path: &str) -> String {
    let after_scheme = given.split_once("://").map_or(given, |(_, rest)| rest);
    match after_scheme.split_once('/') {
        None => format!("{given}/{path}"),
        Some((_, "")) => format!("{given}{path}"),
        Some(_) => given.to_owned(),
    }
}

struct Sender {
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
    fn send(&self, headers: &HeaderMap, body: &[u8]) -> Result<Reply, Failure> {
        let mut pause = FIRST_PAUSE;
        let mut tries_left = self.retries;
        loop {
            let result = self.try_once(headers, body);
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

    fn try_once(&self, headers: &HeaderMap, body: &[u8]) -> Result<Reply, ureq::Error> {
        let mut request = self.agent.post(&self.target.url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = request.send(body)?;
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
            assert_eq!(webhook_url(given, "webhook"), url);
        }
    }
}
