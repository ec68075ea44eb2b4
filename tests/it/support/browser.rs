//! Chromium, which a test drives as a person would: over WebDriver, with keys, a mouse and eyes.
//!
//! What is not there yet is waited for. At the end of a test the console must be clean: an error in it, a violation of the
//! Content-Security-Policy included, fails the test unless [`Browser::allow`] was told of it. A test that fails leaves a
//! picture in `target/tmp`.

use std::cell::RefCell;
use std::path::Path;

use base64ct::{Base64, Encoding as _};
use serde_json::{Value, json};

use super::{eventually, shout};

mod driver;

use driver::Driver;
pub(crate) use driver::{Refusal, TIME_ZONE};

/// Keys without a character, as WebDriver numbers them.
pub(crate) mod key {
    pub(crate) const BACKSPACE: &str = "\u{e003}";
    pub(crate) const TAB: &str = "\u{e004}";
    pub(crate) const ENTER: &str = "\u{e007}";
    pub(crate) const SHIFT: &str = "\u{e008}";
    pub(crate) const CONTROL: &str = "\u{e009}";
    pub(crate) const ESCAPE: &str = "\u{e00c}";
    pub(crate) const DOWN: &str = "\u{e015}";
    pub(crate) const UP: &str = "\u{e013}";
}

/// The name under which WebDriver hands out elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// One browser with one tab, which knows nothing of any other test.
#[derive(Debug)]
pub(crate) struct Browser {
    driver: Driver,
    /// What the console has said that a test must answer for.
    errors: RefCell<Vec<String>>,
    allowed: RefCell<Vec<&'static str>>,
}

impl Browser {
    /// Starts one, with a view of 1280 × 800 in light colours. `None`, said loudly, where Chromium is missing.
    #[track_caller]
    pub(crate) fn start() -> Option<Self> {
        let browser =
            Self { driver: Driver::start()?, errors: RefCell::default(), allowed: RefCell::default() };
        browser.resize(1280, 800);
        browser.prefer("light");
        Some(browser)
    }

    /// From now on errors in the console that hold some of these words are what the test wants.
    pub(crate) fn allow(&self, words: impl IntoIterator<Item = &'static str>) {
        self.allowed.borrow_mut().extend(words);
    }

    /// What the console has said so far that a test must answer for.
    pub(crate) fn errors(&self) -> Vec<String> {
        if let Ok(Value::Array(entries)) = self.driver.post("/se/log", &json!({"type": "browser"})) {
            let counts = |entry: &&Value| matches!(entry["level"].as_str(), Some("SEVERE" | "WARNING"));
            let errors = entries
                .iter()
                .filter(counts)
                .map(|entry| format!("{}: {}", entry["source"], entry["message"]));
            self.errors.borrow_mut().extend(errors);
        }
        let allowed = self.allowed.borrow();
        let is_allowed = |error: &String| allowed.iter().any(|words| error.contains(words));
        self.errors.borrow().iter().filter(|error| !is_allowed(error)).cloned().collect()
    }
}

/// Where the browser is.
impl Browser {
    /// Follows a URL and waits until the document is loaded.
    #[track_caller]
    pub(crate) fn go(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    #[track_caller]
    pub(crate) fn url(&self) -> String {
        let url = self.driver.get("/url").unwrap_or_else(|error| panic!("{error}"));
        url.as_str().expect("a URL").to_owned()
    }

    #[track_caller]
    pub(crate) fn back(&self) {
        self.post("/back", &json!({}));
    }

    #[track_caller]
    pub(crate) fn forward(&self) {
        self.post("/forward", &json!({}));
    }

    #[track_caller]
    pub(crate) fn reload(&self) {
        self.post("/refresh", &json!({}));
    }

    /// Does something while this tab is behind another one, where nobody sees it.
    #[track_caller]
    pub(crate) fn in_another_tab(&self, work: impl FnOnce()) {
        let this = self.driver.get("/window").unwrap_or_else(|error| panic!("{error}"));
        let other = self.post("/window/new", &json!({"type": "tab"}));
        self.post("/window", &json!({"handle": other["handle"]}));
        work();
        self.driver.delete("/window").unwrap_or_else(|error| panic!("{error}"));
        self.post("/window", &json!({"handle": this}));
    }

    /// The cookies of this page, as WebDriver tells them.
    #[track_caller]
    pub(crate) fn cookies(&self) -> Vec<Value> {
        let cookies = self.driver.get("/cookie").unwrap_or_else(|error| panic!("{error}"));
        cookies.as_array().expect("cookies").clone()
    }

    /// Sets the size of the view, in CSS pixels.
    #[track_caller]
    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Has the reader prefer `light` or `dark`.
    #[track_caller]
    pub(crate) fn prefer(&self, scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// A command of Chromium's own protocol.
    #[track_caller]
    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// A picture of the view, as PNG.
    #[track_caller]
    pub(crate) fn picture(&self) -> Vec<u8> {
        self.try_picture().unwrap_or_else(|error| panic!("{error}"))
    }

    fn try_picture(&self) -> Result<Vec<u8>, Refusal> {
        let picture = self.driver.get("/screenshot")?;
        Ok(Base64::decode_vec(picture.as_str().expect("a picture")).expect("Base64"))
    }
}

/// What is on the page.
impl Browser {
    /// Runs the body of a function in the page, which may return something, also by a promise.
    #[track_caller]
    pub(crate) fn run(&self, script: &str, arguments: &[Value]) -> Value {
        self.try_run(script, arguments).unwrap_or_else(|error| panic!("{error}: {script}"))
    }

    fn try_run(&self, script: &str, arguments: &[Value]) -> Result<Value, Refusal> {
        self.driver.post("/execute/sync", &json!({"script": script, "args": arguments}))
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub(crate) fn value(&self, expression: &str) -> Value {
        self.run(&format!("return {expression}"), &[])
    }

    /// Waits until an expression in the page is true. What it says meanwhile is told if it never is.
    #[track_caller]
    pub(crate) fn until(&self, expression: &str) {
        let script = format!("return {expression}");
        eventually(expression, || match self.try_run(&script, &[]) {
            Ok(Value::Bool(true)) => Ok(()),
            Ok(value) => Err(value.to_string()),
            Err(error) => Err(error.to_string()),
        });
    }

    /// Waits until what an expression in the page says is this.
    #[track_caller]
    pub(crate) fn until_equal(&self, expression: &str, expected: impl Into<Value>) {
        let (script, expected) = (format!("return {expression}"), expected.into());
        eventually(&format!("{expression} is {expected}"), || match self.try_run(&script, &[]) {
            Ok(value) if value == expected => Ok(()),
            Ok(value) => Err(value.to_string()),
            Err(error) => Err(error.to_string()),
        });
    }

    /// Waits until an element's visible text has these words in it.
    #[track_caller]
    pub(crate) fn until_says(&self, css: &str, words: &str) {
        eventually(&format!("{css} says {words:?}"), || match self.try_text(css) {
            Ok(text) if text.contains(words) => Ok(()),
            Ok(text) => Err(format!("it says {text:?}")),
            Err(error) => Err(error.to_string()),
        });
    }

    /// Waits until a person can see such an element.
    #[track_caller]
    pub(crate) fn until_visible(&self, css: &str) {
        eventually(&format!("{css} is visible"), || self.is_visible(css).then_some(()));
    }

    /// Waits until a person can see no such element.
    #[track_caller]
    pub(crate) fn until_hidden(&self, css: &str) {
        eventually(&format!("{css} is hidden"), || (!self.is_visible(css)).then_some(()));
    }

    /// Whether a person can see such an element now.
    #[track_caller]
    pub(crate) fn is_visible(&self, css: &str) -> bool {
        let script = "const found = document.querySelector(arguments[0]); \
                      return found !== null && found.checkVisibility({visibilityProperty: true, opacityProperty: true})";
        // In between two documents there is none.
        self.try_run(script, &[css.into()]).is_ok_and(|visible| visible == true)
    }

    /// How many such elements are in the document.
    #[track_caller]
    pub(crate) fn count(&self, css: &str) -> u64 {
        let count = self.run("return document.querySelectorAll(arguments[0]).length", &[css.into()]);
        count.as_u64().expect("a count")
    }

    /// An element's text as it is to be seen, once it is there.
    #[track_caller]
    pub(crate) fn text(&self, css: &str) -> String {
        eventually(&format!("the text of {css}"), || self.try_text(css))
    }

    fn try_text(&self, css: &str) -> Result<String, Refusal> {
        let text = self.driver.get(&format!("/element/{}/text", self.find(css)?))?;
        Ok(text.as_str().expect("a text").to_owned())
    }

    /// An element's text as it is in the document, once it is there.
    #[track_caller]
    pub(crate) fn content(&self, css: &str) -> String {
        let script = "return document.querySelector(arguments[0]).textContent";
        let content = eventually(&format!("the content of {css}"), || self.try_run(script, &[css.into()]));
        content.as_str().expect("a text").to_owned()
    }

    /// The texts of all such elements as they are in the document, in order.
    #[track_caller]
    pub(crate) fn contents(&self, css: &str) -> Vec<String> {
        let script = "return Array.from(document.querySelectorAll(arguments[0]), each => each.textContent)";
        serde_json::from_value(self.run(script, &[css.into()])).expect("texts")
    }

    /// An attribute of all such elements, in order.
    #[track_caller]
    pub(crate) fn attributes(&self, css: &str, name: &str) -> Vec<String> {
        let script = "return Array.from(document.querySelectorAll(arguments[0]), each => each.getAttribute(arguments[1]))";
        serde_json::from_value(self.run(script, &[css.into(), name.into()])).expect("attributes")
    }

    fn find(&self, css: &str) -> Result<String, Refusal> {
        let element = self.driver.post("/element", &json!({"using": "css selector", "value": css}))?;
        Ok(element[ELEMENT].as_str().expect("an element").to_owned())
    }
}

/// The hands.
impl Browser {
    /// Clicks on an element, once it is there and nothing covers it.
    #[track_caller]
    pub(crate) fn click(&self, css: &str) {
        eventually(&format!("a click on {css}"), || {
            self.driver.post(&format!("/element/{}/click", self.find(css)?), &json!({}))
        });
    }

    /// Types into an input in the place of what is there, as a person does.
    #[track_caller]
    pub(crate) fn fill(&self, css: &str, text: &str) {
        self.click(css);
        self.chord(&[key::CONTROL, "a"]);
        self.keys(if text.is_empty() { key::BACKSPACE } else { text });
    }

    /// Chooses an option of a `<select>` by its value.
    #[track_caller]
    pub(crate) fn choose(&self, css: &str, value: &str) {
        self.click(&format!("{css} option[value='{value}']"));
    }

    /// Types these characters and keys, one after the other, wherever the focus is.
    #[track_caller]
    pub(crate) fn keys(&self, keys: &str) {
        let strokes =
            keys.chars().flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})));
        self.act(&json!({"type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>()}));
    }

    /// Presses these keys together.
    #[track_caller]
    pub(crate) fn chord(&self, keys: &[&str]) {
        let stroke = |kind: &'static str| move |key: &&str| json!({"type": kind, "value": key});
        let strokes = keys.iter().map(stroke("keyDown")).chain(keys.iter().rev().map(stroke("keyUp")));
        self.act(&json!({"type": "key", "id": "keyboard", "actions": strokes.collect::<Vec<_>>()}));
    }

    /// Presses the mouse in the middle of one element and lets it go in the middle of another one.
    #[track_caller]
    pub(crate) fn drag(&self, from: &str, to: &str) {
        let moved = |css: &str| {
            let element = eventually(css, || self.find(css));
            json!({"type": "pointerMove", "duration": 20, "x": 0, "y": 0, "origin": {ELEMENT: element}})
        };
        let button = |kind: &str| json!({"type": kind, "button": 0});
        let actions = [moved(from), button("pointerDown"), moved(to), button("pointerUp")];
        self.act(&json!({"type": "pointer", "id": "mouse", "actions": actions}));
    }

    #[track_caller]
    fn act(&self, source: &Value) {
        self.post("/actions", &json!({"actions": [source]}));
    }

    #[track_caller]
    fn post(&self, command: &str, parameters: &Value) -> Value {
        self.driver.post(command, parameters).unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let errors = self.errors();
        if std::thread::panicking() {
            self.leave_picture();
            eprintln!("the console: {errors:?}");
        } else {
            assert!(errors.is_empty(), "the console has errors: {errors:#?}");
        }
    }
}

impl Browser {
    /// Leaves a picture of the page on which a test failed.
    fn leave_picture(&self) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a test").replace("::", ".");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
        if let Ok(picture) = self.try_picture()
            && std::fs::write(&path, picture).is_ok()
        {
            let url = self.driver.get("/url").unwrap_or_default();
            eprintln!("the page was {url}, and looked so: {}", path.display());
        }
    }
}
