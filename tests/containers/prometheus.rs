//! Prometheus, in both major versions that people run: promtool, and a server that is asked. Version 3 writes some labels
//! in another way than version 2, and is stricter about what it reads.

use std::fmt;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::Once;

use serde_json::Value;

use crate::engine::{docker, text};
use crate::support::eventually;

/// What is mounted where Prometheus looks for its configuration.
pub(crate) const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// The one that deploy/prometheus.yml starts.
    Two,
    Three,
}

impl Version {
    pub(crate) const ALL: [Self; 2] = [Self::Two, Self::Three];

    /// Its image, built if it has to be.
    pub(crate) fn image(self) -> &'static str {
        const THREE: &str = "lyftr-test-prometheus:3";
        static BUILT: Once = Once::new();
        match self {
            Self::Two => "prom/prometheus:v2.53.3",
            Self::Three => {
                let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/containers/prometheus-3.Dockerfile");
                let folder = tempfile::tempdir().unwrap();
                let context = folder.path().display().to_string();
                BUILT.call_once(|| {
                    drop(docker(&["build", "--quiet", "--tag", THREE, "--file", file, &context]));
                });
                THREE
            }
        }
    }

    /// Runs promtool in the folder of the configuration, with this as its standard input.
    pub(crate) fn promtool(self, options: &[&str], arguments: &[&str], input: &str) -> Output {
        let volume = format!("{FOLDER}:/etc/prometheus:ro");
        let mut child = Command::new("docker")
            .args(["run", "--rm", "--interactive", "--network=none", "--workdir=/etc/prometheus"])
            .args(["--volume", &volume, "--entrypoint=promtool"])
            .args(options)
            .arg(self.image())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker");
        // It need not read what it is given.
        drop(child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output().unwrap()
    }

    /// The same, where anything but success fails the test.
    #[track_caller]
    pub(crate) fn promtool_succeeds(self, options: &[&str], arguments: &[&str]) {
        let output = self.promtool(options, arguments, "");
        assert!(output.status.success(), "{self:?}: {}", text(&output));
    }
}

/// A server that may be starting yet.
#[derive(Debug)]
pub(crate) struct Prometheus {
    url: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Unanswered(String);

impl fmt::Display for Unanswered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Prometheus {
    /// The one at, say, `http://127.0.0.1:9090`.
    pub(crate) fn at(url: String) -> Self {
        Self { url }
    }

    /// What its API answers.
    pub(crate) fn ask(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Unanswered> {
        let unanswered = |why: String| Unanswered(format!("{path} {query:?}: {why}"));
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
        let request = agent.get(format!("{}/api/v1/{path}", self.url)).query_pairs(query.iter().copied());
        let text = request.call().and_then(|mut answer| answer.body_mut().read_to_string());
        let text = text.map_err(|error| unanswered(error.to_string()))?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| unanswered(error.to_string()))?;
        if answer["status"] == "success" { Ok(answer["data"].clone()) } else { Err(unanswered(text)) }
    }

    /// What it answers to this: the values, each with the instance it is of, if it is of one.
    pub(crate) fn samples(&self, query: &str) -> Result<Vec<(String, f64)>, Unanswered> {
        let data = self.ask("query", &[("query", query)])?;
        let value = |sample: &Value| sample["value"][1].as_str().unwrap().parse().unwrap();
        let instance = |sample: &Value| sample["metric"]["instance"].as_str().unwrap_or_default().to_owned();
        let found = data["result"].as_array().unwrap();
        Ok(found.iter().map(|sample| (instance(sample), value(sample))).collect())
    }

    /// Waits until the samples are as they should be.
    #[track_caller]
    pub(crate) fn await_samples(&self, query: &str, are_right: impl Fn(&[(String, f64)]) -> bool) {
        eventually(query, || {
            let samples = self.samples(query)?;
            if are_right(&samples) { Ok(()) } else { Err(Unanswered(format!("{samples:?}"))) }
        });
    }
}
