//! The page, as a person sees it: the binary, and Chromium in front of it.

mod downloads;
mod eyes;
mod filters;
mod first_view;
mod harness;
mod hostile;
mod inbox;
mod keyboard;
mod live;
mod opened;
mod overview;
mod pictures;
mod sign_in;

use std::ops::Deref;

use lyftr::event::{Data, Event, Source};
use lyftr::message::{Name, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::browser::Browser;
use crate::support::client::Client;
use crate::support::process::{Builder, Process};
use crate::support::{lasting_port, open_store, sqlite_url};

/// What the console says of a request that finds no server.
const NO_SERVER: [&str; 3] =
    ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET"];
/// What the console says of a request that is not let in.
const NOT_LET_IN: &str = "401 (Unauthorized)";

/// A Lyftr that holds these events, and a browser.
struct Visit {
    // The browser goes first, and with it its connections.
    browser: Browser,
    server: Option<Process>,
    builder: Builder,
    folder: TempDir,
}

impl Deref for Visit {
    type Target = Browser;

    fn deref(&self) -> &Browser {
        &self.browser
    }
}

impl Visit {
    /// `None`, said loudly, where there is no browser.
    #[track_caller]
    fn start(events: &[Event]) -> Option<Self> {
        Self::start_with(events, &[])
    }

    /// The same with these variables set.
    #[track_caller]
    fn start_with(events: &[Event], environment: &[(&str, &str)]) -> Option<Self> {
        let browser = Browser::start()?;
        let folder = tempfile::tempdir().unwrap();
        // It comes back to the same port.
        let builder = Process::builder().folder(folder.path()).env("PORT", &lasting_port().to_string());
        let builder = environment.iter().fold(builder, |builder, (name, value)| builder.env(name, value));
        let mut visit = Self { browser, server: None, builder, folder };
        visit.store(events);
        visit.come_up();
        Some(visit)
    }

    /// Stores events in the database while nobody serves it.
    #[track_caller]
    fn store(&self, events: &[Event]) {
        let store = open_store(&sqlite_url(&self.folder.path().join("app.db")));
        for batch in events.chunks(500) {
            store.insert(batch).unwrap();
        }
        store.close();
    }

    #[track_caller]
    fn come_up(&mut self) {
        self.server = Some(self.builder.clone().start());
    }

    #[track_caller]
    fn go_down(&mut self) {
        let status = self.server.take().expect("the server runs").terminate();
        assert!(status.success(), "{status:?}");
    }

    #[track_caller]
    fn kill(&mut self) {
        self.server.take().expect("the server runs").kill9();
    }

    #[track_caller]
    fn server(&self) -> &Process {
        self.server.as_ref().expect("the server runs")
    }

    #[track_caller]
    fn client(&self) -> Client {
        self.server().client()
    }

    /// The address of the server, as the browser knows it.
    fn origin(&self) -> String {
        format!("http://{}", self.server().address())
    }

    /// Opens the page as an address has it in front of a `?`, and all.
    #[track_caller]
    fn open(&self, target: &str) {
        self.go(&format!("{}{target}", self.origin()));
    }

    /// The address without the server.
    #[track_caller]
    fn place(&self) -> String {
        let url = self.url();
        url.strip_prefix(&self.origin()).unwrap_or_else(|| panic!("{url}")).to_owned()
    }

    /// Waits until the list has these rows.
    #[track_caller]
    fn until_rows(&self, keys: &[&str]) {
        self.until_equal("Array.from(document.querySelectorAll('#list > li'), row => row.dataset.key)", keys);
    }

    /// Waits until the address is this one, without the server.
    #[track_caller]
    fn until_place(&self, place: &str) {
        self.until_equal("location.pathname + location.search", place);
    }

    /// From now on the page must not be loaded again.
    #[track_caller]
    fn mark(&self) {
        self.run("window.marked = true", &[]);
    }

    #[track_caller]
    fn expect_mark(&self) {
        assert_eq!(self.value("window.marked === true"), true, "the page was loaded again");
    }
}

/// The row of a key in the list.
fn row(key: &str) -> String {
    format!("#list > li[data-key='{key}'] a")
}

/// An event of a source, with these fields.
fn event(source: &str, kind: &str, key: &str, fields: &Value) -> Event {
    let text = |field: &str| fields[field].as_str();
    let name = |field: &str| text(field).map(|name| Name::new(name).unwrap());
    let ts = text("ts").map(|ts| Timestamp::parse(ts).unwrap());
    let kind = kind.parse().unwrap();
    let bare = Event::bare(Source::new(source).unwrap(), Name::new(key).unwrap(), kind);
    Event {
        r#type: name("type"),
        from: name("from"),
        to: name("to"),
        user_id: name("user_id"),
        thread: name("thread"),
        r#ref: name("ref"),
        account: name("account"),
        ts,
        received_at: text("received_at").map(|at| Timestamp::parse(at).unwrap()).or(ts),
        text: text("text").map(Into::into),
        data: text("data").map(Data::from_json),
        ..bare
    }
}
