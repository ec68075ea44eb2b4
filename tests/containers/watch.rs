//! What Prometheus and Grafana are given, held by Prometheus itself: the rules and their tests, the configuration, the
//! page of metrics, and every query of the dashboard.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::engine::{Thing, text};
use crate::prometheus::{FOLDER, Prometheus, Version};
use crate::support::service::Service;
use crate::support::{eventually, lasting_port, message, on_sqlite};

const ALERTS: &str = include_str!("../../deploy/prometheus/alerts.yml");
/// The cases of the alerts, each file with its name.
const CASES: [(&str, &str); 2] = [
    ("alerts_test.yml", include_str!("../../deploy/prometheus/alerts_test.yml")),
    ("alerts_of_days_test.yml", include_str!("../../deploy/prometheus/alerts_of_days_test.yml")),
];
const DASHBOARD: &str = include_str!("../../deploy/grafana/lyftr.json");

/// The same cases with their buckets as Prometheus 3 keeps them: `le="500.0"` in the place of `le="500"`.
fn normalised(cases: &str) -> String {
    let mut parts = cases.split("le=\"");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| {
        let (bound, rest) = part.split_once('"').unwrap();
        let fraction = if bound.bytes().all(|byte| byte.is_ascii_digit()) { ".0" } else { "" };
        format!("{text}le=\"{bound}{fraction}\"{rest}")
    })
}

#[test]
fn the_rules_are_right_and_fire_when_they_should() {
    let folder = world_readable_folder();
    std::fs::write(folder.path().join("alerts.yml"), ALERTS).unwrap();
    for (name, cases) in CASES {
        std::fs::write(folder.path().join(name), normalised(cases)).unwrap();
    }
    let volume = format!("{}:/normalised:ro", folder.path().display());
    let files = CASES.iter().flat_map(|(name, _)| [(*name).to_owned(), format!("/normalised/{name}")]);
    let files: Vec<String> = files.collect();
    let test: Vec<&str> = ["test", "rules"].into_iter().chain(files.iter().map(String::as_str)).collect();
    for version in Version::ALL {
        version.promtool_succeeds(&[], &["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"]);
        version.promtool_succeeds(&["--volume", &volume], &test);
    }
}

#[test]
fn the_configuration_is_right() {
    // The token must be there; what it says does not matter.
    let token = format!("{FOLDER}/prometheus.yml:/run/secrets/read_token:ro");
    for version in Version::ALL {
        version.promtool_succeeds(&["--volume", &token], &["check", "config", "prometheus.yml"]);
    }
}

/// For the user that Prometheus runs as.
fn world_readable_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    folder
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
    for case in CASES.iter().flat_map(|(_, cases)| cases.split("- eval_time:").skip(1)) {
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
    let metrics = metrics_text();
    for version in Version::ALL {
        let output = version.promtool(&[], &["check", "metrics"], &metrics);
        assert_eq!(
            text(&output),
            "request_latency_ms metric names should not contain abbreviated units\n",
            "{version:?}"
        );
    }
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

/// The metrics that only configured sources have.
const OF_SOURCES: [&str; 4] = [
    "webhook_events_total",
    "webhook_refused_total",
    "webhook_malformed_events_total",
    "webhook_repeated_bodies_total",
];

/// Every query of the dashboard has an answer of this Prometheus, soon: a rate needs two scrapes. Those about the disk
/// have one only if some store is on one, and not on a server.
#[track_caller]
pub(crate) fn assert_every_query_answers(prometheus: &Prometheus) {
    prometheus.await_samples("rate(http_requests_total[1m])", |samples| !samples.is_empty());
    let some_disk = !prometheus.samples("store_bytes").unwrap().is_empty();
    for query in queries_of_dashboard() {
        let of_disk = ["store_bytes", "store_disk_free_bytes"].iter().any(|name| query.contains(name));
        // Nobody has made a cursor or configured a source.
        let of_nothing = ["event_cursor_lag"].iter().chain(&OF_SOURCES).any(|name| query.contains(name));
        let is_empty = of_nothing || of_disk && !some_disk;
        prometheus.await_samples(&query, |samples| samples.is_empty() == is_empty);
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

fn answers_every_query_and_evaluates_every_rule(version: Version, number: &str) {
    let service = Service::start();
    let folder = world_readable_folder();
    std::fs::write(folder.path().join("prometheus.yml"), configuration(service.address())).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], lasting_port()));
    let (ours, rules) =
        (format!("{}:/etc/prometheus:ro", folder.path().display()), format!("{FOLDER}:/rules:ro"));
    let listen = format!("--web.listen-address={address}");
    let _running = Thing::container(
        version.image(),
        &["--network=host", "--volume", &ours, "--volume", &rules],
        &["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus", &listen],
    );
    let prometheus = Prometheus::at(format!("http://{address}"));
    let build = eventually("Prometheus answers", || prometheus.ask("status/buildinfo", &[]));
    assert!(build["version"].as_str().unwrap().starts_with(number), "{build}");
    assert_every_query_answers(&prometheus);
    assert_eq!(!prometheus.samples("store_bytes").unwrap().is_empty(), on_sqlite());
    eventually("every rule was evaluated", || {
        let data = prometheus.ask("rules", &[]).ok()?;
        let rules = data["groups"][0]["rules"].as_array()?;
        assert_eq!(rules.len(), values(ALERTS, "- alert:").len());
        rules.iter().all(|rule| rule["health"] == "ok").then_some(())
    });
}

#[test]
fn prometheus_2_answers_every_query_and_evaluates_every_rule_of_a_service_that_does_nothing() {
    answers_every_query_and_evaluates_every_rule(Version::Two, "2.");
}

#[test]
fn prometheus_3_answers_every_query_and_evaluates_every_rule_of_a_service_that_does_nothing() {
    answers_every_query_and_evaluates_every_rule(Version::Three, "3.");
}
