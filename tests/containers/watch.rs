//! What Prometheus and Grafana are given, held by Prometheus itself: the rules and their tests, the configuration, the
//! page of metrics, and every query of the dashboard.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::engine::{Thing, text};
use crate::support::service::Service;
use crate::support::{eventually, message, on_sqlite};

const IMAGE: &str = "prom/prometheus:v2.53.3";
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus");
const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
const ALERTS_TEST: &str = include_str!("../../deploy/prometheus/alerts_test.yml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/lyftr.json");

/// Runs promtool in the folder of the configuration, with this as its standard input.
fn promtool(options: &[&str], arguments: &[&str], input: &str) -> Output {
    let volume = format!("{FOLDER}:/etc/prometheus:ro");
    let mut child = Command::new("docker")
        .args(["run", "--rm", "--interactive", "--network=none", "--workdir=/etc/prometheus"])
        .args(["--volume", &volume, "--entrypoint=promtool"])
        .args(options)
        .arg(IMAGE)
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

#[track_caller]
fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}", text(output));
}

#[test]
fn the_rules_are_right_and_fire_when_they_should() {
    assert_success(&promtool(&[], &["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"], ""));
    assert_success(&promtool(&[], &["test", "rules", "alerts_test.yml"], ""));
}

#[test]
fn the_configuration_is_right() {
    // The token must be there; what it says does not matter.
    let token = format!("{FOLDER}/prometheus.yml:/run/secrets/read_token:ro");
    assert_success(&promtool(&["--volume", &token], &["check", "config", "prometheus.yml"], ""));
}

/// What stands behind `key` in each line that begins with it.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(key)).map(str::trim).collect()
}

#[test]
fn every_alert_has_a_case_that_fires_it_and_one_that_does_not() {
    let alerts = values(ALERTS, "- alert:");
    assert_eq!(alerts.iter().collect::<BTreeSet<_>>().len(), alerts.len(), "a name twice: {alerts:?}");
    let (mut fired, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for case in ALERTS_TEST.split("- eval_time:").skip(1) {
        let alert = values(case, "alertname:")[0];
        let set = if values(case, "exp_alerts:")[0] == "[]" { &mut silent } else { &mut fired };
        set.insert(alert);
    }
    let alerts: BTreeSet<_> = alerts.into_iter().collect();
    assert_eq!(fired, alerts, "those that a case fires, and those that there are");
    assert_eq!(silent, alerts, "those that a case does not fire, and those that there are");
}

/// The page of metrics of a service that has had traffic.
fn metrics_text() -> String {
    let service = Service::start();
    let mut client = service.client();
    client.store(&message("m1"));
    client.store(&message("m1"));
    assert_eq!(client.post(b"{}", &[&"0".repeat(64)]).status, 401);
    for path in ["/messages", "/stats", "/health/live", "/health/ready", "/nowhere"] {
        client.get(path);
    }
    client.metrics()
}

#[test]
fn promtool_finds_nothing_in_the_metrics_but_the_name_that_the_contract_gives() {
    let output = promtool(&[], &["check", "metrics"], &metrics_text());
    assert_eq!(text(&output), "request_latency_ms metric names should not contain abbreviated units\n");
}

/// The dashboard's panels, without the rows above them.
fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    panels.filter(|panel| panel["type"] != "row").cloned().collect()
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    let (mut titles, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels() {
        let title = panel["title"].as_str().unwrap().to_owned();
        for text in [&panel["title"], &panel["description"], &panel["fieldConfig"]["defaults"]["unit"]] {
            assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{title}");
        }
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{title}");
        for part in panel["targets"].as_array().unwrap().iter().chain([&panel]) {
            assert_eq!(part["datasource"]["uid"], "${datasource}", "{title}");
        }
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        assert!(titles.insert(title.clone()), "{title} twice");
    }
    assert!(titles.len() > 10);
}

/// Every query of every panel, as Grafana would send it.
pub(crate) fn queries_of_dashboard() -> Vec<String> {
    let panels = panels();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$instance", ".*").replace("$__rate_interval", "1m");
            assert!(!query.contains('$'), "a variable that is not known: {query}");
            query
        })
        .collect()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().proxy(None).build().into()
}

/// What the API of Prometheus answers.
#[track_caller]
fn ask(prometheus: &str, path: &str, query: &[(&str, &str)]) -> Value {
    let request = agent().get(format!("{prometheus}/api/v1/{path}")).query_pairs(query.iter().copied());
    let text = request.call().and_then(|mut answer| answer.body_mut().read_to_string());
    let answer: Value = serde_json::from_str(&text.unwrap_or_else(|why| panic!("{query:?}: {why}"))).unwrap();
    assert_eq!(answer["status"], "success", "{query:?}");
    answer["data"].clone()
}

/// What Prometheus answers to this: the values, each with the instance it is of, if it is of one.
#[track_caller]
pub(crate) fn samples(prometheus: &str, query: &str) -> Vec<(String, f64)> {
    let data = ask(prometheus, "query", &[("query", query)]);
    let value = |sample: &Value| sample["value"][1].as_str().unwrap().parse().unwrap();
    let instance = |sample: &Value| sample["metric"]["instance"].as_str().unwrap_or_default().to_owned();
    let found = data["result"].as_array().unwrap();
    found.iter().map(|sample| (instance(sample), value(sample))).collect()
}

/// Whether Prometheus has an answer to this.
#[track_caller]
fn answers(prometheus: &str, query: &str) -> bool {
    !samples(prometheus, query).is_empty()
}

/// Every query of the dashboard has an answer of this Prometheus at, say, `http://127.0.0.1:9090`, soon: a rate needs two
/// scrapes. Those about the disk have one only if some store is on one, and not on a server.
#[track_caller]
pub(crate) fn assert_every_query_answers(prometheus: &str) {
    eventually("two scrapes", || answers(prometheus, "rate(http_requests_total[1m])").then_some(()));
    let on_disk = answers(prometheus, "store_bytes");
    for query in queries_of_dashboard() {
        let of_disk = ["store_bytes", "store_disk_free_bytes"].iter().any(|name| query.contains(name));
        assert_eq!(answers(prometheus, &query), on_disk || !of_disk, "{query}");
    }
}

/// Our rules and every second a look at the service.
fn configuration(service: SocketAddr) -> String {
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
         rule_files: [/rules/alerts.yml]\n\
         scrape_configs: [{{job_name: lyftr, static_configs: [{{targets: ['{service}']}}]}}]\n"
    )
}

#[test]
fn prometheus_answers_every_query_and_evaluates_every_rule_of_a_service_that_does_nothing() {
    let service = Service::start();
    let folder = tempfile::tempdir().unwrap();
    // For the user that Prometheus runs as.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(folder.path().join("prometheus.yml"), configuration(service.address())).unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (ours, rules) =
        (format!("{}:/etc/prometheus:ro", folder.path().display()), format!("{FOLDER}:/rules:ro"));
    let listen = format!("--web.listen-address={address}");
    let _running = Thing::container(
        IMAGE,
        &["--network=host", "--volume", &ours, "--volume", &rules],
        &["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus", &listen],
    );
    let prometheus = format!("http://{address}");
    eventually("Prometheus is ready", || agent().get(format!("{prometheus}/-/ready")).call().ok());
    assert_every_query_answers(&prometheus);
    assert_eq!(answers(&prometheus, "store_bytes"), on_sqlite());
    eventually("every rule was evaluated", || {
        let data = ask(&prometheus, "rules", &[]);
        let rules = data["groups"][0]["rules"].as_array().unwrap();
        assert_eq!(rules.len(), values(ALERTS, "- alert:").len());
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });
}
