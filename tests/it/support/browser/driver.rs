//! chromedriver as a child with a folder of its own, and the one session of Chromium that it drives. Dropping it kills both.

use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::Agent;

use crate::support::process::Said;
use crate::support::{DEADLINE, eventually, skip};

/// Browsers at work at once, whatever the number of tests: each takes half a gigabyte and, while it starts, a core.
const BROWSERS_MAX: usize = 2;

/// The time zone of every browser: not UTC, and with half an hour in it, so that neither is taken for granted.
pub(crate) const TIME_ZONE: &str = "Australia/Darwin";

/// Chromium stays on this machine, says nothing of itself, and asks nothing.
const ARGUMENTS: [&str; 19] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--lang=en-US",
    "--no-first-run",
    "--no-pings",
    "--metrics-recording-only",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-lcd-text",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
];

/// What chromedriver answers in the place of a value.
#[derive(Debug)]
pub(crate) struct Refusal(String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A running chromedriver, with its session.
#[derive(Debug)]
pub(super) struct Driver {
    // The last of it to go is the folder, and then the place among the browsers.
    child: Child,
    agent: Agent,
    /// The URL of the session.
    session: String,
    folder: TempDir,
    _place: Place,
}

impl Driver {
    /// Starts both, when there is room for one more browser. `None`, said loudly, where one of the two programs is missing.
    #[track_caller]
    pub(super) fn start() -> Option<Self> {
        let place = Place::take();
        let folder = tempfile::tempdir().unwrap();
        let chromium = find("chromium");
        let Some((chromium, mut child)) = chromium.zip(spawn(&folder)) else {
            skip(
                "chromium or chromedriver is missing: apt-get install chromium chromium-driver, or run scripts/test as root",
            );
            return None;
        };
        let said = Said::default();
        drop(said.collect(child.stdout.take().unwrap()));
        let config =
            Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).proxy(None);
        let session = String::new();
        let mut driver = Self { child, agent: config.build().into(), session, folder, _place: place };
        let port: u16 = eventually("chromedriver listens", || {
            said.text().split_once("successfully on port ")?.1.split_once('.')?.0.parse().ok()
        });
        driver.session = format!("http://127.0.0.1:{port}/session");
        let session = driver.post("", &driver.capabilities(&chromium)).expect("a session of Chromium");
        let id = session["sessionId"].as_str().expect("sessionId");
        driver.session = format!("{}/{id}", driver.session);
        Some(driver)
    }

    fn capabilities(&self, chromium: &str) -> Value {
        let own = [
            format!("--user-data-dir={}", self.folder.path().join("data").display()),
            format!("--crash-dumps-dir={}", self.folder.path().display()),
        ];
        let arguments: Vec<_> = ARGUMENTS.into_iter().chain(own.iter().map(String::as_str)).collect();
        let wanted = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": chromium, "args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
            "unhandledPromptBehavior": "ignore",
        });
        json!({"capabilities": {"alwaysMatch": wanted}})
    }

    /// A command of the session that takes parameters.
    pub(super) fn post(&self, command: &str, parameters: &Value) -> Result<Value, Refusal> {
        let request = self.agent.post(format!("{}{command}", self.session));
        value(request.content_type("application/json").send(parameters.to_string()))
    }

    /// A command of the session that asks for something.
    pub(super) fn get(&self, command: &str) -> Result<Value, Refusal> {
        value(self.agent.get(format!("{}{command}", self.session)).call())
    }

    /// A command of the session that ends something.
    pub(super) fn delete(&self, command: &str) -> Result<Value, Refusal> {
        value(self.agent.delete(format!("{}{command}", self.session)).call())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Chromium ends its own processes if it can. Each is in the group.
        drop(self.delete(""));
        let _gone = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        drop(self.child.wait());
    }
}

/// The value in an answer of chromedriver's.
fn value(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Refusal> {
    let refusal = |error: ureq::Error| Refusal(format!("chromedriver does not answer: {error}"));
    let mut answer = answer.map_err(refusal)?;
    let text = answer.body_mut().with_config().limit(64 << 20).read_to_string().map_err(refusal)?;
    let mut body: Value = serde_json::from_str(&text).map_err(|_| Refusal(format!("no JSON: {text}")))?;
    let value = body["value"].take();
    match (value["error"].as_str(), value["message"].as_str()) {
        (Some(error), Some(message)) if !answer.status().is_success() => {
            Err(Refusal(format!("{error}: {}", message.lines().next().unwrap_or_default())))
        }
        _ => Ok(value),
    }
}

/// Where a program is; Debian has both also in a folder that is not on anybody's path.
#[expect(clippy::disallowed_methods, reason = "what drives the tests is not a setting of the service")]
fn find(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/bin", "/usr/lib/chromium"].map(PathBuf::from));
    let mut places = folders.map(|folder| folder.join(program));
    places.find(|place| place.is_file()).and_then(|place| place.into_os_string().into_string().ok())
}

/// Starts chromedriver on any free port, in a process group of its own; `None` if there is no such program.
fn spawn(folder: &TempDir) -> Option<Child> {
    // The shell ends them all also when the tests are killed: then its input ends.
    let script = "\"$0\" --port=0 & read -r _; kill -KILL 0";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, &find("chromedriver")?])
        .current_dir(folder)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("TZ", TIME_ZONE)
        .env("LANG", "C.UTF-8")
        .envs(["HOME", "TMPDIR"].map(|name| (name, folder.path())))
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    Some(command.spawn().unwrap())
}

/// The right to run a browser, until it is dropped.
#[derive(Debug)]
struct Place;

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

impl Place {
    fn take() -> Self {
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |taken: &mut usize| *taken >= BROWSERS_MAX;
        *GIVEN_BACK.wait_while(taken, is_full).unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        GIVEN_BACK.notify_one();
    }
}
